"""KPNG's own iptables backend carries traffic under our frontend: Services, and Gateways' listeners."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from blixt_lab import Cluster, Host, cluster, wait_for
from blixt_lab.blixt import Blixt
from blixt_lab.load import holding, start_servers
from blixt_lab.traffic import spread
from blixt_lab.world import KINDS, Space, World

pytestmark = [
    pytest.mark.interop,
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]


class WithKpng(Blixt):
    """Our frontend, and KPNG's program on each node."""

    def __init__(self, built: Cluster, program: Path) -> None:
        self._program = program
        super().__init__(built)

    def backend_command(self, node: Host, *more: str) -> list[str]:
        return [
            str(self._program),
            "--api",
            self.api,
            "--node-name",
            node.name,
            "--error-delay",
            "200ms",
            *more,
        ]


@pytest.fixture(scope="module")
def world(kpng_iptables: Path) -> Iterator[World]:
    with cluster(nodes=2, pods=2, clients=1) as built:
        servers = start_servers(built.lab, built.pods)
        kpng = WithKpng(built, kpng_iptables / "kpng-iptables")
        kpng.start()
        kpng.apply("ready")
        yield World(built, kpng, servers)
        assert [daemon.exit_code for daemon in kpng.daemons] == [None] * len(kpng.daemons)


@pytest.fixture
def space(world: World, request: pytest.FixtureRequest) -> Iterator[Space]:
    """Each test's own addresses."""
    number = 1 + [item.name for item in request.session.items].index(request.node.name)
    made = Space(world, number)
    yield made
    made.close()


def answered(space: Space, host: Host, *, inside: bool) -> dict[tuple[str, int], set[str]]:
    """Who answers 40 connections of each kind; why not, where nobody does."""
    got = {kind: host.do(spread(space.target(kind, inside), 40)) for kind in KINDS}
    return {kind: set(each.answers) | set(each.failures) for kind, each in got.items()}


def all_by(*who: Host | str) -> dict[tuple[str, int], set[str]]:
    return {kind: {each if isinstance(each, str) else each.name for each in who} for kind in KINDS}


def await_answers(space: Space, client: Host, *who: Host | str) -> None:
    """Families are programmed one after the other, and the lab only sees when IPv4 is."""
    wait_for(lambda: answered(space, client, inside=False) == all_by(*who), f"answers by {who}")


def test_a_service_answers_pods_by_its_cluster_ip_and_clients_by_its_external_ip(
    world: World, space: Space
) -> None:
    pods = world.pods("1-1", "2-1")
    space.serve(*pods)
    await_answers(space, world.cluster.client, *pods)
    assert answered(space, world.pod("1-2"), inside=True) == all_by(*pods)
    assert answered(space, world.pod("2-2"), inside=True) == all_by(*pods)


def test_a_gateways_listeners_answer_as_the_services_that_they_are(world: World, space: Space) -> None:
    first, second = world.pods("1-1", "2-1")
    space.route({"first": 1, "second": 1}, {"first": [first], "second": [second]})
    await_answers(space, world.cluster.client, first, second)
    space.route({"first": 1}, {"first": [first]})
    await_answers(space, world.cluster.client, first)


def test_endpoints_come_and_go_beside_a_gateways_connections(world: World, space: Space) -> None:
    first, second = world.pods("1-1", "2-1")
    space.route({"web": 1}, {"web": [first]})
    await_answers(space, world.cluster.client, first)
    with holding(world.cluster.client, space.target(("tcp", 4)), 20) as held:
        space.route({"web": 1}, {"web": [first, second]})
        await_answers(space, world.cluster.client, first, second)
    assert (held.result.lost, held.result.by_server) == ([], {first.name: 20})
    space.route({"web": 1}, {"web": []})
    await_answers(space, world.cluster.client, "refused")


def test_it_goes_on_without_the_frontend_and_makes_up_for_what_changed_meanwhile(
    world: World, space: Space
) -> None:
    first, second = world.pods("1-1", "2-1")
    client = world.cluster.client
    space.serve(first)
    await_answers(space, client, first)
    world.blixt.frontend.kill9()
    assert answered(space, client, inside=False) == all_by(first)
    world.blixt.frontend.start()
    space.serve(first, second)
    await_answers(space, client, first, second)


@pytest.mark.parametrize("version", [4, 6])
def test_udp_flows_leave_an_endpoint_that_is_gone(world: World, space: Space, version: int) -> None:
    first, second = world.pods("1-1", "2-1")
    space.serve(first)
    await_answers(space, world.cluster.client, first)
    with holding(world.cluster.client, space.target(("udp", version)), 5) as held:
        space.serve(second)
        wait_for(lambda: held.result.by_server == {second.name: 5}, "answers by the one that is left")
