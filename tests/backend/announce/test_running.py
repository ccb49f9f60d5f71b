"""Real interfaces in a namespace of the test's own: what is read of them, and who follows them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from blixt_backend.announce import frames, heartbeat, ndp
from blixt_backend.announce.frames import Mac
from blixt_backend.announce.heartbeat import Heartbeat, State
from blixt_backend.announce.interface import AnnounceError, read
from blixt_backend.announce.running import Announcing, Settings, check, leave
from blixt_backend.model import PackedAddress
from blixt_fakes.segment import balanced, change, ip
from blixt_fakes.until import until

pytestmark = pytest.mark.bpf

MAC, PEER_MAC = Mac(bytes.fromhex("020000000001")), Mac(bytes.fromhex("020000000002"))
A, V6 = ip("192.0.2.1"), ip("2001:db8::1")
ON_U0 = Settings(("u0",), "test")


def plug(namespace: Callable[[str], None]) -> None:
    """u0, which announces, and u1, its other end."""
    namespace(f"link add u0 address {MAC.hex(':')} type veth peer name u1 address {PEER_MAC.hex(':')}")
    namespace("address add 203.0.113.1/24 dev u0")
    namespace("link set u1 up")
    namespace("link set u0 up")


class Peer:
    """Who sits at the other end."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self._socket.bind(("u1", 3))
        self._socket.setblocking(False)

    def send(self, frame: bytes) -> None:
        self._socket.send(frame)

    async def until(self, wanted: Callable[[frames.Ethernet], bool]) -> frames.Ethernet:
        """The next frame of u0's that is wanted."""
        async with asyncio.timeout(30):
            while True:
                frame = frames.parse_ethernet(await asyncio.get_running_loop().sock_recv(self._socket, 2048))
                if frame and frame.source == MAC and wanted(frame):
                    return frame

    async def beat(self, state: State) -> Heartbeat:
        def fits(frame: frames.Ethernet) -> bool:
            beat = heartbeat.parse_heartbeat(frame.payload)
            return beat is not None and beat.state is state

        found = heartbeat.parse_heartbeat((await self.until(fits)).payload)
        assert found
        return found

    async def answers(self, address: PackedAddress) -> None:
        """Ask until there is an answer."""

        def fits(frame: frames.Ethernet) -> bool:
            if len(address) == 16:
                told = ndp.parse_ndp(frame)
                return told == ndp.Advertisement(address, MAC) and frame.destination == PEER_MAC
            arp = frames.parse_arp(frame.payload)
            return arp is not None and arp.sender == address and frame.destination == PEER_MAC

        asking = asyncio.create_task(self.until(fits))
        while not asking.done():
            if len(address) == 16:
                group = ndp.multicast_mac(ndp.solicited_node(address))
                self.send(ndp.neighbour_question(address, group, PEER_MAC, ip("fe80::77")))
            else:
                self.send(frames.arp_question(address, frames.BROADCAST, PEER_MAC, ip("203.0.113.77")))
            await asyncio.wait([asking], timeout=0.1)
        await asking


@asynccontextmanager
async def running(announcing: Announcing) -> AsyncIterator[None]:
    task = asyncio.create_task(announcing.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def test_what_is_read_of_an_interface(namespace: Callable[[str], None]) -> None:
    assert read("u0") is None
    namespace("link add u0 type veth peer name u1")
    assert read("u0") is None, "it is down"
    namespace("link set u0 up")
    assert read("u0") is None, "its other end is down"
    namespace("link delete u0")
    plug(namespace)
    namespace("address add 2001:db8:1::1/64 dev u0 nodad")
    namespace("address add 198.51.100.1/32 dev lo")
    found = read("u0")
    assert found
    assert (found.name, found.mac, found.ipv4) == ("u0", MAC, ip("203.0.113.1"))
    assert found.link_local == ip("fe80::ff:fe00:1")
    assert found.addresses == (ip("203.0.113.1"), ip("fe80::ff:fe00:1"), ip("2001:db8:1::1"))
    assert {ip("198.51.100.1"), *found.addresses} <= found.taken


def test_what_is_no_ethernet_is_refused(namespace: Callable[[str], None]) -> None:
    with pytest.raises(AnnounceError, match="--announce lo: it is no Ethernet interface"):
        check(Settings(("lo",)))
    check(Settings(("not-there-yet",)))


async def test_an_interface_is_waited_for_and_followed(
    namespace: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    announcing = Announcing("node1", ON_U0)
    announcing.applied(change(balanced("a", [A, V6])))
    async with running(announcing):
        await asyncio.sleep(0.2)
        await asyncio.to_thread(plug, namespace)
        peer = Peer()
        beat = await peer.beat(State.LISTENING)
        assert (beat.name, beat.group, beat.interval_ms) == ("node1", heartbeat.group_id("test"), 1000)
        assert (await peer.beat(State.READY)).addresses[0] == ip("203.0.113.1")
        await peer.answers(A)
        await peer.answers(V6)
        announcing.applied(change(removed=["ns/a"]))
        announcing.applied(change(balanced("b", [ip("192.0.2.2")])))
        await peer.answers(ip("192.0.2.2"))

        await asyncio.to_thread(namespace, "link set u1 down")
        waiting = "interface u0 is not there, or not up: not announcing on it until it is"
        await until(lambda: caplog.messages.count(waiting) == 2)
        await asyncio.to_thread(namespace, "link set u1 up")
        await Peer().beat(State.LISTENING)
    assert "no longer announcing 192.0.2.1 on u0 (no node is to)" in caplog.messages


async def test_frames_of_others_are_not_heard(namespace: Callable[[str], None]) -> None:
    """Those of another host's MAC, and of a VLAN that has, or might have, an interface of its own."""
    await asyncio.to_thread(plug, namespace)
    peer = Peer()
    announcing = Announcing("node1", ON_U0)
    announcing.applied(change(balanced("a", [A])))
    async with running(announcing):
        await peer.beat(State.READY)
        await peer.answers(A)

        def asking(name: int, to: Mac, tag: bytes = b"") -> bytes:
            frame = frames.arp_question(A, to, PEER_MAC, ip(f"203.0.113.{name}"))
            return frame[:12] + tag + frame[12:]

        peer.send(asking(1, Mac(bytes.fromhex("020000000099"))))
        peer.send(asking(2, frames.BROADCAST, bytes.fromhex("81000005")))
        peer.send(asking(3, frames.BROADCAST, bytes.fromhex("8100e000")))  # a priority, and no VLAN
        peer.send(asking(4, MAC))
        answered = []
        while 4 not in answered:
            frame = await peer.until(lambda frame: frame.destination == PEER_MAC)
            arp = frames.parse_arp(frame.payload)
            if arp and arp.sender == A:
                answered.append(arp.target[3])
        assert [name for name in answered if name < 77] == [3, 4]


async def test_the_last_words(namespace: Callable[[str], None]) -> None:
    await asyncio.to_thread(plug, namespace)
    peer = Peer()
    announcing = Announcing("node1", ON_U0)
    announcing.applied(change(balanced("a", [A])))
    async with running(announcing):
        await peer.beat(State.READY)
    assert (await peer.beat(State.RESTARTING)).keep_seconds == 30
    await asyncio.to_thread(leave, "node1", ON_U0)
    assert (await peer.beat(State.LEAVING)).name == "node1"


async def test_without_interfaces_nothing_is_done() -> None:
    announcing = Announcing("node1", Settings())
    announcing.applied(change(balanced("a", [A])))
    await announcing.run()
    leave("node1", Settings())
