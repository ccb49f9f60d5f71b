"""Neighbour discovery: built by us and read by scapy, the other way round, and what is to be discarded."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6NDOptUnknown,
    IPv6,
    in6_chksum,
)
from scapy.layers.l2 import Ether

from blixt_backend.announce.frames import Ethernet, Mac, parse_ethernet
from blixt_backend.announce.ndp import (
    Advertisement,
    Solicitation,
    is_link_local,
    multicast_mac,
    neighbour_announcement,
    neighbour_answer,
    neighbour_probe,
    neighbour_question,
    parse_ndp,
    solicited_node,
)
from blixt_backend.model import PackedAddress
from blixt_fakes.segment import ip

NODE, CLIENT = Mac(bytes.fromhex("020000000001")), Mac(bytes.fromhex("020000000002"))
ADDRESS, OWN, ASKING = ip("2001:db8::f00:1234"), ip("fe80::1"), ip("fe80::2")
UNICAST = st.binary(min_size=16, max_size=16).filter(lambda b: b[0] != 0xFF and any(b)).map(PackedAddress)
MACS = st.binary(min_size=6, max_size=6).map(Mac)


def text(address: bytes) -> str:
    return str(IPv6Address(address))


def read(frame: bytes) -> Solicitation | Advertisement | None:
    parsed = parse_ethernet(frame)
    assert parsed
    return parse_ndp(parsed)


def dissected(frame: bytes) -> tuple[Any, Any]:
    """(Ethernet, IPv6) by scapy, of which checksum, lengths and hop limit are right."""
    packet = Ether(frame)
    ipv6 = packet[IPv6]
    message = bytes(ipv6.payload)
    assert (packet.type, ipv6.version, ipv6.nh, ipv6.hlim) == (0x86DD, 6, 58, 255)
    assert ipv6.plen == len(message)
    assert in6_chksum(58, ipv6, message) == 0  # type: ignore[no-untyped-call]
    return packet, ipv6


@given(UNICAST, UNICAST, MACS, MACS, st.none() | UNICAST)
def test_answers_are_what_scapy_reads(
    asker: PackedAddress, target: PackedAddress, mac: Mac, asker_mac: Mac, own: PackedAddress | None
) -> None:
    packet, ipv6 = dissected(neighbour_answer(Solicitation(asker, target, asker_mac), mac, own))
    message = ipv6[ICMPv6ND_NA]
    assert (packet.src, packet.dst) == (mac.hex(":"), asker_mac.hex(":"))
    assert (ipv6.src, ipv6.dst) == (text(own or target), text(asker))
    assert (message.code, message.R, message.S, message.O, message.tgt) == (0, 0, 1, 1, text(target))
    assert message[ICMPv6NDOptDstLLAddr].lladdr == mac.hex(":")


@given(UNICAST, MACS)
def test_announcements_are_what_scapy_reads(target: PackedAddress, mac: Mac) -> None:
    for frame in (
        neighbour_announcement(target, mac, OWN),
        neighbour_answer(Solicitation(PackedAddress(bytes(16)), target, CLIENT), mac, OWN),
    ):
        packet, ipv6 = dissected(frame)
        message = ipv6[ICMPv6ND_NA]
        assert (packet.src, packet.dst) == (mac.hex(":"), "33:33:00:00:00:01")
        assert (ipv6.src, ipv6.dst) == ("fe80::1", "ff02::1")
        assert (message.R, message.S, message.O, message.tgt) == (0, 0, 1, text(target))
        assert message[ICMPv6NDOptDstLLAddr].lladdr == mac.hex(":")
        assert read(frame) == Advertisement(target, mac)


def test_questions_are_what_scapy_reads() -> None:
    packet, ipv6 = dissected(neighbour_probe(ADDRESS, NODE))
    assert (packet.dst, ipv6.src, ipv6.dst) == ("33:33:ff:00:12:34", "::", "ff02::1:ff00:1234")
    assert ipv6[ICMPv6ND_NS].tgt == text(ADDRESS)
    assert not ipv6.haslayer(ICMPv6NDOptSrcLLAddr)
    packet, ipv6 = dissected(neighbour_question(ADDRESS, CLIENT, NODE, OWN))
    assert (packet.dst, ipv6.src, ipv6.dst) == (CLIENT.hex(":"), "fe80::1", text(ADDRESS))
    assert ipv6[ICMPv6NDOptSrcLLAddr].lladdr == NODE.hex(":")
    assert read(neighbour_question(ADDRESS, CLIENT, NODE, OWN)) == Solicitation(OWN, ADDRESS, NODE)
    assert read(neighbour_probe(ADDRESS, NODE)) == Solicitation(ip("::"), ADDRESS, NODE)


@given(UNICAST, UNICAST, MACS)
def test_what_scapy_builds_we_read(asker: PackedAddress, target: PackedAddress, mac: Mac) -> None:
    ethernet = Ether(src=CLIENT.hex(":"), dst=NODE.hex(":"))
    head = ethernet / IPv6(src=text(asker), dst=text(target), hlim=255)
    asked = head / ICMPv6ND_NS(tgt=text(target))
    assert read(bytes(asked)) == Solicitation(asker, target, CLIENT)
    assert read(bytes(asked / ICMPv6NDOptSrcLLAddr(lladdr=mac.hex(":")))) == Solicitation(asker, target, mac)
    told = head / ICMPv6ND_NA(tgt=text(target))
    assert read(bytes(told)) == Advertisement(target, CLIENT)
    assert read(bytes(told / ICMPv6NDOptDstLLAddr(lladdr=mac.hex(":")))) == Advertisement(target, mac)


def solicitation(source: str = "fe80::2", to: str = "", hlim: int = 255, **fields: Any) -> Any:
    to = to or text(solicited_node(ADDRESS))
    message = ICMPv6ND_NS(**{"tgt": text(ADDRESS), **fields})
    return Ether(src=CLIENT.hex(":"), dst="33:33:ff:00:12:34") / IPv6(src=source, dst=to, hlim=hlim) / message


def test_what_rfc_4861_takes() -> None:
    assert read(bytes(solicitation())) == Solicitation(ASKING, ADDRESS, CLIENT)
    assert read(bytes(solicitation("::"))) == Solicitation(ip("::"), ADDRESS, CLIENT)
    nonce = ICMPv6NDOptUnknown(type=14, data=b"123456")
    assert read(bytes(solicitation("::") / nonce)) == Solicitation(ip("::"), ADDRESS, CLIENT)
    # An Ethernet frame may be padded.
    assert read(bytes(solicitation()) + bytes(7)) == Solicitation(ASKING, ADDRESS, CLIENT)


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(solicitation(hlim=254), id="it-was-forwarded"),
        pytest.param(solicitation(code=1), id="code"),
        pytest.param(solicitation(tgt="ff02::1"), id="multicast-target"),
        pytest.param(solicitation(cksum=0xBAD), id="checksum"),
        pytest.param(solicitation("::", to=text(ADDRESS)), id="dad-not-to-the-group"),
        pytest.param(solicitation("::") / ICMPv6NDOptSrcLLAddr(lladdr=CLIENT.hex(":")), id="dad-with-a-mac"),
        pytest.param(solicitation() / b"\x01\x00abcdef", id="option-without-length"),
        pytest.param(solicitation() / b"\x01\x02abcdef", id="option-cut-off"),
        pytest.param(solicitation() / b"\x01", id="half-an-option"),
        pytest.param(solicitation(type=133), id="another-message"),
    ],
)
def test_what_rfc_4861_discards(packet: Any) -> None:
    assert read(bytes(packet)) is None


@given(st.binary(max_size=100), st.binary(max_size=60))
def test_anything_else_is_none_and_no_error(garbage: bytes, tail: bytes) -> None:
    good = parse_ethernet(bytes(solicitation()))
    assert good
    for payload in (garbage, good.payload[:40] + tail, good.payload[: len(garbage)]):
        found = parse_ndp(Ethernet(NODE, CLIENT, 0x86DD, payload))
        assert found is None or payload == good.payload


def test_groups() -> None:
    assert solicited_node(ADDRESS) == ip("ff02::1:ff00:1234")
    assert multicast_mac(solicited_node(ADDRESS)).hex(":") == "33:33:ff:00:12:34"
    assert [is_link_local(ip(a)) for a in ("fe80::1", "febf::1", "fec0::1", "2001:db8::1", "192.0.2.1")] == [
        True,
        True,
        False,
        False,
        False,
    ]
