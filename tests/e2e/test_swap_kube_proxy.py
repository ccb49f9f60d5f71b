"""A node is taken over from kube-proxy, and given back, under load: the real kube-proxy, in nftables mode."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from blixt_lab import cluster, wait_for
from blixt_lab.stream import compiled, start_echoes
from blixt_lab.swapping import Swapped, record
from blixt_real.kube_proxy import KubeProxy

pytestmark = pytest.mark.lab

PLANES = ("ebpf", "nftables")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("stream"))


@pytest.fixture
def swapped(program: Path) -> Iterator[Swapped]:
    with cluster(nodes=2, pods=2, clients=1) as built:
        start_echoes(built.lab, program, built.pods)
        yield Swapped(built, program)


@pytest.mark.parametrize("plane", PLANES)
def test_a_node_is_taken_over(swapped: Swapped, plane: str) -> None:
    kube_proxy = KubeProxy(swapped, swapped.manifests(swapped.built.pods))
    kube_proxy.start()
    swapped.prepare(plane)
    with swapped.streaming() as streaming:
        time.sleep(2)
        assert kube_proxy.passed() > 500
        swapped.swap(plane)
        swapped.wait_for_log("applied all")
        at_swap = kube_proxy.passed()
        time.sleep(2)
        kube_proxy.stop()
        assert kube_proxy.passed() == at_swap, "nothing new is kube-proxy's"
        if plane == "ebpf":
            swapped.wait_for_log("another proxy takes no new flows")
        kube_proxy.clean_up()  # its connections go on
        time.sleep(2)
        assert swapped.taken(plane) > 500
        outcome = streaming.stop()
    record(f"kube-proxy to {plane}", outcome)
    assert (outcome.lost, outcome.failed) == (0, 0), outcome
    assert outcome.held >= 200
    assert outcome.unanswered <= outcome.sent / 1000, outcome


@pytest.mark.parametrize("plane", PLANES)
def test_a_node_is_given_back(swapped: Swapped, plane: str) -> None:
    swapped.start(plane)
    kube_proxy = KubeProxy(swapped, swapped.manifests(swapped.built.pods))
    with swapped.streaming() as streaming:
        kube_proxy.start()
        time.sleep(1)
        assert kube_proxy.passed() == 0, "ours comes first"
        swapped.swap(plane, "--drain")
        swapped.wait_for_log(f"plane {plane} takes no new flows")
        taken = swapped.taken("ebpf") if plane == "ebpf" else 0
        wait_for(lambda: kube_proxy.passed() > 2000, "kube-proxy to serve")
        assert plane == "nftables" or swapped.taken("ebpf") == taken
        outcome = streaming.stop()
    record(f"{plane} to kube-proxy", outcome)
    assert (outcome.lost, outcome.failed) == (0, 0), outcome
    assert outcome.held >= 200
    assert outcome.unanswered <= outcome.sent / 1000, outcome
