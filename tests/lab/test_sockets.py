"""--socket-lb on: endpoints are chosen when this node's clients connect or send, not for their packets."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from blixt_lab import Host, cluster
from blixt_lab.blixt import Blixt
from blixt_lab.load import start_servers
from blixt_lab.traffic import Target
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
_serials = itertools.count()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Nodes whose backends look after the sockets of their own cgroups; servers on nodes, too."""
    with cluster(nodes=2, pods=2, clients=1, cgroups=True) as built:
        servers = start_servers(built.lab, [*built.pods, *built.nodes])
        blixt = Blixt(built, backend_options=["--socket-lb", "on"])
        blixt.start()
        blixt.apply("ready")
        yield World(built, blixt, servers)


class Datagrams:
    """An unconnected UDP socket on a host; `mapped`: an IPv6 socket that speaks IPv4."""

    def __init__(self, host: Host, version: int, mapped: bool = False) -> None:
        self._mapped = mapped
        family = socket.AF_INET6 if mapped or version == 6 else socket.AF_INET
        self.link = host.call(lambda: socket.socket(family, socket.SOCK_DGRAM))
        self.link.settimeout(3)

    def ask(self, target: Target) -> tuple[str, str, int]:
        """Send to a service: who answered, and the address and port that the answer came from."""
        prefix = "::ffff:" if self._mapped else ""
        text = f"datagram-{next(_serials)}"
        self.link.sendto(f"{text}\n".encode(), (f"{prefix}{target.address}", target.port))
        while True:
            answer, source = self.link.recvfrom(4096)
            fields = answer.decode().split()
            if fields[3] == text:
                return fields[0], source[0].removeprefix(prefix), source[1]

    def __enter__(self) -> Datagrams:
        return self

    def __exit__(self, *_: object) -> None:
        self.link.close()


def known_flows(world: World, space: Space, node: str = "node1") -> list[dict[str, Any]]:
    """What the packet programs know of flows to this test's addresses."""
    ours = {*space.inside, *space.outside}
    rows = world.blixt.inspect(world.cluster[node], "connections")
    return [row for row in rows if row["service"] in ours]


def named(world: World, address: str) -> str:
    for host in world.cluster.hosts:
        if address in (host.address4, host.address6):
            return host.name
    return address


@pytest.mark.parametrize("inside", [True, False], ids=["cluster-ip", "external-ip"])
@pytest.mark.parametrize(("client", "endpoint", "seen"), WAYS)
def test_who_reaches_whom_without_any_work_on_packets(
    world: World, space: Space, client: str, endpoint: str, seen: str, inside: bool
) -> None:
    space.serve(world.cluster[endpoint])
    assert space.sights(world.cluster[client], inside) == dict.fromkeys(KINDS, (endpoint, seen))
    for node in world.cluster.nodes:
        assert known_flows(world, space, node.name) == []


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
    assert known_flows(world, space) == []
