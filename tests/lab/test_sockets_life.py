"""What sockets keep while the backend dies, restarts, lets go of them, and their entries are thrown out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from blixt_backend.planes.ebpf.layout import LAYOUT_VERSION
from blixt_backend.planes.ebpf.maps import BpfMap
from blixt_lab import wait_for
from blixt_lab.load import holding
from blixt_lab.sockets import Datagrams, peer_name
from blixt_lab.traffic import Held, spread
from blixt_lab.world import KINDS, Space, World

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def world(world_of_sockets: World) -> World:
    return world_of_sockets


@contextlib.contextmanager
def undisturbed(world: World, space: Space) -> Iterator[None]:
    """Connections of a pod and of the node, of which none may be lost or move."""
    with contextlib.ExitStack() as stack:
        held: list[Held] = [
            stack.enter_context(holding(world.cluster[host], space.target(kind), 5, interval=0.1)).result
            for kind in KINDS
            for host in ("pod-1-2", "node1")
        ]
        yield
    assert [loss for result in held for loss in result.lost] == []
    assert [dict(result.missed) for result in held if result.missed] == []
    assert sum(result.moved for result in held) == 0


def hooks(world: World, node: str = "node1") -> dict[tuple[str, str], int]:
    """The program of each hook on sockets."""
    rows = world.blixt.inspect(world.cluster[node], "status")["hooks"]
    return {
        (row["family"], row["hook"]): row["program_id"]
        for row in rows
        if row["interface"].startswith("cgroup")
    }


def test_a_killed_backend_leaves_sockets_served_and_takes_over_again(world: World, space: Space) -> None:
    space.serve(*world.pods("1-1", "2-1"))
    backend, pod = world.blixt.backends["node1"], world.pod("1-2")
    before = hooks(world)
    assert len(before) == 11
    with undisturbed(world, space), Datagrams(pod, 4) as datagrams:
        target = space.target(("udp", 4))
        chosen = datagrams.ask(target)
        backend.kill9()
        assert pod.do(spread(space.target(("tcp", 4)), 50)).failures == {}
        assert datagrams.ask(target) == chosen
        backend.start()
        space.serve(*world.pods("1-1", "2-1", "2-2"))
        assert pod.do(spread(space.target(("tcp", 6)), 50)).failures == {}
        assert datagrams.ask(target) == chosen
        assert peer_name(pod, space.target(("tcp", 6))) == (space.outside6, 80)
        assert space.known_flows() == []
    after = hooks(world)
    assert after.keys() == before.keys()
    assert all(after[hook] != before[hook] for hook in before), "each has the new process's program"


def test_endpoints_that_leave_while_the_backend_is_down_end_sockets_at_its_start(
    world: World, space: Space
) -> None:
    gone, stays = world.pods("2-1", "1-1")
    space.serve(gone)
    backend = world.blixt.backends["node1"]
    with holding(world.pod("1-2"), space.target(("tcp", 4)), 5, interval=0.1) as held:
        backend.terminate()
        world.blixt.remove(space.name)
        backend.start()
        wait_for(lambda: len(held.result.lost) == 5, "the gone endpoint's clients to know")
    space.serve(stays)
    assert space.outcomes(world.pod("1-2")) == dict.fromkeys(KINDS, "1-1")


def connections(space: Space) -> int:
    """TCP connections that node1's packet programs know."""
    return sum(row["protocol"] == "TCP" for row in space.known_flows())


def test_switched_off_packets_are_served_and_sockets_go_on(world: World, space: Space) -> None:
    space.serve(*world.pods("1-1", "2-1"))
    backend, node, pod = world.blixt.backends["node1"], world.cluster["node1"], world.pod("1-2")
    target = space.target(("udp", 6))
    with undisturbed(world, space), Datagrams(pod, 6) as datagrams:
        datagrams.ask(target)
        assert backend.terminate() == 0
        backend.argv = world.blixt.backend_command(node, "--socket-lb", "off")
        backend.start()
        wait_for(lambda: not hooks(world), "the hooks on sockets to go")
        space.serve(*world.pods("1-1", "2-1", "2-2"))
        assert datagrams.ask(target)[1:] == (target.address, target.port)
        assert pod.do(spread(space.target(("tcp", 4)), 20)).failures == {}
        assert connections(space) == 20
        assert backend.terminate() == 0
        backend.argv = world.blixt.backend_command(node, "--socket-lb", "on")
        backend.start()
        wait_for(lambda: hooks(world), "the hooks on sockets to come again")
        space.serve(*world.pods("1-1", "2-1", "1-2"))
        assert datagrams.ask(target)[1:] == (target.address, target.port)
        assert pod.do(spread(space.target(("tcp", 4)), 20)).failures == {}
        assert connections(space) == 20


@pytest.mark.parametrize("version", [4, 6])
def test_what_is_forgotten_is_found_again(world: World, space: Space, version: int) -> None:
    """The map throws out what was not used for long; here, all there is."""
    space.serve(*world.cluster.pods)
    target = space.target(("udp", version))
    with sockets_of(world, version) as known, Datagrams(world.pod("1-1"), version) as datagrams:
        chosen = datagrams.ask(target)
        for _ in range(5):
            known.delete_joined(b"".join(key for key, _ in known.items()))
            assert datagrams.ask(target) == chosen
        # Of the two entries, answers only use one: it comes back with a later tick's datagram.
        endpoints = [key for key, _ in known.items() if is_answer(key)]
        assert endpoints
        known.delete_joined(b"".join(endpoints))

        def answered() -> bool:
            return datagrams.ask(target) == chosen

        wait_for(answered, "answers to be the service's again", interval=0.3)


def is_answer(key: bytes) -> bool:
    """Whether it is what an endpoint's answers are looked up by: `side` of struct socket_key."""
    return key[14 if len(key) == 16 else 26] == 1


def sockets_of(world: World, version: int) -> BpfMap:
    """node1's map of sockets."""
    root: Path = world.blixt.pin_root(world.cluster["node1"])
    return BpfMap.open(root / f"v{LAYOUT_VERSION}" / f"ipv{version}" / "maps" / "sockets")
