"""ARP and Ethernet: built by us and read by scapy, and the other way round."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.l2 import ARP, Ether

from blixt_backend.announce.frames import (
    BROADCAST,
    Arp,
    Ethernet,
    Mac,
    Operation,
    arp_announcements,
    arp_answer,
    arp_probe,
    arp_question,
    is_usable,
    parse_arp,
    parse_ethernet,
)
from blixt_backend.model import PackedAddress
from blixt_fakes.segment import ip

MACS = st.binary(min_size=6, max_size=6).map(Mac)
ADDRESSES = st.binary(min_size=4, max_size=4).map(PackedAddress)
NODE, CLIENT = Mac(bytes.fromhex("020000000001")), Mac(bytes.fromhex("020000000002"))
ARPS = st.builds(Arp, st.sampled_from(Operation), MACS, ADDRESSES, MACS, ADDRESSES)


def dissected(frame: bytes) -> tuple[str, str, int, str, str, str, str]:
    """(to, from, operation, sender's MAC and address, target's MAC and address) by scapy."""
    packet = Ether(frame)
    arp = packet[ARP]
    assert (packet.type, arp.hwtype, arp.ptype, arp.hwlen, arp.plen) == (0x806, 1, 0x800, 6, 4)
    return packet.dst, packet.src, arp.op, arp.hwsrc, arp.psrc, arp.hwdst, arp.pdst


@given(ARPS, MACS)
def test_what_we_build_scapy_reads(arp: Arp, to: Mac) -> None:
    to_, from_, operation, *who = dissected(arp.frame(to))
    assert (to_, from_, operation) == (to.hex(":"), arp.sender_mac.hex(":"), arp.operation)
    addresses = [".".join(map(str, address)) for address in (arp.sender, arp.target)]
    assert who == [arp.sender_mac.hex(":"), addresses[0], arp.target_mac.hex(":"), addresses[1]]


@given(ARPS, st.binary(max_size=18))
def test_what_scapy_builds_we_read_also_padded(arp: Arp, padding: bytes) -> None:
    built = bytes(
        Ether(src=arp.sender_mac.hex(":"), dst="ff:ff:ff:ff:ff:ff")
        / ARP(
            op=int(arp.operation),
            hwsrc=arp.sender_mac.hex(":"),
            psrc=".".join(map(str, arp.sender)),
            hwdst=arp.target_mac.hex(":"),
            pdst=".".join(map(str, arp.target)),
        )
    )
    frame = parse_ethernet(built + padding)
    assert frame
    assert (frame.destination, frame.source, frame.ethertype) == (BROADCAST, arp.sender_mac, 0x806)
    assert parse_arp(frame.payload) == arp


@given(st.binary(max_size=60))
def test_anything_else_is_none_and_no_error(data: bytes) -> None:
    frame = parse_ethernet(data)
    assert (frame is None) == (len(data) < 14)
    assert parse_arp(data) is None or data[:6] == bytes.fromhex("000108000604")


@pytest.mark.parametrize(
    "payload",
    [
        bytes.fromhex("0006 0800 06 04 0001").ljust(28, b"\0"),  # not Ethernet
        bytes.fromhex("0001 86dd 06 10 0001").ljust(28, b"\0"),  # not IPv4
        bytes.fromhex("0001 0800 06 04 0003").ljust(28, b"\0"),  # RARP
        bytes.fromhex("0001 0800 06 04 0001").ljust(27, b"\0"),  # cut off
    ],
)
def test_other_kinds_of_arp(payload: bytes) -> None:
    assert parse_arp(payload) is None


def test_the_frames_that_are_sent() -> None:
    address, client = ip("192.0.2.1"), ip("192.0.2.99")
    node, other, all_, none = "02:00:00:00:00:01", "02:00:00:00:00:02", "ff:" * 5 + "ff", "00:" * 5 + "00"
    request = Arp(Operation.REQUEST, CLIENT, client, Mac(bytes(6)), address)
    assert dissected(arp_answer(request, NODE)) == (other, node, 2, node, "192.0.2.1", other, "192.0.2.99")
    assert [dissected(frame) for frame in arp_announcements(address, NODE)] == [
        (all_, node, 1, node, "192.0.2.1", none, "192.0.2.1"),
        (all_, node, 2, node, "192.0.2.1", all_, "192.0.2.1"),
    ]
    assert dissected(arp_probe(address, NODE)) == (all_, node, 1, node, "0.0.0.0", none, "192.0.2.1")
    question = arp_question(address, CLIENT, NODE, client)
    assert dissected(question) == (other, node, 1, node, "192.0.2.99", none, "192.0.2.1")
    assert dissected(arp_question(address, CLIENT, NODE, None))[4] == "0.0.0.0"


def test_a_probe_is_told_from_a_request() -> None:
    frame = parse_ethernet(arp_probe(ip("192.0.2.1"), NODE))
    assert frame
    arp = parse_arp(frame.payload)
    assert arp
    assert arp.is_probe
    assert not Arp(Operation.REQUEST, NODE, ip("192.0.2.1"), NODE, ip("192.0.2.2")).is_probe


@pytest.mark.parametrize(
    ("address", "usable"),
    [
        ("192.0.2.1", True),
        ("0.0.0.0", False),
        ("127.0.0.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("2001:db8::1", True),
        ("::", False),
        ("::1", False),
        ("ff02::1", False),
    ],
)
def test_what_a_host_can_have(address: str, usable: bool) -> None:
    assert is_usable(ip(address)) == usable


def test_ethernet_goes_round() -> None:
    frame = Ethernet(BROADCAST, NODE, 0x88B5, b"abc")
    assert parse_ethernet(frame.pack()) == frame
