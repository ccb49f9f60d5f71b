"""Tagged frames on an uplink: another network's, which the node's VLAN device carries, or a priority only."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from blixt_lab import Host, cluster, vlan
from blixt_lab.blixt import Blixt
from blixt_lab.load import start_servers
from blixt_lab.traffic import ask
from blixt_lab.wire import Heard, listening, send
from blixt_lab.world import KINDS, Space, World
from blixt_model.family import ETHERNET_SIZE, IPV4, IPV6, UDP
from blixt_model.frames import Shape, network_packet, tagged
from blixt_model.network import mac
from blixt_model.tables import Flow

pytestmark = pytest.mark.lab

Q, AD = 0x8100, 0x88A8
_PORT = 41000
_NODE, _CLIENT = ("172.31.0.1", "fd00:172:31::1"), ("172.31.0.2", "fd00:172:31::2")
_PREFIXES = (24, 64)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    "tags",
    [((Q, 200),), ((AD, 200),), ((AD, 200), (Q, 300)), ((Q, 0xE000 | 200),), ((Q, 0), (Q, 200))],
    ids=["802.1Q", "802.1ad", "two", "with-priority", "inside-priority"],
)
def test_another_networks_frames_are_not_taken_for_a_services(
    world: World, space: Space, tags: tuple[tuple[int, int], ...], version: int
) -> None:
    space.serve(world.pod("1-1"))
    untagged = datagram(world, space, version, b"untagged")
    with listening(world.pod("1-1")) as pod:
        send(world.cluster.client, tagged(datagram(world, space, version, b"tagged"), *tags), untagged)
        pod.wait(lambda heard: heard.frame.endswith(b"untagged"), "the frame without a tag, sent after it")
        assert [heard for heard in pod.heard() if heard.frame.endswith(b"!tagged")] == []
    assert len(space.known_flows()) <= 1


@pytest.mark.parametrize("version", [4, 6])
def test_a_priority_alone_is_no_other_network(world: World, space: Space, version: int) -> None:
    space.serve(world.pod("1-1"))
    frame = tagged(datagram(world, space, version, b"urgent"), (Q, 0xA000))
    with listening(world.pod("1-1")) as pod, listening(world.cluster.client) as client:
        send(world.cluster.client, frame)
        arrived = pod.wait(lambda heard: heard.frame.endswith(b"!urgent"), "the frame at the pod")
        answer = client.wait(lambda heard: is_answer(heard, version), "its answer")
    assert (arrived.tag, answer.tag) == (None, None)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind[0]}{kind[1]}")
@pytest.mark.parametrize("endpoint", ["1-1", "2-1"])
def test_a_vlan_device_serves_its_network(tagging: World, endpoint: str, kind: tuple[str, int]) -> None:
    """Of a trunk that has programs, too: what is tagged there gets through, and is answered with the tag."""
    space = Space(tagging, 1 + KINDS.index(kind) + 4 * (endpoint == "2-1"))
    space.serve(tagging.pod(endpoint))
    client, version = tagging.cluster.client, kind[1]
    with listening(client) as ear:
        answer = client.do(ask(space.target(kind)))
        answers = [heard for heard in ear.heard() if is_from(heard, space.target(kind).address)]
    kept = _CLIENT[version == 6] if endpoint == "1-1" else address_of(tagging.cluster["node1"], version)
    assert (answer.server, answer.client) == (f"pod-{endpoint}", kept)
    assert answers
    assert {heard.tag for heard in answers} == {vlan.NUMBER}
    space.close()


@pytest.fixture(scope="module")
def tagging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Client and node share eth0 as a trunk; the client's way to services is their VLAN."""
    programs = vlan.build(tmp_path_factory.mktemp("vlan"))
    with cluster(nodes=2, pods=1, clients=1) as built:
        node, client = built.nodes[0], built.client
        for host, addresses in ((node, _NODE), (client, _CLIENT)):
            own = (f"{address}/{prefix}" for address, prefix in zip(addresses, _PREFIXES, strict=True))
            vlan.add(host, programs, *own)
        there = replace(node, address4=_NODE[0], address6=_NODE[1])
        built.route_services(there, of=[client])
        servers = start_servers(built.lab, built.pods)
        blixt = Blixt(built, backend_options=["--interface", "eth0.*"])
        blixt.start()
        blixt.apply("ready")
        yield World(built, blixt, servers)


def datagram(world: World, space: Space, version: int, mark: bytes) -> bytes:
    """To the service, from the client as its kernel would send it; a server reads up to the mark."""
    client, node = world.cluster.client, world.cluster["node1"]
    family = IPV4 if version == 4 else IPV6
    target = space.target(("udp", version))
    source = packed(address_of(client, version))
    flow = Flow(source, packed(target.address), _PORT, target.port, UDP)
    head = mac(node.mac) + mac(client.mac) + family.ethertype.to_bytes(2, "big")
    return head + network_packet(Shape(family, flow, payload=b"!" + mark))


def is_answer(heard: Heard, version: int) -> bool:
    """To the port that `datagram` sends from."""
    transport = ETHERNET_SIZE + (20 if version == 4 else 40)
    return heard.frame[transport + 2 : transport + 4] == _PORT.to_bytes(2, "big")


def is_from(heard: Heard, address: str) -> bool:
    source = packed(address)
    at = ETHERNET_SIZE + (12 if len(source) == 4 else 8)
    return heard.frame[at : at + len(source)] == source


def address_of(host: Host, version: int) -> str:
    return host.address4 if version == 4 else host.address6


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
