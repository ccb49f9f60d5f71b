"""Who reaches whom through a service, and whose address the endpoint sees."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from blixt_lab import Checksums, wait_for
from blixt_lab.traffic import TalkError, Target, ask, converse, spread
from blixt_lab.world import KINDS, Space, World

#: Below those that sockets get by themselves, above those for masquerading.
_client_ports = itertools.count(30_500)
pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("checksums")]


def test_a_client_outside_keeps_its_address_towards_an_endpoint_of_the_node(
    world: World, space: Space
) -> None:
    space.serve(world.pod("1-1"))
    assert space.sights(world.cluster.client) == dict.fromkeys(KINDS, ("pod-1-1", "client1"))


def test_a_client_outside_is_masqueraded_towards_an_endpoint_of_another_node(
    world: World, space: Space
) -> None:
    space.serve(world.pod("2-1"))
    assert space.sights(world.cluster.client) == dict.fromkeys(KINDS, ("pod-2-1", "node1"))


@pytest.mark.parametrize("inside", [True, False], ids=["cluster-ip", "external-ip"])
@pytest.mark.parametrize(
    ("client", "endpoint", "seen"),
    [
        pytest.param("pod-1-2", "1-1", "pod-1-2", id="pod-same-node"),
        pytest.param("pod-2-2", "1-1", "pod-2-2", id="pod-other-node"),
        pytest.param("pod-1-1", "1-1", "node1", id="pod-itself"),
        pytest.param("node1", "1-1", "node1", id="node-own-pod"),
        pytest.param("node1", "2-1", "node1", id="node-other-nodes-pod"),
    ],
)
def test_clients_of_the_cluster(
    world: World, space: Space, client: str, endpoint: str, seen: str, inside: bool
) -> None:
    space.serve(world.pod(endpoint))
    assert space.sights(world.cluster[client], inside) == dict.fromkeys(KINDS, (f"pod-{endpoint}", seen))


@pytest.mark.parametrize("endpoint", ["1-1", "2-1"], ids=["local", "remote"])
def test_large_exchanges_arrive_whole(world: World, space: Space, endpoint: str) -> None:
    space.serve(world.pod(endpoint))

    async def exchange(kind: tuple[str, int], size: int, turns: int) -> None:
        async with converse(space.target(kind), patience=10) as conversation:
            for turn in range(turns):
                text = f"{turn}-" + "x" * size
                assert (await conversation.ask(text, patience=10)).text == text

    for version in (4, 6):
        world.cluster.client.do(exchange(("tcp", version), 60_000, 30))
        world.cluster.client.do(exchange(("udp", version), 1300, 30))


def test_many_clients_ports_share_the_nodes_address_without_mixing_answers(
    world: World, space: Space, checksums: Checksums
) -> None:
    """Both clients use the same ports to an endpoint of another node, which must tell them apart."""
    space.serve(world.pod("2-1"))
    kind = ("udp", 4)

    async def from_port(source: str, port: int) -> str:
        async with converse(space.target(kind), 3, (source, port)) as conversation:
            answers = [await conversation.ask(f"{source}.{turn}", 3) for turn in range(3)]
        return answers[0].client

    async def from_ports(source: str) -> list[str]:
        return await asyncio.gather(*(from_port(source, port) for port in range(40_000, 40_050)))

    for client in world.cluster.clients:
        assert set(client.do(from_ports(client.address4))) == {world.cluster["node1"].address4}


def test_every_node_serves_a_client_that_reaches_both(world: World, space: Space) -> None:
    """By equal cost: each connection goes by one node, which masquerades as itself where it must."""
    cluster = world.cluster
    client = cluster.clients[1]
    space.serve(world.pod("2-1"))
    cluster.route_services(*cluster.nodes, of=[client])
    try:
        results = [client.do(spread(space.target(kind), 60)) for kind in KINDS]
    finally:
        cluster.route_services(cluster["node1"], of=[client])
    for result, (_, version) in zip(results, KINDS, strict=True):
        own, node1 = (host.address4 if version == 4 else host.address6 for host in (client, cluster["node1"]))
        assert result.failures == {}
        assert set(result.seen) == {("pod-2-1", own), ("pod-2-1", node1)}


def test_frames_for_another_host_are_left_alone(world: World, space: Space) -> None:
    """The fabric floods them, as it has never heard of that host: both nodes see them."""
    client, node = world.cluster.clients[1], world.cluster["node1"]
    space.serve(world.pod("1-1"))
    assert set(space.outcomes(client).values()) == {"1-1"}
    for address in (node.address4, node.address6):
        client.ip(f"neigh replace {address} lladdr 02:00:00:00:99:99 dev eth0 nud permanent")
    try:
        assert space.outcomes(client, patience=0.8) == dict.fromkeys(KINDS, "timeout")
    finally:
        for address in (node.address4, node.address6):
            client.ip(f"neigh del {address} dev eth0")


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("client", ["pod-1-2", "client1", "pod-2-2"])
def test_a_port_that_was_used_for_a_service_reaches_the_endpoint_itself(
    world: World, space: Space, client: str, kind: tuple[str, int]
) -> None:
    """The endpoint's answers must not be taken for the service's any more."""
    pod, host = world.pod("1-1"), world.cluster[client]
    space.serve(pod)
    protocol, version = kind
    address, own = (pod.address4, host.address4) if version == 4 else (pod.address6, host.address6)
    itself = Target(protocol, address, 8080 if protocol == "tcp" else 5353)
    port = next(_client_ports)
    assert host.do(ask(space.target(kind), source=(own, port))).client_port == port

    def answers() -> bool:
        try:
            return host.do(ask(itself, patience=1.5, source=(own, port))).client_port == port
        except TalkError:
            return False

    wait_for(answers, "the endpoint's own answers", timeout=5)
