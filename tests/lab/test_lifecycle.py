"""The daemons die, restart, and lose each other; traffic does not notice."""

from __future__ import annotations

import pytest

from blixt_lab import Host, wait_for
from blixt_lab.traffic import spread
from blixt_lab.undisturbed import undisturbed
from blixt_lab.world import KINDS, Space, World

pytestmark = pytest.mark.lab


def test_killing_and_restarting_every_daemon_loses_nothing(world: World, space: Space) -> None:
    space.serve(*world.pods("1-1", "2-1"))
    with undisturbed(world, space):
        for daemon in world.blixt.daemons:
            daemon.kill9()
        assert world.cluster.client.do(spread(space.target(("tcp", 4)), 50)).failures == {}
        world.blixt.start()
        # The new processes are in charge: a change gets through, and ends nothing.
        space.serve(*world.pods("1-1", "2-1", "2-2"))


def test_terminating_a_backend_ends_it_cleanly_and_leaves_traffic_running(world: World, space: Space) -> None:
    space.serve(*world.pods("1-1", "2-1"))
    backend = world.blixt.backends["node1"]
    before = programs(world)
    with undisturbed(world, space):
        assert backend.terminate() == 0
        assert world.cluster.client.do(spread(space.target(("udp", 6)), 50)).failures == {}
        assert programs(world) == before
        backend.start()
        space.serve(*world.pods("1-1", "2-1", "1-2"))
    # As in an upgrade, every program was replaced by the new process's, under the same traffic.
    after = programs(world)
    assert after.keys() == before.keys()
    assert all(after[place] != before[place] for place in before)


def programs(world: World) -> dict[tuple[str, str, str], int]:
    """The program on each of node1's hooks."""
    hooks = world.blixt.inspect(world.cluster["node1"], "status")["hooks"]
    return {(hook["family"], hook["interface"], hook["hook"]): hook["program_id"] for hook in hooks}


def test_without_the_frontend_nodes_go_on_and_catch_up_after_it(world: World, space: Space) -> None:
    space.serve(*world.pods("1-1", "2-1"))
    with undisturbed(world, space):
        assert world.blixt.frontend.terminate() == 0
        assert world.cluster.client.do(spread(space.target(("tcp", 6)), 50)).failures == {}
        world.blixt.frontend.start()
        space.serve(*world.pods("1-1", "2-1", "2-2"))


def test_what_changed_while_the_backends_were_down_is_made_up_for(world: World, space: Space) -> None:
    space.serve(world.pod("1-1"))
    for backend in world.blixt.backends.values():
        backend.kill9()
    space.world.blixt.remove(space.name)
    for backend in world.blixt.backends.values():
        backend.start()
    wait_for(
        lambda: space.outcome(world.cluster.client, ("tcp", 4), patience=0.5) == "timeout",
        "the removed service's rules to go",
    )
    assert space.outcomes(world.cluster.client, patience=0.8) == dict.fromkeys(KINDS, "timeout")


def test_a_broken_manifest_changes_nothing(world: World, space: Space) -> None:
    space.serve(world.pod("1-1"))
    path = world.blixt.folder.path / f"{space.name}.yaml"
    mark = world.blixt.frontend.log.stat().st_size
    path.write_text("kind: Service\n  metadata: [")
    wait_for(
        lambda: path.name in world.blixt.frontend.log.read_text()[mark:], "the frontend to report the file"
    )
    assert space.outcomes(world.cluster.client) == dict.fromkeys(KINDS, "1-1")


def test_pods_interfaces_come_and_go(world: World, space: Space) -> None:
    cluster = world.cluster
    pod = world.pod("2-2")
    cluster.unplug(pod)
    cluster.plug(pod)
    space.serve(pod)
    expected = dict.fromkeys(KINDS, "2-2")
    # To it from outside and from its own node, and from it to itself: both directions of its new veth.
    for client in (cluster.client, world.pod("2-1"), pod):

        def reached(host: Host = client) -> bool:
            return space.outcomes(host, patience=1) == expected

        wait_for(reached, f"answers to {client.name}")
