"""Services that ask for an algorithm by annotation."""

from __future__ import annotations

from collections import Counter

import pytest

from blixt_lab import Host, manifests, wait_for
from blixt_lab.load import holding
from blixt_lab.traffic import Target, converse, spread
from blixt_lab.world import KINDS, Space, World

pytestmark = pytest.mark.lab

_FLOWS = range(41_000, 41_040)
_ALGORITHMS = ("weighted-random", "maglev", "least-connections")


def servers_of_flows(client: Host, target: Target, ports: range = _FLOWS) -> dict[int, str]:
    """Who answers from each of the client's ports."""
    address = client.address6 if ":" in target.address else client.address4

    async def ask_all() -> dict[int, str]:
        found = {}
        for port in ports:
            async with converse(target, source=(address, port)) as conversation:
                conversation.end_by_reset()
                found[port] = (await conversation.ask("who", 3.0)).server
        return found

    return client.do(ask_all())


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_by_maglev_a_flow_has_the_same_endpoint_whichever_node_it_comes_in_by(
    world: World, space: Space, kind: tuple[str, int]
) -> None:
    cluster = world.cluster
    client, first, second = cluster.client, *cluster.nodes
    # Node 2 has numbered them otherwise: it knew some of them before.
    space.serve(*world.pods("2-2", "1-2"), algorithm="maglev")
    space.serve(*cluster.pods, algorithm="maglev")
    target = space.target(kind)
    try:
        by_first = servers_of_flows(client, target)
        cluster.route_services(second)
        by_second = servers_of_flows(client, target)
    finally:
        cluster.route_services(first)
    assert by_first == by_second
    assert set(by_first.values()) == {pod.name for pod in cluster.pods}
    assert {row["service_name"] for row in space.known_flows(second.name)}, "they did come by node 2"


def test_by_maglev_with_affinity_a_client_has_one_endpoint_on_all_nodes(world: World, space: Space) -> None:
    cluster = world.cluster
    space.serve(*cluster.pods, sessionAffinity="ClientIP", algorithm="maglev")
    for kind in KINDS:
        target = space.target(kind)
        try:
            found = set(servers_of_flows(cluster.client, target, _FLOWS[:10]).values())
            cluster.route_services(cluster.nodes[1])
            found |= set(servers_of_flows(cluster.client, target, _FLOWS[:10]).values())
        finally:
            cluster.route_services(cluster.nodes[0])
        assert len(found) == 1


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_change_of_the_algorithm_moves_no_connection(
    world: World, space: Space, kind: tuple[str, int]
) -> None:
    space.serve(*world.cluster.pods, algorithm="weighted-random")
    target = space.target(kind)
    with holding(world.cluster.client, target, 20, interval=0.1) as held:
        before = Counter(held.result.by_server)
        for algorithm in ("maglev", "least-connections", "weighted-random"):
            space.serve(*world.cluster.pods, algorithm=algorithm)
        exchanges = held.result.exchanges
        wait_for(lambda: held.result.exchanges > exchanges + 40, "two more answers in each conversation")
        assert held.result.by_server == before
        assert (held.result.lost, held.result.moved, held.result.missed.total()) == ([], 0, 0)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("client", ["client1", "pod-1-2"])
def test_least_connections_avoids_who_has_many(
    world: World, space: Space, kind: tuple[str, int], client: str
) -> None:
    busy, idle = world.pods("1-1", "2-1")
    target, host = space.target(kind), world.cluster[client]
    space.serve(busy, algorithm="least-connections")
    with holding(host, target, 30, interval=0.2):
        space.serve(busy, idle, algorithm="least-connections")
        with holding(host, target, 20, interval=0.2) as later:
            # UDP flows become connections, and count, with their second datagram.
            wait_for(lambda: later.result.exchanges > 40, "two answers in each conversation")
            assert later.result.by_server[idle.name] >= 18


def test_connections_that_were_there_before_count_soon(world: World, space: Space) -> None:
    busy, idle = world.pods("1-1", "2-1")
    kind = ("tcp", 4)
    space.serve(busy, algorithm="weighted-random")
    with holding(world.cluster.client, space.target(kind), 30):
        space.serve(busy, idle, algorithm="least-connections")
        wait_for(lambda: open_connections(world, space, busy) == 30, "the connections to be counted")
        with holding(world.cluster.client, space.target(kind), 10) as later:
            assert later.result.by_server[idle.name] == 10
    wait_for(lambda: open_connections(world, space, busy) == 0, "their ends to be counted")


def open_connections(world: World, space: Space, pod: Host) -> int:
    """To a pod, over IPv4 and TCP, as node 1 counts them."""
    rows = world.blixt.inspect(world.cluster["node1"], "services")
    (ours,) = [
        row for row in rows if row["name"].endswith(f"/{space.name}:tcp/TCP") and row["family"] == "ipv4"
    ]
    (found,) = [each for each in ours["endpoints"] if each["address"] == pod.address4]
    opened: int = found["open_connections"]
    return opened


@pytest.mark.parametrize("algorithm", _ALGORITHMS[1:])
def test_policies_shares_and_affinity_hold_by_any_algorithm(
    world: World, space: Space, algorithm: str
) -> None:
    cluster = world.cluster
    space.serve(world.pod("2-1"), type="LoadBalancer", externalTrafficPolicy="Local", algorithm=algorithm)
    assert space.outcomes(cluster.client, patience=0.8) == dict.fromkeys(KINDS, "timeout")
    assert space.outcomes(cluster["pod-1-1"]) == dict.fromkeys(KINDS, "2-1")
    space.serve(algorithm=algorithm)
    assert space.outcomes(cluster.client) == dict.fromkeys(KINDS, "refused")
    space.serve(*cluster.pods, sessionAffinity="ClientIP", algorithm=algorithm)
    for kind in KINDS:
        assert len(cluster.client.do(spread(space.target(kind), 30)).answers) == 1


@pytest.mark.parametrize("kind", [("tcp", 4), ("udp", 6)], ids=str)
@pytest.mark.parametrize("algorithm", _ALGORITHMS[1:])
def test_a_gateways_listeners_keep_weights_by_any_algorithm(
    world: World, space: Space, algorithm: str, kind: tuple[str, int]
) -> None:
    one, two = world.pods("1-1", "2-1")
    class_, gateway = manifests.gateway(space.name, space.outside)
    annotated = {**gateway["metadata"], "annotations": {"blixt.dev/algorithm": algorithm}}
    names = {f"{space.name}-blue": [one], f"{space.name}-green": [two]}
    space.apply(
        class_,
        {**gateway, "metadata": annotated},
        *manifests.routes(space.name, {f"{space.name}-blue": 70, f"{space.name}-green": 30}),
        *manifests.backend_services(names, 150),
    )
    got = world.cluster.client.do(spread(space.target(kind), 600))
    assert got.failures == {}
    # By least connections a share depends on how long connections last, too.
    tolerance = 0.08 if algorithm == "maglev" else 0.25
    assert got.share("pod-1-1") == pytest.approx(0.7, abs=tolerance)
    rows = world.blixt.inspect(world.cluster["node1"], "services")
    ours = [row for row in rows if f"/{space.name}." in row["name"]]
    assert {row["algorithm"].lower() for row in ours} == {algorithm.replace("-", "")}
