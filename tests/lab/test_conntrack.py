"""The node's own connection tracking beside us: it sees all of a flow, or nothing of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterator

import pytest

from blixt_lab import Host, wait_for
from blixt_lab.load import start_servers
from blixt_lab.rules import Watch, watching
from blixt_lab.traffic import TalkError, converse
from blixt_lab.world import KINDS, Space, World

pytestmark = [pytest.mark.lab]


@pytest.fixture(scope="module")
def watches(world: World) -> Iterator[list[Watch]]:
    """Both nodes drop what is INVALID; servers on the nodes, too."""
    servers = start_servers(world.cluster.lab, world.cluster.nodes)
    with watching(*world.cluster.nodes) as found:
        yield found
    for server in servers.values():
        server.kill()


@pytest.fixture(autouse=True)
def nothing_is_invalid(watches: list[Watch]) -> Iterator[None]:
    before = [watch.invalid() for watch in watches]
    yield
    for watch, known in zip(watches, before, strict=True):
        assert [packet for packet in watch.invalid() if packet not in known] == [], watch.host.name


CLIENTS = ("client1", "pod-1-1", "pod-2-1", "node1", "node2")
ENDPOINTS = ("pod-1-1", "pod-1-2", "pod-2-2", "node1", "node2")


@pytest.mark.parametrize("inside", [True, False], ids=["cluster-ip", "external-ip"])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("client", CLIENTS)
def test_every_path(world: World, space: Space, client: str, endpoint: str, inside: bool) -> None:
    if client == endpoint and client.startswith("node"):
        pytest.skip("such packets stay on loopback")
    if client == "client1" and inside:
        pytest.skip("from outside by external addresses")
    space.serve(world.cluster[endpoint])
    host = world.cluster[client]

    async def several(kind: tuple[str, int]) -> None:
        """First packets, many, large ones, and a close."""
        async with converse(space.target(kind, inside), patience=3) as conversation:
            for turn in range(5):
                text = f"{turn}-" + "x" * (20_000 if kind[0] == "tcp" else 1000)
                assert (await conversation.ask(text, patience=3)).text == text

    for kind in KINDS:
        host.do(several(kind))


@pytest.mark.parametrize("version", [4, 6])
def test_a_packet_of_half_a_connection_would_be_noticed(
    world: World, watches: list[Watch], version: int
) -> None:
    client, node = world.cluster.client, world.cluster["node1"]
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    segment = struct.pack("!HHIIBBHHH", 9, 9, 0, 0, 5 << 4, 0x10, 1000, 0, 0)  # an ACK

    def stray() -> None:
        with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
            raw.sendto(segment, (node.address4 if version == 4 else node.address6, 0))

    client.call(stray)
    wait_for(watches[0].invalid, "the packet to be seen")
    watches[0].forget()


@pytest.mark.parametrize("client", CLIENTS)
def test_the_first_packets_to_neighbours_that_are_not_known(world: World, space: Space, client: str) -> None:
    space.serve(*world.pods("1-1", "1-2", "2-1", "2-2"))
    for kind in KINDS:
        for node in world.cluster.nodes:
            node.ip("neigh flush all nud reachable nud stale nud delay nud probe")
        assert space.outcome(world.cluster[client], kind) in ("1-1", "1-2", "2-1", "2-2")


@pytest.mark.parametrize("client", CLIENTS)
def test_refusals(world: World, space: Space, client: str) -> None:
    space.serve()
    assert space.outcomes(world.cluster[client]) == dict.fromkeys(KINDS, "refused")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("client", CLIENTS)
def test_errors_of_the_endpoint(world: World, space: Space, client: str, endpoint: str) -> None:
    if client == endpoint and client.startswith("node"):
        pytest.skip("such packets stay on loopback")
    space.serve(world.cluster[endpoint], ports={"tcp": 9, "udp": 9})
    assert space.outcomes(world.cluster[client]) == dict.fromkeys(KINDS, "refused")


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("client", CLIENTS)
def test_endpoints_that_leave(world: World, space: Space, client: str, endpoint: str, version: int) -> None:
    if client == endpoint and client.startswith("node"):
        pytest.skip("such packets stay on loopback")
    space.serve(world.cluster[endpoint])

    async def until_reset() -> None:
        async with converse(space.target(("tcp", version)), patience=3) as conversation:
            await conversation.ask("before", 3)
            await asyncio.to_thread(space.serve)
            with pytest.raises(TalkError, match="reset"):
                await conversation.ask("after", 3)

    world.cluster[client].do(until_reset())


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("endpoint", ["1-1", "2-1"], ids=["local", "remote"])
@pytest.mark.parametrize("client", ["client1", "pod-1-2", "node1"])
def test_segments_that_are_too_big(
    world: World, space: Space, client: str, endpoint: str, version: int
) -> None:
    """The way to the endpoint is narrow from the node on; who sends allows IPv4 to be cut to pieces."""
    pod = world.pod(endpoint)
    space.serve(pod)

    async def large() -> None:
        async with converse(space.target(("tcp", version)), patience=5) as conversation:
            conversation.allow_fragments()
            for turn in range(4):
                text = f"{turn}-" + "x" * 9000
                assert (await conversation.ask(text, patience=5)).text == text

    with narrow_way(world, pod):
        world.cluster[client].do(large())


@pytest.mark.parametrize(
    ("client", "endpoint", "is_cut"),
    [
        ("client1", "1-1", True),
        ("pod-1-2", "1-1", True),
        ("pod-1-2", "2-1", True),
        ("client1", "2-1", False),  # masqueraded: the stack takes nothing from an address of the node's own
        ("node1", "1-1", False),  # has been through the stack
        ("node1", "2-1", False),
    ],
)
def test_datagrams_that_are_too_big(
    world: World, space: Space, client: str, endpoint: str, is_cut: bool
) -> None:
    """Cut to pieces where the stack can do that, as IPv4 allows it, else the client is told."""
    pod = world.pod(endpoint)
    space.serve(pod)

    async def large() -> int:
        async with converse(space.target(("udp", 4)), patience=3) as conversation:
            conversation.allow_fragments()
            with contextlib.suppress(TalkError):
                assert len((await conversation.ask("x" * 1430, patience=1)).text) == 1430
                assert is_cut
            return conversation.path_mtu()

    with narrow_way(world, pod):
        assert world.cluster[client].do(large()) == (1500 if is_cut else 1400)


@contextlib.contextmanager
def narrow_way(world: World, pod: Host) -> Iterator[None]:
    """On node1, not at the pod's own end: its answers are as large as ever."""
    node = world.cluster["node1"]
    other = world.cluster.node_of(pod)
    changes = []
    for address, via in ((pod.address4, other.address4), (pod.address6, other.address6)):
        way = f"{address} dev veth{pod.name[-1]}" if other is node else f"{address} via {via}"
        undo = f"route replace {way}" if other is node else f"route del {way}"
        changes.append((f"route replace {way} mtu lock 1400", undo))
    node.ip(*(narrow for narrow, _ in changes))
    try:
        yield
    finally:
        node.ip(*(usual for _, usual in changes))
