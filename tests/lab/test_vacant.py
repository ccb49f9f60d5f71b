"""Cluster IPs' undefined ports, and addresses of their range that no Service has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from blixt_lab import cluster, manifests
from blixt_lab.blixt import Blixt
from blixt_lab.load import start_servers
from blixt_lab.world import KINDS, Space, World, outcomes_at

pytestmark = pytest.mark.lab

RANGES = ("10.96.0.0/12", "fd00:10:96::/108")
CLIENTS = pytest.mark.parametrize("client", ["pod-1-1", "pod-2-1", "node1", "client1"])


@pytest.fixture(scope="module", params=[False, True], ids=["packets", "sockets"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """With work on the sockets of the nodes' own programs, and without."""
    with cluster(nodes=2, pods=1, clients=1, cgroups=request.param) as built:
        servers = start_servers(built.lab, built.pods)
        built.client.ip(f"route replace {RANGES[1]} via {built['node1'].address6}")
        blixt = Blixt(built, backend_options=["--service-cidrs", ",".join(RANGES)])
        blixt.start()
        blixt.apply("ready")
        yield World(built, blixt, servers)


@CLIENTS
def test_an_undefined_port_is_refused(world: World, space: Space, client: str) -> None:
    space.serve(world.pod("1-1"))
    host = world.cluster[client]
    assert space.outcomes(host, inside=True) == dict.fromkeys(KINDS, "1-1")
    assert outcomes_at(host, space.inside, tcp=81, udp=54) == dict.fromkeys(KINDS, "refused")
    assert outcomes_at(host, space.outside, tcp=81, udp=54, patience=0.8) == dict.fromkeys(KINDS, "timeout")


@CLIENTS
def test_an_address_that_no_service_has_is_silent(world: World, space: Space, client: str) -> None:
    host = world.cluster[client]
    before = dropped(world)
    assert space.outcomes(host, inside=True, patience=0.8) == dict.fromkeys(KINDS, "timeout")
    assert all(now > then for now, then in zip(dropped(world), before, strict=True))


@CLIENTS
def test_an_address_is_served_as_soon_as_a_service_has_it(world: World, space: Space, client: str) -> None:
    host = world.cluster[client]
    space.serve(world.pod("1-1"))
    assert space.outcomes(host, inside=True) == dict.fromkeys(KINDS, "1-1")
    space.apply(manifests.node("node1"))
    assert space.outcomes(host, inside=True, patience=0.8) == dict.fromkeys(KINDS, "timeout")


def dropped(world: World) -> tuple[int, int]:
    """On all nodes, by IPv4 and by IPv6."""
    rows = [row for node in world.cluster.nodes for row in world.blixt.inspect(node, "drops")]
    own = [row for row in rows if row["reason"] == "unallocated"]
    return sum(row["ipv4"] for row in own), sum(row["ipv6"] for row in own)
