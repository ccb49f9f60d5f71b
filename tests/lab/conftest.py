"""One cluster with the real daemons for all lab tests. Each test has addresses and manifests of its own."""

from __future__ import annotations

import itertools
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from blixt_lab import Checksums, Lab, cluster
from blixt_lab.blixt import Blixt
from blixt_lab.load import start_servers
from blixt_lab.world import Space, World

_serials = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here makes namespaces: it is skipped without root, and says so."""
    for item in items:
        if item.path.parent.name == "lab" and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails shows the ends of the logs of its lab's daemons."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        for made in item.funcargs.values():
            lab = made.cluster.lab if isinstance(made, World) else getattr(made, "lab", None)
            if isinstance(lab, Lab):
                report.sections += [(path.name, _tail(path)) for path in sorted(lab.entry.logs.iterdir())]
    return report


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-12:])


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """Two nodes with two pods each, two clients, servers on all pods, a frontend and two backends."""
    with cluster(nodes=2, pods=2, clients=2) as built:
        servers = start_servers(built.lab, built.pods)
        blixt = Blixt(built)
        blixt.start()
        blixt.apply("ready")
        yield World(built, blixt, servers)


@pytest.fixture(scope="module")
def world_of_sockets() -> Iterator[World]:
    """The same with one client; backends look after the sockets of their nodes; servers on nodes, too."""
    with cluster(nodes=2, pods=2, clients=1, cgroups=True) as built:
        servers = start_servers(built.lab, [*built.pods, *built.nodes])
        blixt = Blixt(built, backend_options=["--socket-lb", "on"])
        blixt.start()
        blixt.apply("ready")
        yield World(built, blixt, servers)


@pytest.fixture
def space(world: World, request: pytest.FixtureRequest) -> Iterator[Space]:
    """Addresses that no other test uses. Its manifests are removed after the test.

    No host may have seen a wrong checksum, and no daemon may have ended.
    """
    before = world.cluster.checksum_errors()
    space = Space(world, next(_serials))
    yield space
    space.close()
    assert world.cluster.checksum_errors() == before, "hosts dropped packets for a wrong checksum"
    for daemon in world.blixt.daemons:
        assert daemon.running, f"{daemon.name} ended with {daemon.exit_code}\n{daemon.log_tail()}"


@pytest.fixture(scope="session", params=list(Checksums), ids=lambda checksums: checksums.value)
def checksums(world: World, request: pytest.FixtureRequest) -> Iterator[Checksums]:
    """Each way to have checksums computed: tests that look at traffic run with all of them."""
    chosen: Checksums = request.param
    world.cluster.set_checksums(chosen)
    yield chosen
    world.cluster.set_checksums(Checksums.PARTIAL)
