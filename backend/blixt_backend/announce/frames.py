"""Ethernet frames, and ARP in them (RFC 826, RFC 5227): built and parsed. Pure.

All multi-byte fields are in network byte order. What isn't such a packet, or is cut off, parses to None.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NewType

from blixt_backend.model import PackedAddress

#: A MAC address as its 6 bytes.
Mac = NewType("Mac", bytes)

BROADCAST: Final = Mac(b"\xff" * 6)
ETHERTYPE_ARP: Final = 0x0806
ETHERTYPE_IPV6: Final = 0x86DD

_ETHERNET = struct.Struct("!6s6sH")
#: Hardware and protocol type and their lengths, operation, then MAC and address of sender and target.
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_ARP_OF_IPV4 = (1, 0x0800, 6, 4)
_NO_MAC: Final = Mac(bytes(6))
_NO_ADDRESS: Final = PackedAddress(bytes(4))


@dataclass(frozen=True, slots=True)
class Ethernet:
    """A frame without a VLAN tag. `payload` may end in padding."""

    destination: Mac
    source: Mac
    ethertype: int
    payload: bytes

    def pack(self) -> bytes:
        return _ETHERNET.pack(self.destination, self.source, self.ethertype) + self.payload


def parse_ethernet(frame: bytes) -> Ethernet | None:
    if len(frame) < _ETHERNET.size:
        return None
    destination, source, ethertype = _ETHERNET.unpack_from(frame)
    return Ethernet(Mac(destination), Mac(source), ethertype, frame[_ETHERNET.size :])


class Operation(IntEnum):
    REQUEST = 1
    REPLY = 2


@dataclass(frozen=True, slots=True)
class Arp:
    """An ARP packet for IPv4 over Ethernet. A sender of 0.0.0.0 makes a request a probe (RFC 5227, 1.1)."""

    operation: Operation
    sender_mac: Mac
    sender: PackedAddress
    target_mac: Mac
    target: PackedAddress

    @property
    def is_probe(self) -> bool:
        return self.operation is Operation.REQUEST and self.sender == _NO_ADDRESS

    def frame(self, destination: Mac) -> bytes:
        packed = _ARP.pack(
            *_ARP_OF_IPV4, self.operation, self.sender_mac, self.sender, self.target_mac, self.target
        )
        return Ethernet(destination, self.sender_mac, ETHERTYPE_ARP, packed).pack()


def parse_arp(payload: bytes) -> Arp | None:
    """The ARP packet of a frame's payload; None also for what isn't IPv4 over Ethernet, request or reply."""
    if len(payload) < _ARP.size:
        return None
    *kind, operation, sender_mac, sender, target_mac, target = _ARP.unpack_from(payload)
    if tuple(kind) != _ARP_OF_IPV4 or operation not in (Operation.REQUEST, Operation.REPLY):
        return None
    return Arp(
        Operation(operation),
        Mac(sender_mac),
        PackedAddress(sender),
        Mac(target_mac),
        PackedAddress(target),
    )


def arp_answer(request: Arp, mac: Mac) -> bytes:
    """The frame that tells whoever asked that `mac` has the address. Probes are answered likewise."""
    reply = Arp(Operation.REPLY, mac, request.target, request.sender_mac, request.sender)
    return reply.frame(request.sender_mac)


def arp_announcements(address: PackedAddress, mac: Mac) -> tuple[bytes, bytes]:
    """Frames to everybody: `mac` has the address from now on.

    The request is how RFC 5227 (2.3) does it; the reply is for stacks that learn from replies only.
    """
    request = Arp(Operation.REQUEST, mac, address, _NO_MAC, address)
    reply = Arp(Operation.REPLY, mac, address, BROADCAST, address)
    return request.frame(BROADCAST), reply.frame(BROADCAST)


def arp_probe(address: PackedAddress, mac: Mac) -> bytes:
    """A frame that asks everybody whether somebody has the address already, and claims nothing."""
    return Arp(Operation.REQUEST, mac, _NO_ADDRESS, _NO_MAC, address).frame(BROADCAST)


def arp_question(address: PackedAddress, of: Mac, mac: Mac, own: PackedAddress | None) -> bytes:
    """A frame to one host: does it still have its address? `own` is the asking one's; None: it has none."""
    return Arp(Operation.REQUEST, mac, own or _NO_ADDRESS, _NO_MAC, address).frame(of)


def is_usable(address: PackedAddress) -> bool:
    """Whether a host can have the address on a segment: it is unicast, and no loopback address."""
    if len(address) == len(_NO_ADDRESS):
        return address[0] not in (0, 127) and address[0] < 224
    return address[0] != 0xFF and int.from_bytes(address, "big") > 1
