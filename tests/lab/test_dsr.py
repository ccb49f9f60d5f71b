"""`--forwarding dsr`: packets go on to other nodes as they are, and answers don't come back that way."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from blixt_lab import Checksums, Host, cluster, wait_for
from blixt_lab.blixt import Blixt
from blixt_lab.load import holding, start_servers
from blixt_lab.manifests import Ready
from blixt_lab.rules import watching
from blixt_lab.traffic import Held, TalkError, Target, converse, spread
from blixt_lab.world import KINDS, Space, World

pytestmark = [pytest.mark.lab]

_DSR, _SNAT = ["--forwarding", "dsr"], ["--forwarding", "snat"]
#: An IPv4 header, an IPv6 header.
_OUTER = {4: 20, 6: 40}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Both nodes forward so; client1's packets come in by node1."""
    with cluster(nodes=2, pods=2, clients=2) as built:
        servers = start_servers(built.lab, [*built.pods, *built.nodes])
        blixt = Blixt(built, backend_options=_DSR)
        blixt.start()
        blixt.apply("ready")
        yield World(built, blixt, servers)


@pytest.fixture(params=list(Checksums), ids=lambda checksums: checksums.value)
def checksums(world: World, request: pytest.FixtureRequest) -> Iterator[Checksums]:
    world.cluster.set_checksums(request.param)
    yield request.param
    world.cluster.set_checksums(Checksums.PARTIAL)


@pytest.mark.parametrize("endpoint", ["pod-2-1", "pod-1-1", "node2", "node1"])
def test_the_endpoint_sees_the_client(
    world: World, space: Space, endpoint: str, checksums: Checksums
) -> None:
    space.serve(world.cluster[endpoint])
    assert space.sights(world.cluster.client) == dict.fromkeys(KINDS, (endpoint, "client1"))


@pytest.mark.parametrize(
    ("client", "seen"), [("pod-1-1", "pod-1-1"), ("node1", "node1"), ("pod-2-1", "node2")]
)
def test_clients_of_the_cluster_need_no_tunnel(world: World, space: Space, client: str, seen: str) -> None:
    space.serve(world.pod("2-1"))
    assert space.sights(world.cluster[client], inside=True) == dict.fromkeys(KINDS, ("pod-2-1", seen))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_large_exchanges_arrive_whole_and_their_answers_go_by_no_other_node(
    world: World, space: Space, kind: tuple[str, int], checksums: Checksums
) -> None:
    """Full-size segments don't fit the tunnel on a network of their own size; the client learns that."""
    space.serve(world.pod("2-1"))
    turns, size = (40, 60_000) if kind[0] == "tcp" else (40, 1200)

    async def exchange() -> None:
        async with converse(space.target(kind), patience=10) as conversation:
            for turn in range(turns):
                text = f"{turn}-" + "x" * size
                assert (await conversation.ask(text, patience=10)).text == text

    entry = world.cluster["node1"]
    before = carried(entry)
    world.cluster.client.do(exchange())
    came, went = (now - was for now, was in zip(carried(entry), before, strict=True))
    there = turns * size
    assert there < came < there * 1.3, "the client's packets come in, and no answers"
    assert there < went < there * 1.3


def carried(node: Host) -> tuple[int, int]:
    """Bytes that came in by its uplink, and went out."""

    def read() -> tuple[int, int]:
        for line in Path("/proc/thread-self/net/dev").read_text().splitlines():
            name, _, numbers = line.strip().partition(":")
            if name == "eth0":
                return int(numbers.split()[0]), int(numbers.split()[8])
        raise AssertionError("no uplink")

    return node.call(read)


@pytest.mark.parametrize("version", [4, 6])
def test_the_tunnel_s_header_counts_in_the_path_s_mtu(world: World, space: Space, version: int) -> None:
    space.serve(world.pod("2-1"))
    assert learned_mtu(world, space, version) == 1500 - _OUTER[version]


@pytest.mark.parametrize("version", [4, 6])
def test_a_narrow_part_of_the_tunnel_s_way_is_told_to_the_client(
    world: World, space: Space, version: int
) -> None:
    """The second client is a router between the nodes; what it sends on may have 1400 bytes."""
    cluster = world.cluster
    entry, router, pod = cluster["node1"], cluster.clients[1], world.pod("2-1")
    space.serve(pod)
    router.sysctl({"ipv4/ip_forward": 1, "ipv6/conf/all/forwarding": 1})
    ways = [(pod.address4, 32, "address4"), (pod.address6, 128, "address6")]
    for address, bits, via in ways:
        router.ip(f"route replace {address}/{bits} via {getattr(cluster['node2'], via)} mtu 1400")
        entry.ip(f"route replace {address}/{bits} via {getattr(router, via)}")
    try:
        assert learned_mtu(world, space, version) == 1400 - _OUTER[version]
    finally:
        for address, bits, _ in ways:
            for host in (router, entry):
                host.ip(f"route del {address}/{bits}")
        router.sysctl({"ipv4/ip_forward": 0, "ipv6/conf/all/forwarding": 0})


def learned_mtu(world: World, space: Space, version: int) -> int:
    """What the client's host comes to know of the path, and that datagrams of that size get through."""
    target = space.target(("udp", version))
    usual = 1500

    def learn() -> int:
        with strict_socket(target) as link:

            def told() -> int:
                with contextlib.suppress(OSError):
                    link.send(b"x" * (usual - _OUTER[version] - 8))
                mtu = path_mtu(link)
                return mtu if mtu < usual else 0

            def fits() -> bool:
                with contextlib.suppress(OSError):
                    mtu = path_mtu(link)
                    link.send(b"y" * (mtu - _OUTER[version] - 8 - 40))
                    return b"yyyy" in link.recv(2000)
                return False

            wait_for(told, "the client to learn the path's MTU")
            # A path has several parts, each of which may have to be learned.
            link.settimeout(1)
            wait_for(fits, "what fits to get through")
            return path_mtu(link)

    return world.cluster.client.call(learn)


def strict_socket(target: Target) -> socket.socket:
    link = socket.socket(target.family, socket.SOCK_DGRAM)
    ipv4 = target.family == socket.AF_INET
    level, option = (socket.IPPROTO_IP, 10) if ipv4 else (socket.IPPROTO_IPV6, 23)  # MTU_DISCOVER: DO
    link.setsockopt(level, option, 2)
    link.connect((target.address, target.port))
    link.setblocking(False)
    return link


def path_mtu(link: socket.socket) -> int:
    ipv4 = link.family == socket.AF_INET
    level, option = (socket.IPPROTO_IP, 14) if ipv4 else (socket.IPPROTO_IPV6, 24)
    return link.getsockopt(level, option)


@pytest.mark.parametrize("version", [4, 6])
def test_an_error_about_an_answer_finds_the_endpoint(world: World, space: Space, version: int) -> None:
    """The way back is narrow, which is told to the service's address: the entry node passes it on."""
    client, pod = world.cluster.client, world.pod("2-1")
    space.serve(pod)

    async def ask() -> None:
        async with converse(space.target(("tcp", version)), patience=5) as conversation:
            for turn in range(3):
                text = f"{turn}-" + "x" * 20_000
                assert (await conversation.ask(text, patience=10)).text == text

    router = world.cluster.clients[1]
    router.sysctl({"ipv4/ip_forward": 1, "ipv6/conf/all/forwarding": 1})
    node = world.cluster["node2"]
    ways = [(client.address4, 32, router.address4), (client.address6, 128, router.address6)]
    for address, bits, via in ways:
        node.ip(f"route replace {address}/{bits} via {via}")
        router.ip(f"route replace {address}/{bits} dev eth0 mtu 1400")
    try:
        client.do(ask())
    finally:
        for address, bits, _ in ways:
            for host in (router, node):
                host.ip(f"route del {address}/{bits}")
        router.sysctl({"ipv4/ip_forward": 0, "ipv6/conf/all/forwarding": 0})


@pytest.mark.parametrize("version", [4, 6])
def test_connections_to_an_endpoint_that_left_are_reset(world: World, space: Space, version: int) -> None:
    space.serve(world.pod("2-1"))

    async def until_reset() -> None:
        async with converse(space.target(("tcp", version)), patience=3) as conversation:
            await conversation.ask("before", 3)
            await asyncio.to_thread(space.serve, world.pod("2-2"))
            with pytest.raises(TalkError, match="reset"):
                await conversation.ask("after", 3)

    world.cluster.client.do(until_reset())


@pytest.mark.parametrize("version", [4, 6])
def test_the_endpoint_s_node_resets_by_itself(
    world: World, space: Space, version: int, checksums: Checksums
) -> None:
    """The entry node has not heard yet that the endpoint left."""
    space.serve(world.pod("2-1"))
    entry = world.blixt.backends["node1"]

    async def until_reset() -> None:
        async with converse(space.target(("tcp", version)), patience=3) as conversation:
            await conversation.ask("before", 3)
            await conversation.ask("known", 3)
            entry.pause()
            space.world.blixt.remove(space.name)
            await asyncio.to_thread(gone_from, world, space, "node2")
            with pytest.raises(TalkError, match="reset"):
                await conversation.ask("after", 3)

    try:
        world.cluster.client.do(until_reset())
    finally:
        entry.resume()


def gone_from(world: World, space: Space, node: str) -> None:
    def is_gone() -> bool:
        rows = world.blixt.inspect(world.cluster[node], "services")
        return not any(space.name in row["name"] for row in rows)

    wait_for(is_gone, f"the service to go from {node}")


def test_refusals(world: World, space: Space) -> None:
    space.serve()
    assert space.outcomes(world.cluster.client) == dict.fromkeys(KINDS, "refused")
    space.serve(world.pod("2-1"), ports={"tcp": 9, "udp": 9})
    assert space.outcomes(world.cluster.client) == dict.fromkeys(KINDS, "refused")


def test_connections_drain(world: World, space: Space) -> None:
    pod = world.pod("2-1")
    space.serve(pod)
    with contextlib.ExitStack() as stack:
        held = [
            stack.enter_context(
                holding(world.cluster.client, space.target(kind), 5, 0.1, udp_patience=5)
            ).result
            for kind in KINDS
        ]
        space.serve(Ready(pod, ready=False, serving=True, terminating=True), world.pod("2-2"))
        went_on(held)
        assert set(space.outcomes(world.cluster.client).values()) == {"2-2"}
    assert [(each.lost, each.moved, dict(each.missed)) for each in held] == [([], 0, {})] * len(held)


def test_affinity(world: World, space: Space) -> None:
    space.serve(*world.pods("1-1", "1-2", "2-1", "2-2"), sessionAffinity="ClientIP")
    for kind in KINDS:
        seen = world.cluster.client.do(spread(space.target(kind), 20)).seen
        assert len(seen) == 1


def test_policy_local_keeps_to_the_node(world: World, space: Space) -> None:
    space.serve(*world.pods("1-1", "2-1"), type="LoadBalancer", externalTrafficPolicy="Local")
    assert space.sights(world.cluster.client) == dict.fromkeys(KINDS, ("pod-1-1", "client1"))


def test_all_nodes_endpoints_are_used_and_both_nodes_count(world: World, space: Space) -> None:
    space.serve(*world.pods("1-1", "1-2", "2-1", "2-2"))
    for kind in KINDS:
        result = world.cluster.client.do(spread(space.target(kind), 100))
        assert result.failures == {}
        assert {server for server, _ in result.seen} == {"pod-1-1", "pod-1-2", "pod-2-1", "pod-2-2"}
        assert {client for _, client in result.seen} == {
            world.cluster.client.address4 if kind[1] == 4 else world.cluster.client.address6
        }


def test_a_restart_with_the_other_forwarding_loses_no_connection(world: World, space: Space) -> None:
    space.serve(*world.pods("2-1", "2-2"))
    client = world.cluster.client
    with contextlib.ExitStack() as stack:
        held: list[Held] = []
        for options, masqueraded in ((_DSR, False), (_SNAT, True), (_DSR, False)):
            if held:
                restart(world, options)
            held += [
                stack.enter_context(holding(client, space.target(kind), 5, 0.1, udp_patience=5)).result
                for kind in KINDS
            ]
            expected = "node1" if masqueraded else "client1"
            assert {seen for _, seen in space.sights(client).values()} == {expected}
        went_on(held)
    assert [(each.lost, each.moved, dict(each.missed)) for each in held] == [([], 0, {})] * len(held)


def went_on(held: Sequence[Held]) -> None:
    exchanges = [each.exchanges for each in held]
    wait_for(
        lambda: all(each.exchanges > was + 20 for each, was in zip(held, exchanges, strict=True)),
        "the conversations to go on",
    )


def test_the_entry_node_s_backend_is_killed_and_comes_back(world: World, space: Space) -> None:
    space.serve(*world.pods("2-1", "2-2"))
    client, backend = world.cluster.client, world.blixt.backends["node1"]
    with contextlib.ExitStack() as stack:
        held = [
            stack.enter_context(holding(client, space.target(kind), 5, 0.1, udp_patience=5)).result
            for kind in KINDS
        ]
        backend.kill9()
        try:
            went_on(held)
            assert {seen for _, seen in space.sights(client).values()} == {"client1"}, "new ones are served"
        finally:
            backend.start()
        world.blixt.apply("restarted")
        went_on(held)
        assert {seen for _, seen in space.sights(client).values()} == {"client1"}
    assert [(each.lost, each.moved, dict(each.missed)) for each in held] == [([], 0, {})] * len(held)


def test_connections_that_come_in_by_another_node_go_on(world: World, space: Space) -> None:
    """Their endpoints' node knows them, whichever node their packets come by."""
    space.serve(*world.pods("2-1", "2-2"))
    cluster = world.cluster
    with contextlib.ExitStack() as stack:
        held = [
            stack.enter_context(holding(cluster.client, space.target(kind), 5, 0.1, udp_patience=5)).result
            for kind in KINDS
        ]
        went_on(held)
        try:
            for node in ("node2", "node1"):
                cluster.route_services(cluster[node], of=[cluster.client])
                went_on(held)
        finally:
            cluster.route_services(cluster["node1"], of=[cluster.client])
    assert [(each.lost, each.moved, dict(each.missed)) for each in held] == [([], 0, {})] * len(held)


def test_nobody_but_nodes_sends_tunnels(world: World, space: Space) -> None:
    space.serve(world.pod("2-1"))
    nodes = [address for node in world.cluster.nodes for address in (node.address4, node.address6)]
    try:
        restart(world, [*_DSR, "--node-ranges", ",".join(nodes)])
        assert set(space.outcomes(world.cluster.client).values()) == {"2-1"}
        restart(world, [*_DSR, "--node-ranges", "203.0.113.0/24"])
        before = drops(world, "node2")
        ended = space.outcomes(world.cluster.client, patience=1)
        assert ended == dict.fromkeys(KINDS, "timeout")
        assert drops(world, "node2") > before
    finally:
        restart(world, _DSR)
    assert set(space.outcomes(world.cluster.client).values()) == {"2-1"}


def drops(world: World, node: str) -> int:
    """Of what came in a tunnel from no node."""
    rows = world.blixt.inspect(world.cluster[node], "drops")
    return sum(row["ipv4"] + row["ipv6"] for row in rows if row["reason"] == "no_node")


def restart(world: World, options: Sequence[str]) -> None:
    """Both backends, with other options from now on."""
    for node in world.cluster.nodes:
        backend = world.blixt.backends[node.name]
        assert backend.terminate() == 0
        backend.argv = world.blixt.backend_command(node, *options)
        backend.start()
    world.blixt.apply("restarted")


def test_no_packet_is_invalid_to_the_nodes_connection_tracking(world: World, space: Space) -> None:
    with watching(*world.cluster.nodes) as watches:
        for endpoint in ("pod-2-1", "node2"):
            space.serve(world.cluster[endpoint])
            assert space.sights(world.cluster.client) == dict.fromkeys(KINDS, (endpoint, "client1"))
        space.serve(world.pod("2-1"), ports={"tcp": 9, "udp": 9})
        assert space.outcomes(world.cluster.client) == dict.fromkeys(KINDS, "refused")
        assert [watch.invalid() for watch in watches] == [[], []]
