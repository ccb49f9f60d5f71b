"""ICMP errors about translated packets find the client, in terms of what the client sent."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

import pytest

from blixt_lab import Host, wait_for
from blixt_lab.traffic import TalkError, Target, converse
from blixt_lab.world import Space, World

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("checksums")]

_SMALL, _USUAL = 1400, 1500
#: linux/in.h and linux/in6.h; Python's socket module lacks some of them.
_IP_MTU_DISCOVER, _IP_MTU, _IPV6_MTU_DISCOVER, _IPV6_MTU, _DISCOVER_DO = 10, 14, 23, 24, 2
_IP_RECVERR, _IPV6_RECVERR = 11, 25


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("endpoint", ["1-1", "2-1"], ids=["local", "remote"])
@pytest.mark.parametrize("client", ["client1", "pod-1-2", "node1"])
def test_a_pods_port_unreachable_reaches_the_client(
    world: World, space: Space, client: str, endpoint: str, version: int
) -> None:
    space.serve(world.pod(endpoint), ports={"udp": 9})
    assert space.outcome(world.cluster[client], ("udp", version)) == "refused"


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("endpoint", ["1-1", "2-1"], ids=["this-node", "another-node"])
def test_too_big_reaches_the_client(world: World, space: Space, endpoint: str, version: int) -> None:
    pod = world.pod(endpoint)
    space.serve(pod)
    target = space.target(("udp", version))
    with _narrowed(world, pod), world.cluster.client.call(lambda: _strict_socket(target)) as link:
        wait_for(lambda: _send_and_read_mtu(link, target) == _SMALL, "the client to learn the path's MTU")
        # What fits the path now gets through, once the error of what did not is taken note of.
        link.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        link.settimeout(3)
        link.send(b"y" * (_SMALL - 100))
        assert link.recv(2000).startswith(pod.name.encode())


@pytest.mark.parametrize("version", [4, 6])
def test_time_exceeded_reaches_the_client(world: World, space: Space, version: int) -> None:
    """Of a packet that was translated by the node that it came in by, and ends at the endpoint's node."""
    space.serve(world.pod("2-1"))
    target = space.target(("udp", version))

    def error_of(ttl: int) -> tuple[int, int, int]:
        """(who sent it: 2 ICMP, 3 ICMPv6; type; code) of the error that comes back."""
        level, ttl_option, errors = (
            (socket.IPPROTO_IP, socket.IP_TTL, _IP_RECVERR)
            if version == 4
            else (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, _IPV6_RECVERR)
        )
        with socket.socket(target.family, socket.SOCK_DGRAM) as link:
            link.setsockopt(level, ttl_option, ttl)
            link.setsockopt(level, errors, 1)
            link.connect((target.address, target.port))
            link.settimeout(3)
            link.send(b"x")
            with pytest.raises(OSError, match="No route to host"):
                link.recv(100)
            _, ancillary, _, quoted_to = link.recvmsg(100, 512, socket.MSG_ERRQUEUE)
            assert quoted_to[:2] == (target.address, target.port)
            ((_, _, error),) = [entry for entry in ancillary if entry[:2] == (level, errors)]
            _, origin, kind, code = struct.unpack_from("=IBBB", error)
            return origin, kind, code

    expected = (2, 11, 0) if version == 4 else (3, 3, 0)
    assert world.cluster.client.call(lambda: error_of(2)) == expected


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("endpoint", ["1-1", "2-1"], ids=["this-node", "another-node"])
def test_options_and_extension_headers_go_along(
    world: World, space: Space, endpoint: str, version: int
) -> None:
    pod = world.pod(endpoint)
    space.serve(pod)
    target = space.target(("udp", version))

    def exchange() -> bytes:
        with socket.socket(target.family, socket.SOCK_DGRAM) as link:
            if version == 4:
                link.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"\1\1\1\0")  # no operation, end
            else:
                padding = bytes((0, 0, 1, 4, 0, 0, 0, 0))  # one PadN of 6 bytes in all
                link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, padding)
            link.connect((target.address, target.port))
            link.settimeout(3)
            link.send(b"hello")
            return link.recv(100)

    assert world.cluster.client.call(exchange).startswith(pod.name.encode())


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("endpoint", ["1-1", "2-1"], ids=["this-node", "another-node"])
def test_fragments_too_big_for_the_path_arrive(
    world: World, space: Space, endpoint: str, version: int
) -> None:
    """IPv4's are cut again on their way; of IPv6's the sender hears, and cuts smaller ones."""
    pod = world.pod(endpoint)
    space.serve(pod)
    target, text = space.target(("udp", version)), "x" * 8000

    async def exchange() -> None:
        async with converse(target) as conversation:
            for last in (False, True):
                try:
                    answer = await conversation.ask(text, 2)
                except TalkError:
                    assert (last, version) == (False, 6)
                else:
                    assert answer.text == text

    with _narrowed(world, pod):
        world.cluster.client.do(exchange())


@contextlib.contextmanager
def _narrowed(world: World, pod: Host) -> Iterator[None]:
    """Both ends of the pod's veth take less than the fabric, as under an overlay."""
    node = world.cluster.node_of(pod)

    def set_mtu(size: int) -> None:
        node.ip(f"link set veth{pod.name[-1]} mtu {size}")
        pod.ip(f"link set eth0 mtu {size}")

    set_mtu(_SMALL)
    try:
        yield
    finally:
        set_mtu(_USUAL)


def _strict_socket(target: Target) -> socket.socket:
    link = socket.socket(target.family, socket.SOCK_DGRAM)
    if target.family == socket.AF_INET:
        link.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _DISCOVER_DO)
    else:
        link.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _DISCOVER_DO)
    link.connect((target.address, target.port))
    link.setblocking(False)
    return link


def _send_and_read_mtu(link: socket.socket, target: Target) -> int:
    with contextlib.suppress(OSError):  # what the last one met, or too long for the path by now
        link.send(b"x" * (_SMALL + 20))
    if target.family == socket.AF_INET:
        return link.getsockopt(socket.IPPROTO_IP, _IP_MTU)
    return link.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU)
