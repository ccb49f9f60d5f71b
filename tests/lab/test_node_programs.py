"""Programs on a node's own network, served at their sockets unless a backend is told otherwise."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

import pytest

from blixt_lab import Host, cluster, manifests, wait_for
from blixt_lab.blixt import Blixt
from blixt_lab.load import holding, start_servers
from blixt_lab.manifests import Ready
from blixt_lab.sockets import Datagrams, failure
from blixt_lab.traffic import Target
from blixt_lab.world import KINDS, Space, World, outcomes_at

pytestmark = pytest.mark.lab

TCP, UDP = 30_880, 30_853
LOOPBACK = ("127.0.0.1", "::1")
RANGES = "172.18.0.0/24,fd00:172:18::/64,127.0.0.0/8,::1/128"
ENDPOINTS = [
    pytest.param("pod-1-1", id="own-pod"),
    pytest.param("pod-2-1", id="other-nodes-pod"),
    pytest.param("node1", id="own-network"),
    pytest.param("node2", id="other-nodes-network"),
]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with cluster(nodes=2, pods=1, clients=1, cgroups=True) as built:
        servers = start_servers(built.lab, [*built.pods, *built.nodes])
        blixt = Blixt(built, backend_options=["--nodeport-addresses", RANGES])
        blixt.start()
        blixt.apply("ready")
        yield World(built, blixt, servers)


def put(space: Space, *endpoints: Host | Ready, **spec: Any) -> None:
    """A Service with node ports, cluster IPs and external IPs."""
    made = manifests.service(space.name, space.inside, external=space.outside, type="NodePort", **spec)
    for port, number in zip(made["spec"]["ports"], (TCP, UDP), strict=True):
        port["nodePort"] = number
    space.apply(made, *manifests.slices(space.name, endpoints))


def own(host: Host) -> tuple[str, str]:
    return (host.address4, host.address6)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("place", ["own-address", "loopback"])
def test_node_ports_of_the_node_itself(world: World, space: Space, place: str, endpoint: str) -> None:
    node = world.cluster["node1"]
    put(space, world.cluster[endpoint])
    addresses = own(node) if place == "own-address" else LOOPBACK
    expected = dict.fromkeys(KINDS, endpoint.removeprefix("pod-"))
    assert outcomes_at(node, addresses, tcp=TCP, udp=UDP) == expected
    assert space.known_flows() == []


@pytest.mark.parametrize("inside", [True, False], ids=["cluster-ip", "external-ip"])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_services_from_the_node(world: World, space: Space, endpoint: str, inside: bool) -> None:
    put(space, world.cluster[endpoint])
    assert space.sights(world.cluster["node1"], inside) == dict.fromkeys(KINDS, (endpoint, "node1"))
    assert space.known_flows() == []


def test_a_pod_s_loopback_is_its_own(world: World, space: Space) -> None:
    put(space, world.pod("2-1"))
    assert outcomes_at(world.pod("1-1"), LOOPBACK, tcp=TCP, udp=UDP) == dict.fromkeys(KINDS, "refused")


def test_pods_are_served_by_their_packets(world: World, space: Space) -> None:
    put(space, world.pod("2-1"))
    assert space.outcomes(world.pod("1-1")) == dict.fromkeys(KINDS, "2-1")
    assert len(space.known_flows()) == 4
    node = own(world.cluster["node1"])
    assert outcomes_at(world.pod("1-1"), node, tcp=TCP, udp=UDP) == dict.fromkeys(KINDS, "2-1")


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("place", ["own-address", "loopback", "cluster-ip"])
def test_datagrams_of_an_unconnected_socket(world: World, space: Space, place: str, version: int) -> None:
    node = world.cluster["node1"]
    gone, stays = world.pod("1-1"), world.pod("2-1")
    put(space, gone)
    addresses = {"own-address": own(node), "loopback": LOOPBACK, "cluster-ip": space.inside}[place]
    target = Target("udp", addresses[version == 6], 53 if place == "cluster-ip" else UDP)
    with Datagrams(node, version) as datagrams:
        for _ in range(3):
            assert datagrams.ask(target) == (gone.name, target.address, target.port)
        put(space, stays)
        assert datagrams.ask(target) == (stays.name, target.address, target.port)


def test_without_endpoints_they_are_refused(world: World, space: Space) -> None:
    put(space)
    node = world.cluster["node1"]
    for address in (*own(node), *LOOPBACK):
        number, _ = failure(node, Target("tcp", address, TCP), True)
        assert number == errno.ECONNREFUSED


@pytest.mark.parametrize("version", [4, 6])
def test_connections_end_with_their_endpoint_and_no_other(world: World, space: Space, version: int) -> None:
    node = world.cluster["node1"]
    gone, stays = world.pods("1-1", "2-1")
    put(space, gone, stays)
    target = Target("tcp", own(node)[version == 6], TCP)
    with holding(node, target, 20, interval=0.1) as held:
        doomed = held.result.by_server[gone.name]
        assert 0 < doomed < 20
        put(space, stays)
        wait_for(lambda: len(held.result.lost) == doomed, "the gone endpoint's clients to know")
    assert {loss.server for loss in held.result.lost} == {gone.name}


def test_policies_for_outsiders_do_not_count(world: World, space: Space) -> None:
    """Kept apart as for packets: the node's own programs are inside the cluster."""
    put(space, world.pod("2-1"), externalTrafficPolicy="Local")
    node = world.cluster["node1"]
    assert outcomes_at(node, own(node), tcp=TCP, udp=UDP) == dict.fromkeys(KINDS, "2-1")
