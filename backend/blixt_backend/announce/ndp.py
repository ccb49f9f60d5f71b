"""IPv6 neighbour solicitations and advertisements (RFC 4861): frames built and parsed. Pure.

All multi-byte fields are in network byte order. What RFC 4861 (7.1) says is to be discarded parses to None.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from blixt_backend.announce.frames import ETHERTYPE_IPV6, Ethernet, Mac
from blixt_backend.model import PackedAddress

UNSPECIFIED: Final = PackedAddress(bytes(16))
_ALL_NODES: Final = PackedAddress(bytes.fromhex("ff02 0000 0000 0000 0000 0000 0000 0001"))
_SOLICITED_NODE: Final = bytes.fromhex("ff02 0000 0000 0000 0000 0001 ff")

#: Version, traffic class and flow label; payload length; next header; hop limit; source; destination.
_IPV6 = struct.Struct("!IHBB16s16s")
#: Type, code, checksum, flags (of a solicitation: reserved), target.
_MESSAGE = struct.Struct("!BBHI16s")
_PSEUDO_HEADER = struct.Struct("!16s16sII")
_VERSION_6 = 6 << 28
_ICMPV6 = 58
_HOP_LIMIT = 255
_SOLICITATION, _ADVERTISEMENT = 135, 136
_SOLICITED, _OVERRIDE = 1 << 30, 1 << 29
_SOURCE_LINK_LAYER, _TARGET_LINK_LAYER = 1, 2
_OPTION_UNIT = 8


@dataclass(frozen=True, slots=True)
class Solicitation:
    """Who has `target`? A source of :: is a host that tries whether it can have it (RFC 4862, 5.4)."""

    source: PackedAddress
    target: PackedAddress
    #: The MAC to answer to.
    mac: Mac


@dataclass(frozen=True, slots=True)
class Advertisement:
    """`mac` has `target`."""

    target: PackedAddress
    mac: Mac


def solicited_node(address: PackedAddress) -> PackedAddress:
    """The multicast group that solicitations for an address are sent to (RFC 4291, 2.7.1)."""
    return PackedAddress(_SOLICITED_NODE + address[-3:])


def multicast_mac(group: PackedAddress) -> Mac:
    """RFC 2464, 7."""
    return Mac(b"\x33\x33" + group[-4:])


def is_link_local(address: PackedAddress) -> bool:
    """fe80::/10."""
    return len(address) == 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80


def parse_ndp(frame: Ethernet) -> Solicitation | Advertisement | None:
    """The solicitation or advertisement of a frame of IPv6. Others' and malformed ones: None."""
    packet = frame.payload
    if len(packet) < _IPV6.size + _MESSAGE.size:
        return None
    first, length, next_header, hop_limit, source, destination = _IPV6.unpack_from(packet)
    message = packet[_IPV6.size : _IPV6.size + length]
    if first >> 28 != 6 or next_header != _ICMPV6 or hop_limit != _HOP_LIMIT or len(message) < length:
        return None
    if length < _MESSAGE.size or _checksum(source, destination, message) != 0:
        return None
    kind, code, _, _, target = _MESSAGE.unpack_from(message)
    options = dict(_options(message[_MESSAGE.size :]))
    if code != 0 or target[0] == 0xFF or 0 in options:
        return None
    if kind == _ADVERTISEMENT:
        return Advertisement(PackedAddress(target), options.get(_TARGET_LINK_LAYER, frame.source))
    if kind != _SOLICITATION:
        return None
    if source == UNSPECIFIED and (_SOURCE_LINK_LAYER in options or destination[:13] != _SOLICITED_NODE):
        return None
    return Solicitation(
        PackedAddress(source), PackedAddress(target), options.get(_SOURCE_LINK_LAYER, frame.source)
    )


def _options(data: bytes) -> Iterator[tuple[int, Mac]]:
    """(type, MAC) of each option; type 0, which there isn't, where they can't be read."""
    while data:
        length = data[1] * _OPTION_UNIT if len(data) > 1 else 0
        if not 0 < length <= len(data):
            yield 0, Mac(b"")
            return
        yield data[0], Mac(data[2:8])
        data = data[length:]


def neighbour_answer(asked: Solicitation, mac: Mac, own: PackedAddress | None) -> bytes:
    """The frame that answers a solicitation: to who asked, or to all where that one has no address yet.

    `own` is the link-local address to send from; without one, the address in question is.
    """
    if asked.source == UNSPECIFIED:
        return _advertisement(asked.target, mac, own, _ALL_NODES, multicast_mac(_ALL_NODES), _OVERRIDE)
    return _advertisement(asked.target, mac, own, asked.source, asked.mac, _SOLICITED | _OVERRIDE)


def neighbour_announcement(address: PackedAddress, mac: Mac, own: PackedAddress | None) -> bytes:
    """A frame to all nodes: `mac` has the address from now on (RFC 4861, 7.2.6)."""
    return _advertisement(address, mac, own, _ALL_NODES, multicast_mac(_ALL_NODES), _OVERRIDE)


def neighbour_probe(address: PackedAddress, mac: Mac) -> bytes:
    """A frame that asks whether somebody has the address already, and claims nothing (RFC 4862, 5.4.2)."""
    group = solicited_node(address)
    message = _MESSAGE.pack(_SOLICITATION, 0, 0, 0, address)
    return _frame(multicast_mac(group), mac, UNSPECIFIED, group, message)


def neighbour_question(address: PackedAddress, of: Mac, mac: Mac, own: PackedAddress) -> bytes:
    """A frame to one host: does it still have its address (RFC 4861, 7.3)?"""
    message = _MESSAGE.pack(_SOLICITATION, 0, 0, 0, address) + bytes((_SOURCE_LINK_LAYER, 1)) + mac
    return _frame(of, mac, own, address, message)


def _advertisement(
    target: PackedAddress, mac: Mac, own: PackedAddress | None, to: PackedAddress, to_mac: Mac, flags: int
) -> bytes:
    message = _MESSAGE.pack(_ADVERTISEMENT, 0, 0, flags, target) + bytes((_TARGET_LINK_LAYER, 1)) + mac
    return _frame(to_mac, mac, own or target, to, message)


def _frame(to_mac: Mac, mac: Mac, source: PackedAddress, to: PackedAddress, message: bytes) -> bytes:
    """An ICMPv6 message, its checksum still 0, in its headers."""
    checksum = _checksum(source, to, message)
    packet = _IPV6.pack(_VERSION_6, len(message), _ICMPV6, _HOP_LIMIT, source, to)
    packet += message[:2] + checksum.to_bytes(2, "big") + message[4:]
    return Ethernet(to_mac, mac, ETHERTYPE_IPV6, packet).pack()


def _checksum(source: bytes, destination: bytes, message: bytes) -> int:
    """ICMPv6's (RFC 4443, 2.3), in host order. Of a message that carries the right one: 0."""
    data = _PSEUDO_HEADER.pack(source, destination, len(message), _ICMPV6) + message
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
