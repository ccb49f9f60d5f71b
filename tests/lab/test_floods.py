"""Under attack: floods of new flows to the very services whose connections must go on."""

from __future__ import annotations

import contextlib
import random
import socket
from collections import Counter
from collections.abc import Iterator

import pytest

from blixt_lab import Host
from blixt_lab.load import holding
from blixt_lab.manifests import service, slices
from blixt_lab.traffic import Target, spread
from blixt_lab.wait import wait_for
from blixt_lab.world import KINDS, Space, World
from blixt_model.family import IPV4, IPV6, TCP, UDP
from blixt_model.frames import Shape, network_packet
from blixt_model.tables import Flow

pytestmark = pytest.mark.lab

PACKETS = 8_000
HELD = 10
_SYN = 0x02
_IPV6_HDRINCL = 36
#: Sources that nobody has, and that no node has a route to.
_SOURCES = {4: bytes([100, 64]), 6: bytes.fromhex("20010db8f100")}


def flood(client: Host, target: Target, packets: int = PACKETS, seed: int = 1) -> None:
    """New flows from random sources, each of one packet: a SYN, or a datagram."""
    choose = random.Random(seed)
    family = IPV4 if ":" not in target.address else IPV6
    number = socket.AF_INET if family is IPV4 else socket.AF_INET6
    to = socket.inet_pton(number, target.address)
    head = _SOURCES[family.version]
    protocol = TCP if target.protocol == "tcp" else UDP

    def send() -> None:
        with socket.socket(number, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            if family is IPV4:
                raw.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
            else:
                raw.setsockopt(socket.IPPROTO_IPV6, _IPV6_HDRINCL, 1)
            for _ in range(packets):
                source = head + choose.randbytes(family.address_size - len(head))
                flow = Flow(source, to, choose.randrange(1024, 65536), target.port, protocol)
                shape = Shape(family, flow, payload=b"" if protocol == TCP else b"flood", tcp_flags=_SYN)
                raw.sendto(network_packet(shape), (target.address, 0))

    client.call(send)


@contextlib.contextmanager
def held(world: World, space: Space) -> Iterator[None]:
    """Connections of every kind from the network and from a pod; none may be lost or moved, and all go on.

    Datagrams may go unanswered meanwhile: what floods an endpoint overflows its own socket, too.
    """
    clients = (world.cluster.client, world.pod("1-2"))
    with contextlib.ExitStack() as stack:
        results = {
            f"{kind} from {client.name}": stack.enter_context(
                holding(client, space.target(kind), HELD, interval=0.1)
            ).result
            for kind in KINDS
            for client in clients
        }
        yield
        exchanges = {name: result.exchanges for name, result in results.items()}
        wait_for(
            lambda: all(result.exchanges > exchanges[name] + HELD for name, result in results.items()),
            "each connection to be used once more",
        )
    troubles = {
        name: (result.lost, result.moved) for name, result in results.items() if result.lost or result.moved
    }
    assert troubles == {}, f"lost, moved: {troubles}"


@pytest.mark.parametrize("endpoint", ["1-1", "2-1"], ids=["local", "remote"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind[0]}-v{kind[1]}")
def test_connections_don_t_notice_a_flood(
    world: World, space: Space, kind: tuple[str, int], endpoint: str
) -> None:
    space.serve(world.pod(endpoint))
    with held(world, space):
        before = embryonic(space)
        flood(world.cluster.clients[1], space.target(kind))
        after = embryonic(space)
    protocol = kind[0].upper()
    assert after[protocol] > before[protocol] + PACKETS // 2


def test_new_connections_are_made_during_a_flood(world: World, space: Space) -> None:
    space.serve(world.pod("1-1"), world.pod("2-1"))
    target = space.target(("tcp", 4))
    flood(world.cluster.clients[1], target)
    tally = world.cluster.client.do(spread(target, 20))
    assert (tally.failures, sum(tally.answers.values())) == ({}, 20)


def test_where_no_port_is_left_connections_go_on_and_drops_are_counted(world: World, space: Space) -> None:
    """Each new flow to an endpoint of another node takes one of the node's ports, by a backend with few."""
    node, backend = world.cluster["node1"], world.blixt.backends["node1"]
    argv = backend.argv
    assert backend.terminate() == 0
    backend.argv = world.blixt.backend_command(node, "--masquerade-ports", "1024-2023")
    try:
        backend.start()
        space.apply(
            service(space.name, space.inside, external=space.outside),
            *slices(space.name, [world.pod("2-1")]),
        )
        with held(world, space):
            before = exhausted(world)
            for kind in KINDS:
                flood(world.cluster.clients[1], space.target(kind), 4_000)
            dropped = exhausted(world) - before
        assert min(dropped["ipv4"], dropped["ipv6"]) > 1_000
    finally:
        assert backend.terminate() == 0
        backend.argv = argv
        backend.start()


def embryonic(space: Space) -> Counter[str]:
    """Flows to these addresses that node1 knows and that are no connections, by protocol."""
    return Counter(row["protocol"] for row in space.known_flows() if row["state"] == "embryonic")


def exhausted(world: World) -> Counter[str]:
    """node1's packets without a free port, by family."""
    (row,) = (
        row
        for row in world.blixt.inspect(world.cluster["node1"], "drops")
        if row["reason"] == "ports_exhausted"
    )
    return Counter({family: row[family] for family in ("ipv4", "ipv6")})
