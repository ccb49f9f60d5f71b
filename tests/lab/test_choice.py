"""Which endpoint a new connection gets, and what becomes of it when there is none for it."""

from __future__ import annotations

from typing import Any

import pytest

from blixt_lab import manifests
from blixt_lab.manifests import Ready
from blixt_lab.traffic import spread
from blixt_lab.world import KINDS, Space, World

pytestmark = pytest.mark.lab

#: Four standard deviations of 600 fair draws are 8 points.
DRAWS, TOLERANCE = 600, 0.08


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_routes_spread_by_weight_and_zero_gets_none(
    world: World, space: Space, kind: tuple[str, int]
) -> None:
    one, two, three = world.pods("1-1", "2-1", "2-2")
    space.route({"blue": 70, "green": 30, "grey": 0}, {"blue": [one], "green": [two], "grey": [three]})
    got = world.cluster.client.do(spread(space.target(kind), DRAWS))
    assert got.failures == {}
    assert got.share("pod-1-1") == pytest.approx(0.7, abs=TOLERANCE)
    assert got.share("pod-2-1") == pytest.approx(0.3, abs=TOLERANCE)
    assert got.answers["pod-2-2"] == 0


def test_a_services_endpoints_get_even_shares(world: World, space: Space) -> None:
    space.serve(*world.cluster.pods)
    got = world.cluster["pod-1-2"].do(spread(space.target(("tcp", 4), inside=True), DRAWS))
    assert got.failures == {}
    assert {pod.name: got.share(pod.name) for pod in world.cluster.pods} == pytest.approx(
        {pod.name: 0.25 for pod in world.cluster.pods}, abs=TOLERANCE
    )


@pytest.mark.parametrize("version", [4, 6])
def test_the_share_of_a_missing_backend_is_refused_for_tcp_and_dropped_for_udp(
    world: World, space: Space, version: int
) -> None:
    space.route({"blue": 50, "missing": 50}, {"blue": world.pods("1-1")})
    client = world.cluster.client
    tcp = client.do(spread(space.target(("tcp", version)), DRAWS))
    assert set(tcp.failures) == {"refused"}
    assert tcp.share("pod-1-1") == pytest.approx(0.5, abs=TOLERANCE)
    udp = client.do(spread(space.target(("udp", version)), 200, concurrency=100, patience=0.8))
    assert set(udp.failures) == {"timeout"}
    assert udp.share("pod-1-1") == pytest.approx(0.5, abs=2 * TOLERANCE)


@pytest.mark.parametrize("client", ["client1", "pod-1-1", "node1"])
def test_a_service_without_endpoints_refuses(world: World, space: Space, client: str) -> None:
    space.serve()
    assert space.outcomes(world.cluster[client]) == dict.fromkeys(KINDS, "refused")


def test_an_endpoint_that_is_not_ready_gets_nothing(world: World, space: Space) -> None:
    space.serve(Ready(world.pod("1-1"), ready=False, serving=False), world.pod("2-1"))
    got = world.cluster.client.do(spread(space.target(("tcp", 4)), 60))
    assert got.answers == {"pod-2-1": 60}


def test_external_traffic_policy_local_drops_outsiders_where_no_endpoint_is(
    world: World, space: Space
) -> None:
    space.serve(world.pod("2-1"), type="LoadBalancer", externalTrafficPolicy="Local")
    cluster = world.cluster
    outside, other = cluster.clients
    assert space.outcomes(outside, patience=0.8) == dict.fromkeys(KINDS, "timeout")
    # By the node where the endpoint is, it is reached, and sees its client.
    cluster.route_services(cluster["node2"], of=[other])
    try:
        assert space.sights(other) == dict.fromkeys(KINDS, ("pod-2-1", "client2"))
    finally:
        cluster.route_services(cluster["node1"], of=[other])
    # Clients of the cluster don't care.
    assert space.outcomes(cluster["pod-1-1"]) == dict.fromkeys(KINDS, "2-1")


def test_external_traffic_policy_local_uses_endpoints_of_the_node_only(world: World, space: Space) -> None:
    space.serve(*world.cluster.pods, type="LoadBalancer", externalTrafficPolicy="Local")
    got = world.cluster.client.do(spread(space.target(("tcp", 4)), 100))
    assert got.failures == {}
    assert {server for server, _ in got.seen} == {"pod-1-1", "pod-1-2"}
    assert {client for _, client in got.seen} == {world.cluster.client.address4}


def test_internal_traffic_policy_local_drops_where_no_endpoint_is(world: World, space: Space) -> None:
    space.serve(world.pod("2-1"), internalTrafficPolicy="Local")
    here, there = world.pods("1-1", "2-2")
    assert space.outcomes(here, inside=True, patience=0.8) == dict.fromkeys(KINDS, "timeout")
    assert space.outcomes(there, inside=True) == dict.fromkeys(KINDS, "2-1")


def test_source_ranges_let_in_whom_they_name(world: World, space: Space) -> None:
    allowed, other = world.cluster.clients
    ranges = [f"{allowed.address4}/32", f" {allowed.address6}/128 "]
    made = manifests.service(
        space.name, space.inside, balancers=space.outside, loadBalancerSourceRanges=ranges
    )
    space.apply(made, *manifests.slices(space.name, world.pods("1-1", "2-1")))
    assert set(space.outcomes(allowed).values()) <= {"1-1", "2-1"}
    assert space.outcomes(other, patience=0.8) == dict.fromkeys(KINDS, "timeout")


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_affinity_keeps_a_client_with_its_endpoint_until_that_is_gone(
    world: World, space: Space, kind: tuple[str, int]
) -> None:
    affinity: dict[str, Any] = {
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
    }
    pods = world.cluster.pods
    space.serve(*pods, **affinity)
    target = space.target(kind)
    client = world.cluster.client
    first = client.do(spread(target, 1))
    (chosen,) = first.answers
    assert client.do(spread(target, 40)).answers == {chosen: 40}
    space.serve(*(pod for pod in pods if pod.name != chosen), **affinity)
    moved = client.do(spread(target, 1))
    (second,) = moved.answers
    assert second != chosen
    assert client.do(spread(target, 40)).answers == {second: 40}
