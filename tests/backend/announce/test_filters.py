"""The filters, run by this kernel on sockets that need no privilege: any datagram socket takes one."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Callable, Iterator

import pytest
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_NA, ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP, Ether

from blixt_backend.announce.filters import FOR_US, INSTRUCTION, NEIGHBOUR_DISCOVERY, Do, Step, assemble

Passes = Callable[[bytes, bytes], bool]


@pytest.fixture
def passes() -> Iterator[Passes]:
    """Whether a program lets a frame through."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    there.setblocking(False)

    def ask(program: bytes, frame: bytes) -> bool:
        buffer = ctypes.create_string_buffer(program, len(program))
        request = struct.pack("HP", len(program) // INSTRUCTION.size, ctypes.addressof(buffer))
        there.setsockopt(socket.SOL_SOCKET, 26, request)  # SO_ATTACH_FILTER
        here.send(frame)
        try:
            return there.recv(2048) == frame
        except BlockingIOError:
            return False

    with here, there:
        yield ask


def ndp(message: object, hlim: int = 255) -> bytes:
    return bytes(Ether(dst="02:00:00:00:00:01") / IPv6(src="fe80::1", dst="fe80::2", hlim=hlim) / message)


def test_neighbour_discovery_gets_through_and_no_other_ipv6(passes: Passes) -> None:
    found = {
        "solicitation": passes(NEIGHBOUR_DISCOVERY, ndp(ICMPv6ND_NS(tgt="fe80::2"))),
        "advertisement": passes(NEIGHBOUR_DISCOVERY, ndp(ICMPv6ND_NA(tgt="fe80::2"))),
        "forwarded": passes(NEIGHBOUR_DISCOVERY, ndp(ICMPv6ND_NS(tgt="fe80::2"), hlim=64)),
        "echo": passes(NEIGHBOUR_DISCOVERY, ndp(ICMPv6EchoRequest(), hlim=255)),
        "short": passes(NEIGHBOUR_DISCOVERY, ndp(ICMPv6EchoRequest())[:40]),
    }
    assert found == {
        "solicitation": True,
        "advertisement": True,
        "forwarded": False,
        "echo": False,
        "short": False,
    }


def test_what_is_for_this_host_gets_through(passes: Passes) -> None:
    assert passes(FOR_US, bytes(Ether(dst="ff:ff:ff:ff:ff:ff") / ARP()))


@pytest.mark.parametrize(("do", "first", "expected"), [(Do.NEED, 7, True), (Do.REFUSE, 7, False)])
def test_steps(passes: Passes, do: Do, first: int, expected: bool) -> None:
    program = assemble([Step(Do.LOAD_BYTE, 0), Step(do, first)])
    assert passes(program, b"\x07") == expected
    assert passes(program, b"\x08") != expected


def test_masks_and_either(passes: Passes) -> None:
    program = assemble(
        [Step(Do.LOAD_WORD, 0), Step(Do.MASK, 0xFF00), Step(Do.EITHER, 0x0100), Step(Do.NEED, 0x0200)]
    )
    found = [passes(program, bytes.fromhex(text)) for text in ("aaaa01bb", "aaaa02bb", "aaaa03bb")]
    assert found == [True, True, False]
