"""Planes are swapped on a node under load: the new one takes what begins, the old one keeps what it has."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from blixt_lab import cluster, wait_for
from blixt_lab.load import Background, holding, start_servers
from blixt_lab.stream import compiled, start_echoes
from blixt_lab.swapping import OUTSIDE, Swapped, record
from blixt_lab.traffic import Held, Target

pytestmark = [pytest.mark.lab]

PLANES = ("ebpf", "nftables")
TCP = [Target("tcp", address, 80) for address in OUTSIDE]
UDP = [Target("udp", address, 53) for address in OUTSIDE]
PAIRS = [(before, after) for before in PLANES for after in PLANES if before != after]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("stream"))


@pytest.fixture
def swapped(program: Path) -> Iterator[Swapped]:
    """No backend runs yet on node1, whose plane is swapped; clients' packets come to it."""
    with cluster(nodes=2, pods=2, clients=1) as built:
        start_echoes(built.lab, program, built.pods)
        yield Swapped(built, program)


@pytest.mark.parametrize(("before", "after"), PAIRS, ids=lambda plane: str(plane))
def test_nothing_is_lost(swapped: Swapped, before: str, after: str) -> None:
    swapped.start(before)
    with swapped.streaming() as streaming:
        time.sleep(2)
        taken = swapped.taken(before)
        swapped.swap(after)
        swapped.wait_for_log(f"plane {before} takes no new flows")
        at_swap = swapped.taken(before)
        time.sleep(4)
        assert swapped.taken(before) == at_swap > taken, "the old plane takes nothing new"
        assert swapped.taken(after) > 500, "the new one does"
        outcome = streaming.stop()
    record(f"{before} to {after}", outcome)
    assert (outcome.lost, outcome.failed) == (0, 0), outcome
    assert outcome.held >= 200
    assert outcome.unanswered <= outcome.sent / 1000, outcome


@pytest.fixture
def quiet(program: Path) -> Iterator[Swapped]:
    """The same, for tests of few connections."""
    with cluster(nodes=2, pods=2, clients=1) as built:
        start_servers(built.lab, built.pods)
        yield Swapped(built, program)


@pytest.mark.parametrize(("before", "after"), PAIRS, ids=lambda plane: str(plane))
def test_the_old_plane_goes_when_its_connections_have_ended(quiet: Swapped, before: str, after: str) -> None:
    quiet.start(before)
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(holding(quiet.built.client, target, 4, 0.1)) for target in TCP]
        quiet.swap(after)
        quiet.wait_for_log(f"plane {before} takes no new flows")
        quiet.answers({"pod-1-1", "pod-1-2", "pod-2-1", "pod-2-2"})
        go_on(held)
        assert quiet.is_there(before), "it has connections"
    assert [each.result.lost for each in held] == [[], []]
    quiet.wait_for_log(f"took away what plane {before} had left, and 0 flows with it", 60)
    assert not quiet.is_there(before)
    quiet.answers({"pod-1-1", "pod-1-2", "pod-2-1", "pod-2-2"})


@pytest.mark.parametrize(("before", "after"), PAIRS, ids=lambda plane: str(plane))
def test_connections_of_the_old_plane_end_when_their_endpoint_leaves(
    quiet: Swapped, before: str, after: str
) -> None:
    pods = quiet.built.pods
    quiet.start(before)
    quiet.serve(pods[:1])
    with contextlib.ExitStack() as stack:
        held = [
            stack.enter_context(holding(quiet.built.client, target, 2, 0.1, udp_patience=0.5))
            for target in (*TCP, *UDP)
        ]
        quiet.swap(after)
        quiet.wait_for_log(f"plane {before} takes no new flows")
        go_on(held)
        quiet.serve(pods[1:2])
        tcp, udp = held[:2], held[2:]
        wait_for(lambda: all(len(each.result.lost) == 2 for each in tcp), "resets")
        wait_for(lambda: all(set(each.result.by_server) == {pods[1].name} for each in udp), "UDP to move")
    assert {loss.reason for each in tcp for loss in each.result.lost} == {"reset"}


@pytest.mark.parametrize(("before", "after"), PAIRS, ids=lambda plane: str(plane))
def test_a_swap_that_is_killed_half_way_and_one_back_lose_nothing(
    swapped: Swapped, before: str, after: str
) -> None:
    swapped.start(before)
    with swapped.streaming() as streaming:
        swapped.swap(after)
        swapped.wait_for_log(f"plane {before} takes no new flows")
        swapped.backend.kill9()
        time.sleep(1)
        swapped.swap(after)
        swapped.wait_for_log(f"plane {before} takes no new flows")
        time.sleep(1)
        swapped.swap(before)
        swapped.wait_for_log(f"plane {after} takes no new flows")
        taken = swapped.taken(before)
        wait_for(lambda: swapped.taken(before) > taken + 500, "the first plane to take what begins again")
        outcome = streaming.stop()
    record(f"{before} to {after}, killed, and back", outcome)
    assert (outcome.lost, outcome.failed) == (0, 0), outcome
    assert outcome.unanswered <= outcome.sent / 1000, outcome


@pytest.mark.parametrize("plane", PLANES)
def test_a_node_that_is_given_away_keeps_its_connections_until_they_end(quiet: Swapped, plane: str) -> None:
    """To rules as kube-proxy has them, which are there already."""
    quiet.start(plane)
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(holding(quiet.built.client, target, 4, 0.1)) for target in TCP]
        rules = stack.enter_context(quiet.proxying())
        assert rules.flows() == 0
        quiet.swap(plane, "--drain")
        quiet.wait_for_log(f"plane {plane} takes no new flows")
        quiet.answers({"pod-1-1", "pod-1-2", "pod-2-1", "pod-2-2"})
        assert rules.flows() > 0
        assert quiet.keeps_ports_apart() == (plane == "ebpf")
        go_on(held)
        for each in held:
            each.stop()
        wait_for(lambda: not quiet.backend.running, "the end", 60)
        assert (quiet.backend.exit_code, quiet.is_there(plane)) == (0, False)
        assert not quiet.keeps_ports_apart()
        quiet.answers({"pod-1-1", "pod-1-2", "pod-2-1", "pod-2-2"})
    assert [each.result.lost for each in held] == [[], []]


def go_on(held: list[Background[Held]]) -> None:
    """Until each conversation has had several exchanges more."""
    before = [each.result.exchanges for each in held]
    wait_for(
        lambda: all(each.result.exchanges > was + 12 for each, was in zip(held, before, strict=True)),
        "the conversations to go on",
    )
