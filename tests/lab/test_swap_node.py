"""What the node's own programs, and pods' sockets, have of a swap of planes: nothing is lost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from blixt_lab import cluster, wait_for
from blixt_lab.load import Background, hammering, holding, start_servers
from blixt_lab.swapping import CLUSTER, Swapped
from blixt_lab.traffic import Held, Target

pytestmark = [pytest.mark.lab]

PAIRS = [("ebpf", "nftables"), ("nftables", "ebpf")]
TCP = [Target("tcp", address, 80) for address in CLUSTER]
UDP = [Target("udp", address, 53) for address in CLUSTER]


@pytest.fixture(params=[False, True], ids=["by-packets", "by-sockets"])
def swapped(request: pytest.FixtureRequest) -> Iterator[Swapped]:
    """Plane ebpf chooses endpoints for packets, or at the sockets of the node and its pods."""
    with cluster(nodes=2, pods=2, clients=1, cgroups=request.param) as built:
        start_servers(built.lab, built.pods)
        yield Swapped(built, Path(), *(("--socket-lb", "on") if request.param else ()))


@pytest.mark.parametrize(("before", "after"), PAIRS, ids=lambda plane: str(plane))
def test_nothing_is_lost(swapped: Swapped, before: str, after: str) -> None:
    swapped.start(before)
    with contextlib.ExitStack() as stack:
        held: list[Background[Held]] = []
        hammered = []
        for host in (swapped.node, swapped.built.pods[0]):
            held += [stack.enter_context(holding(host, target, 4, 0.1)) for target in (*TCP, *UDP)]
            hammered += [stack.enter_context(hammering(host, target, 15)) for target in (*TCP, *UDP)]
        swapped.swap(after)
        swapped.wait_for_log(f"plane {before} takes no new flows")
        exchanges = [each.result.exchanges for each in held]
        tried = [each.result.tried for each in hammered]
        wait_for(
            lambda: (
                all(each.result.exchanges > was + 100 for each, was in zip(held, exchanges, strict=True))
                and all(each.result.tried > was + 40 for each, was in zip(hammered, tried, strict=True))
            ),
            "traffic to go on",
        )
    assert [loss for each in held for loss in each.result.lost] == []
    assert [dict(each.result.missed) for each in held if each.result.missed] == []
    assert [failure for each in hammered for failure in each.result.failures] == []
