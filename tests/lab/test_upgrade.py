"""A backend takes over from one whose maps are laid out differently, under traffic that does not notice."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from blixt_backend.planes.ebpf.layout import LAYOUT_VERSION
from blixt_lab import cluster, other_version, wait_for
from blixt_lab.blixt import Blixt
from blixt_lab.daemon import Daemon
from blixt_lab.load import holding, start_servers
from blixt_lab.undisturbed import undisturbed
from blixt_lab.world import KINDS, Space, World

pytestmark = pytest.mark.lab

#: Ends the process as kill -9 would, at the moment that its programs stand on every hook.
KILLED_HALF_WAY = """
import os
from blixt_backend.planes.ebpf.upgrade import Upgrade
Upgrade.finish = lambda self: os._exit(9)
"""


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command of another version."""
    return other_version.build(tmp_path_factory.mktemp("other") / "version")


@pytest.fixture
def own_world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A cluster for this test alone; no backend runs yet. Its parameter: the backends' options."""
    with cluster(nodes=2, pods=2, clients=1) as built:
        servers = start_servers(built.lab, built.pods)
        yield World(built, Blixt(built, backend_options=getattr(request, "param", [])), servers)


def swap(daemon: Daemon, command: list[str]) -> None:
    """Have another program do the daemon's work, with the same options."""
    daemon.terminate()
    daemon.argv = [*command, *daemon.argv[daemon.argv.index("--interface") :]]
    daemon.start()


def pinned(world: World) -> list[list[str]]:
    """The versions that have something pinned on each node."""
    roots = [Path(world.blixt.pin_root(node)) for node in world.cluster.nodes]
    return [sorted(folder.name for folder in root.iterdir()) for root in roots]


def wait_for_version(world: World, number: int) -> None:
    """Until each node has nothing of another one."""
    wait_for(lambda: pinned(world) == [[f"v{number}"]] * 2, f"version {number} to be alone")


def wait_for_the_end(daemon: Daemon) -> None:
    wait_for(lambda: daemon.exit_code == 9, "the end half way")


def start(world: World, command: list[str]) -> Space:
    for daemon in world.blixt.backends.values():
        daemon.argv = [*command, *daemon.argv[daemon.argv.index("--interface") :]]
    world.blixt.start()
    space = Space(world, 1)
    space.serve(*world.pods("1-1", "2-1"))
    return space


@pytest.mark.parametrize("back", [False, True], ids=["from-the-other", "to-the-other"])
def test_another_version_takes_over_and_nothing_is_lost(
    own_world: World, other: list[str], back: bool
) -> None:
    this = other_version.program()
    first, second = (this, other) if back else (other, this)
    space = start(own_world, first)
    with undisturbed(own_world, space):
        for daemon in own_world.blixt.backends.values():
            swap(daemon, second)
        wait_for_version(own_world, other_version.NUMBER if back else LAYOUT_VERSION)
        space.serve(*own_world.pods("1-1", "2-1", "2-2"))


def test_a_take_over_that_is_killed_half_way_is_finished_by_the_next_start(
    own_world: World, other: list[str]
) -> None:
    space = start(own_world, other)
    with undisturbed(own_world, space):
        for daemon in own_world.blixt.backends.values():
            swap(daemon, other_version.program(before=KILLED_HALF_WAY))
            wait_for_the_end(daemon)
        assert pinned(own_world) == [sorted([f"v{LAYOUT_VERSION}", f"v{other_version.NUMBER}"])] * 2
        for daemon in own_world.blixt.backends.values():
            swap(daemon, other_version.program())
        wait_for_version(own_world, LAYOUT_VERSION)
        space.serve(*own_world.pods("1-1", "2-1", "2-2"))


@pytest.mark.parametrize("own_world", [["--forwarding", "dsr"]], ids=["dsr"], indirect=True)
def test_connections_by_tunnels_are_taken_over(own_world: World, other: list[str]) -> None:
    """They have one entry each, without a partner."""
    this = other_version.program()
    space = start(own_world, this)
    with undisturbed(own_world, space):
        for command, number in ((other, other_version.NUMBER), (this, LAYOUT_VERSION)):
            for daemon in own_world.blixt.backends.values():
                swap(daemon, command)
            wait_for_version(own_world, number)
        assert any(flow["by_tunnel"] for flow in space.known_flows())


def test_connections_keep_what_they_have_counted(own_world: World, other: list[str]) -> None:
    space = start(own_world, other_version.program())
    with undisturbed(own_world, space):
        wait_for(lambda: len(counted(space)) > 50, "connections")
        before = counted(space)
        for command, number in ((other, other_version.NUMBER), (other_version.program(), LAYOUT_VERSION)):
            for daemon in own_world.blixt.backends.values():
                swap(daemon, command)
            wait_for_version(own_world, number)
        after = counted(space)
    kept = before.keys() & after.keys()
    assert len(kept) > 40
    assert all(after[key] >= before[key] for key in kept)


def counted(space: Space) -> dict[tuple[str, str, int], int]:
    """The client's packets of each connection that talks."""
    return {
        (flow["protocol"], flow["client"], flow["client_port"]): flow["packets_in"]
        for flow in space.known_flows()
        if flow["state"] == "established"
    }


#: As on a kernel without tcx links.
NO_ORDER = """
from blixt_backend.planes.ebpf import attach
attach.tcx_is_supported = lambda program: False
"""


def test_where_hooks_have_no_order_half_a_take_over_serves_too(own_world: World, other: list[str]) -> None:
    folder = Path(other[1].removeprefix("PYTHONPATH=")).parent
    space = start(own_world, other_version.program(folder, NO_ORDER))
    kinds = dict.fromkeys(KINDS, "1-1")
    space.serve(own_world.pod("1-1"))
    with contextlib.ExitStack() as stack:
        held = [
            stack.enter_context(holding(own_world.cluster.client, space.target(kind), 5)).result
            for kind in KINDS
        ]
        wait_for(lambda: all(len(result.servers) == 5 for result in held), "connections")
        for before in (f"{NO_ORDER}\n{KILLED_HALF_WAY}", NO_ORDER):
            for daemon in own_world.blixt.backends.values():
                swap(daemon, other_version.program(before=before))
                if before != NO_ORDER:
                    wait_for_the_end(daemon)
            wait_for(lambda: space.outcomes(own_world.cluster.client) == kinds, "new connections")
        wait_for_version(own_world, LAYOUT_VERSION)
    assert [loss for result in held for loss in result.lost] == []
