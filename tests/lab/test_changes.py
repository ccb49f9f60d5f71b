"""Connections while endpoints come, drain and go."""

from __future__ import annotations

import pytest

from blixt_lab import wait_for
from blixt_lab.load import hammering, holding
from blixt_lab.manifests import terminating
from blixt_lab.traffic import TalkError, converse, spread
from blixt_lab.world import KINDS, Space, World

pytestmark = pytest.mark.lab


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_connections_keep_their_endpoint_while_others_come_and_go(
    world: World, space: Space, kind: tuple[str, int]
) -> None:
    stays, leaves, comes = world.pods("1-1", "1-2", "2-1")
    space.serve(stays)
    with holding(world.cluster.client, space.target(kind), 30, interval=0.1) as held:
        space.serve(stays, leaves)
        space.serve(stays, leaves, comes)
        space.serve(comes, stays)
    assert held.result.lost == []
    assert held.result.moved == 0
    assert held.result.missed == {}
    assert held.result.by_server == {"pod-1-1": 30}


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_terminating_endpoint_keeps_its_connections_and_gets_no_new_ones(
    world: World, space: Space, kind: tuple[str, int]
) -> None:
    drains, stays = world.pods("1-1", "2-1")
    space.serve(drains)
    client = world.cluster.client
    with holding(client, space.target(kind), 30, interval=0.1) as held:
        space.serve(terminating(drains), stays)
        assert client.do(spread(space.target(kind), 60)).answers == {"pod-2-1": 60}
        before = held.result.exchanges
        wait_for(lambda: held.result.exchanges > before + 60, "the drained endpoint's clients to go on")
    assert held.result.lost == []
    assert held.result.by_server == {"pod-1-1": 30}
    assert held.result.missed == {}


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("gone", ["1-1", "2-1"], ids=["local", "remote"])
def test_tcp_to_a_gone_endpoint_is_reset_and_no_other(
    world: World, space: Space, version: int, gone: str
) -> None:
    pods = world.pods("1-1", "2-1")
    space.serve(*pods)
    with holding(world.cluster.client, space.target(("tcp", version)), 30, interval=0.1) as held:
        doomed = held.result.by_server[f"pod-{gone}"]
        assert 0 < doomed < 30
        space.serve(*(pod for pod in pods if pod.name != f"pod-{gone}"))
        wait_for(lambda: len(held.result.lost) >= doomed, "resets to the gone endpoint's clients")
    assert {(loss.server, loss.reason) for loss in held.result.lost} == {(f"pod-{gone}", "reset")}
    assert len(held.result.lost) == doomed


@pytest.mark.parametrize("version", [4, 6])
def test_udp_flows_move_from_a_gone_endpoint(world: World, space: Space, version: int) -> None:
    gone, stays = world.pods("1-1", "2-1")
    space.serve(gone)
    with holding(world.cluster.client, space.target(("udp", version)), 30, interval=0.1) as held:
        space.serve(stays)
        wait_for(lambda: held.result.by_server == {"pod-2-1": 30}, "all flows at the other endpoint")
    assert held.result.moved == 30


@pytest.mark.parametrize("version", [4, 6])
def test_a_udp_flow_that_was_refused_is_served_once_there_is_an_endpoint(
    world: World, space: Space, version: int
) -> None:
    space.serve()

    async def refused_then_served() -> list[str]:
        outcomes = []
        async with converse(space.target(("udp", version))) as conversation:
            try:
                await conversation.ask("early", 3)
            except TalkError as error:
                outcomes.append(error.reason)
            space.serve(world.pod("1-1"))
            outcomes.append((await conversation.ask("late", 3)).server)
        return outcomes

    assert world.cluster.client.do(refused_then_served()) == ["refused", "pod-1-1"]


def test_a_weight_of_zero_keeps_what_is_open(world: World, space: Space) -> None:
    backends = {"blue": world.pods("1-1"), "green": world.pods("2-1")}
    space.route({"blue": 1, "green": 0}, backends)
    client = world.cluster.client
    with holding(client, space.target(("tcp", 4)), 20, interval=0.1) as held:
        space.route({"blue": 0, "green": 1}, backends)
        assert client.do(spread(space.target(("tcp", 4)), 40)).answers == {"pod-2-1": 40}
    assert held.result.lost == []
    assert held.result.by_server == {"pod-1-1": 20}


def test_no_connection_fails_while_an_endpoint_drains_and_goes(world: World, space: Space) -> None:
    leaves, stays = world.pods("2-1", "1-1")
    space.serve(leaves, stays)
    with hammering(world.cluster.client, space.target(("tcp", 4)), rate=150) as hammered:
        wait_for(lambda: len(hammered.result.answers) == 2, "answers of both endpoints")
        space.serve(terminating(leaves), stays)
        wait_for(lambda: hammered.result.tried > 200, "more connections")
        space.serve(stays)
        mark = hammered.result.answers["pod-1-1"]
        wait_for(lambda: hammered.result.answers["pod-1-1"] > mark + 50, "connections after it")
    assert hammered.result.failures == []
