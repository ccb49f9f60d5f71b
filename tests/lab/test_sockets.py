"""--socket-lb on: endpoints are chosen when this node's clients connect or send, not for their packets."""

from __future__ import annotations

import errno
import itertools
from collections import Counter
from typing import Any

import pytest

from blixt_lab import manifests, wait_for
from blixt_lab.load import holding
from blixt_lab.sockets import Datagrams, failure, peer_name
from blixt_lab.traffic import Target, spread
from blixt_lab.world import KINDS, Space, World

pytestmark = pytest.mark.lab

#: A node's own clients and a pod's, to endpoints in all the places where they may be.
WAYS = [
    pytest.param("node1", "pod-1-1", "node1", id="node-own-pod"),
    pytest.param("node1", "pod-2-1", "node1", id="node-other-nodes-pod"),
    pytest.param("node1", "node1", "node1", id="node-itself"),
    pytest.param("node1", "node2", "node1", id="node-other-node"),
    pytest.param("pod-1-2", "pod-1-1", "pod-1-2", id="pod-same-node"),
    pytest.param("pod-1-2", "pod-2-1", "pod-1-2", id="pod-other-node"),
    pytest.param("pod-1-1", "pod-1-1", "pod-1-1", id="pod-itself"),
    pytest.param("pod-1-1", "node1", "pod-1-1", id="pod-its-node"),
    pytest.param("pod-1-1", "node2", "pod-1-1", id="pod-other-node-itself"),
]
_node_ports = itertools.count(30_000)


@pytest.fixture(scope="module")
def world(world_of_sockets: World) -> World:
    return world_of_sockets


@pytest.mark.parametrize("inside", [True, False], ids=["cluster-ip", "external-ip"])
@pytest.mark.parametrize(("client", "endpoint", "seen"), WAYS)
def test_who_reaches_whom_without_any_work_on_packets(
    world: World, space: Space, client: str, endpoint: str, seen: str, inside: bool
) -> None:
    space.serve(world.cluster[endpoint])
    assert space.sights(world.cluster[client], inside) == dict.fromkeys(KINDS, (endpoint, seen))
    for node in world.cluster.nodes:
        assert space.known_flows(node.name) == []


@pytest.mark.parametrize("form", [4, 6, "mapped"])
@pytest.mark.parametrize(("client", "endpoint"), [("pod-1-1", "pod-2-1"), ("node1", "node1")])
def test_datagrams_of_an_unconnected_socket_are_answered_by_the_service(
    world: World, space: Space, client: str, endpoint: str, form: int | str
) -> None:
    space.serve(world.cluster[endpoint])
    target = space.target(("udp", 6 if form == 6 else 4), inside=True)
    with Datagrams(world.cluster[client], 6 if form == 6 else 4, form == "mapped") as datagrams:
        for _ in range(3):
            assert datagrams.ask(target) == (endpoint, target.address, target.port)
    assert space.known_flows() == []


@pytest.mark.parametrize("version", [4, 6])
def test_a_connected_socket_that_says_where_to_send_keeps_its_endpoint(
    world: World, space: Space, version: int
) -> None:
    """Else answers would come from whom it isn't connected to, and be thrown away."""
    space.serve(*world.cluster.pods)
    target = space.target(("udp", version), inside=True)
    for _ in range(8):
        with Datagrams(world.pod("1-1"), version) as datagrams:
            datagrams.link.connect((target.address, target.port))
            assert datagrams.ask(target)[1:] == (target.address, target.port)


@pytest.mark.parametrize("version", [4, 6])
def test_an_unconnected_socket_moves_from_an_endpoint_that_left(
    world: World, space: Space, version: int
) -> None:
    gone, stays = world.pods("1-2", "2-1")
    space.serve(gone)
    target = space.target(("udp", version), inside=True)
    with Datagrams(world.pod("1-1"), version) as datagrams:
        assert datagrams.ask(target)[0] == gone.name
        space.serve(gone, stays)
        assert {datagrams.ask(target)[0] for _ in range(10)} == {gone.name}, "it stays while it can"
        space.serve(stays)
        assert datagrams.ask(target) == (stays.name, target.address, target.port)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("client", ["pod-1-1", "node1"])
def test_a_connected_socket_whose_endpoint_left_is_ended(
    world: World, space: Space, client: str, kind: tuple[str, int]
) -> None:
    gone, stays = world.pods("1-2", "2-1")
    space.serve(gone, stays)
    with holding(world.cluster[client], space.target(kind), 20, interval=0.1) as held:
        before = held.result.by_server
        assert set(before) == {gone.name, stays.name}
        space.serve(stays)
        if kind[0] == "tcp":
            wait_for(
                lambda: len(held.result.lost) == before[gone.name], "the gone endpoint's clients to know"
            )
            assert {(loss.server, loss.reason) for loss in held.result.lost} == {(gone.name, "ECONNABORTED")}
        else:
            wait_for(lambda: held.result.missed.total() > 20, "the gone endpoint's clients to know")
            # Whoever waits for an answer, and whoever sends: the socket isn't connected any more.
            assert set(held.result.missed) <= {"ECONNABORTED", "EDESTADDRREQ"}
        assert held.result.moved == 0
    assert space.outcomes(world.cluster[client]) == dict.fromkeys(KINDS, stays.name.removeprefix("pod-"))


@pytest.mark.parametrize("mapped", [False, True], ids=["plain", "mapped"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_connected_socket_names_the_service_as_its_peer(
    world: World, space: Space, kind: tuple[str, int], mapped: bool
) -> None:
    space.serve(world.pod("2-1"))
    target = space.target(kind, inside=True)
    assert peer_name(world.pod("1-1"), target, mapped and kind[1] == 4) == (target.address, target.port)
    assert space.known_flows() == []


@pytest.mark.parametrize("client", ["pod-1-1", "node1"])
def test_without_endpoints_a_socket_is_refused_at_once(world: World, space: Space, client: str) -> None:
    space.serve()
    before = drops(world)
    for kind in KINDS:
        for connected in {True, kind[0] == "tcp"}:
            number, seconds = failure(world.cluster[client], space.target(kind, inside=True), connected)
            assert number == errno.ECONNREFUSED
            assert seconds < 0.2
    assert drops(world) - before == {"no_endpoint": 6}
    (ours,) = {row["refused"] for row in counters(world, space) if row["name"].endswith("/UDP")}
    assert ours == 2


def drops(world: World) -> Counter[str]:
    rows = world.blixt.inspect(world.cluster["node1"], "drops")
    return Counter({row["reason"]: row["ipv4"] + row["ipv6"] for row in rows})


def counters(world: World, space: Space) -> list[dict[str, Any]]:
    rows = world.blixt.inspect(world.cluster["node1"], "services")
    return [row for row in rows if f"/{space.name}:" in row["name"]]


def test_internal_traffic_policy_local_denies_where_no_endpoint_is(world: World, space: Space) -> None:
    space.serve(world.pod("2-1"), internalTrafficPolicy="Local")
    here, there = world.pods("1-1", "2-2")
    assert space.outcomes(here, inside=True) == dict.fromkeys(KINDS, "EPERM")
    assert space.outcomes(there, inside=True) == dict.fromkeys(KINDS, "2-1")


def test_external_addresses_lead_to_every_endpoint_whatever_their_policy(world: World, space: Space) -> None:
    space.serve(world.pod("2-1"), type="LoadBalancer", externalTrafficPolicy="Local")
    assert space.outcomes(world.pod("1-1")) == dict.fromkeys(KINDS, "2-1")


def test_shares_are_as_for_packets(world: World, space: Space) -> None:
    space.route({"blue": 50, "missing": 50}, {"blue": world.pods("1-1")})
    tcp, udp = (world.pod("1-2").do(spread(space.target((protocol, 4)), 600)) for protocol in ("tcp", "udp"))
    assert set(tcp.failures) == {"refused"}
    assert tcp.share("pod-1-1") == pytest.approx(0.5, abs=0.08)
    assert set(udp.failures) == {"EPERM"}
    assert udp.share("pod-1-1") == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_affinity_is_a_network_namespaces(world: World, space: Space, protocol: str) -> None:
    space.serve(*world.cluster.pods, sessionAffinity="ClientIP")
    chosen: set[str] = set()
    for client in (*world.cluster.pods, *world.cluster.nodes):
        got = client.do(spread(space.target((protocol, 6), inside=True), 40))
        assert got.failures == {}
        assert len(got.answers) == 1, f"{client.name} reached several"
        chosen |= got.answers.keys()
    assert len(chosen) > 1, "everyone got the same endpoint"


def test_affinity_is_for_datagrams_too(world: World, space: Space) -> None:
    space.serve(*world.cluster.pods, sessionAffinity="ClientIP")
    target = space.target(("udp", 4), inside=True)
    servers = set()
    for _ in range(12):
        with Datagrams(world.pod("1-1"), 4) as datagrams:
            servers.add(datagrams.ask(target)[0])
    assert len(servers) == 1


def test_unconnected_sockets_spread_over_endpoints(world: World, space: Space) -> None:
    space.serve(*world.cluster.pods)
    target = space.target(("udp", 6), inside=True)
    servers: Counter[str] = Counter()
    for _ in range(80):
        with Datagrams(world.pod("1-1"), 6) as datagrams:
            servers[datagrams.ask(target)[0]] += 1
    assert set(servers) == {pod.name for pod in world.cluster.pods}
    assert max(servers.values()) < 45


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("algorithm", ["maglev", "least-connections"])
def test_sockets_spread_by_any_algorithm(
    world: World, space: Space, algorithm: str, kind: tuple[str, int]
) -> None:
    space.serve(*world.cluster.pods, algorithm=algorithm)
    got = world.pod("1-1").do(spread(space.target(kind, inside=True), 200))
    assert got.failures == {}
    assert set(got.answers) == {pod.name for pod in world.cluster.pods}
    assert max(got.answers.values()) < 90
    assert space.known_flows() == []


@pytest.mark.parametrize("algorithm", ["maglev", "least-connections"])
def test_a_socket_leaves_an_endpoint_that_left_by_any_algorithm(
    world: World, space: Space, algorithm: str
) -> None:
    gone, stays = world.pods("1-2", "2-1")
    space.serve(gone, algorithm=algorithm)
    target = space.target(("udp", 4), inside=True)
    with Datagrams(world.pod("1-1"), 4) as datagrams:
        assert datagrams.ask(target)[0] == gone.name
        space.serve(gone, stays, algorithm=algorithm)
        assert {datagrams.ask(target)[0] for _ in range(10)} == {gone.name}, "it stays while it can"
        space.serve(stays, algorithm=algorithm)
        assert datagrams.ask(target) == (stays.name, target.address, target.port)


@pytest.mark.parametrize("client", ["pod-1-1", "node1", "pod-2-1"])
def test_node_ports_of_the_nodes_own_address(world: World, space: Space, client: str) -> None:
    number = next(_node_ports)
    made = manifests.service(space.name, space.inside, type="NodePort")
    for port in made["spec"]["ports"]:
        port["nodePort"] = number
    space.apply(made, *manifests.slices(space.name, world.pods("2-2")))
    host = world.cluster[client]
    node = host if host in world.cluster.nodes else world.cluster.node_of(host)
    for protocol in ("tcp", "udp"):
        for address in (node.address4, node.address6):
            target = Target(protocol, address, number)
            got = host.do(spread(target, 5))
            assert set(got.seen) <= {("pod-2-2", host.address4), ("pod-2-2", host.address6)}
            assert got.failures == {}
            assert peer_name(host, target) == (address, number)


def test_clients_outside_are_served_as_before(world: World, space: Space) -> None:
    space.serve(world.pod("2-1"))
    assert space.sights(world.cluster.client) == dict.fromkeys(KINDS, ("pod-2-1", "node1"))
    assert len(space.known_flows()) == 4
