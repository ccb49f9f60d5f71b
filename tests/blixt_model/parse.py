"""Rule 1: what a frame must look like to be ours."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from blixt_model.family import (
    ETHERNET_SIZE,
    ICMP_SIZE,
    IPV4,
    SCTP,
    SCTP_SIZE,
    TCP,
    TRANSPORT_SIZE,
    Family,
)
from blixt_model.tables import Flow

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
#: What SCTP's first chunk says in TCP's words: INIT, INIT ACK, ABORT, SHUTDOWN ACK and SHUTDOWN COMPLETE.
FLAGS_OF_CHUNK = {1: SYN, 2: SYN | ACK, 6: RST, 8: FIN, 14: FIN}

FRAGMENT_HEADER = 44
#: Hop-by-hop, routing and destination options: eight bytes and as many times eight as their second byte says.
EXTENSION_HEADERS = frozenset({0, 43, 60})
MOST_EXTENSION_HEADERS = 6
FARTHEST_TRANSPORT = 240

MORE_FRAGMENTS, DONT_FRAGMENT = 0x2000, 0x4000


class Fragment(Enum):
    """NONE: all of a datagram, an IPv6 atomic fragment too."""

    NONE = "whole"
    FIRST = "first"
    LATER = "later"


@dataclass(frozen=True, slots=True)
class Packet:
    """A frame and where its parts are.

    `flow` has no port numbers in ICMP; of a later fragment nothing is looked at behind the header
    that says that it is one.
    """

    raw: bytes
    family: Family
    flow: Flow
    #: Offset of the transport header from the start of the frame.
    transport: int
    ttl: int
    dont_fragment: bool
    fragment: Fragment = Fragment.NONE
    #: Of a fragment: what all fragments of a datagram have in common, as it stands in the header.
    identification: bytes = b""
    #: TCP's flags, and what says the same in SCTP; ICMP's type.
    tcp_flags: int = 0
    icmp_type: int = 0

    @property
    def protocol(self) -> int:
        return self.flow.protocol

    @property
    def length(self) -> int:
        return len(self.raw) - ETHERNET_SIZE

    @property
    def network_length(self) -> int:
        """The same by the network header: a frame may be padded."""
        at = ETHERNET_SIZE + (2 if self.family is IPV4 else 4)
        return int.from_bytes(self.raw[at : at + 2], "big") + (0 if self.family is IPV4 else 40)

    @property
    def is_plain(self) -> bool:
        """Without IPv4 options and IPv6 extension headers."""
        return self.transport == ETHERNET_SIZE + self.family.header_size

    @property
    def opens(self) -> bool:
        """TCP or SCTP that begins."""
        return self.tcp_flags & (SYN | ACK) == SYN


@dataclass(frozen=True, slots=True)
class _Network:
    transport: int
    protocol: int
    dont_fragment: bool
    fragment: Fragment = Fragment.NONE
    identification: bytes = b""


def parse(raw: bytes, family: Family) -> Packet | None:
    """None: not ours to handle (`NEXT`)."""
    if len(raw) < ETHERNET_SIZE + family.header_size or int.from_bytes(raw[12:14], "big") != family.ethertype:
        return None
    if raw[ETHERNET_SIZE] >> 4 != family.version:
        return None
    network = _ipv4(raw) if family is IPV4 else _ipv6(raw)
    if network is None:
        return None
    if network.fragment is Fragment.LATER:
        return _packet(raw, family, network, ports=(0, 0))
    return _transport(raw, family, network)


def _ipv4(raw: bytes) -> _Network | None:
    header_length = (raw[ETHERNET_SIZE] & 15) * 4
    if header_length < 20:
        return None
    fragment = int.from_bytes(raw[ETHERNET_SIZE + 6 : ETHERNET_SIZE + 8], "big")
    return _Network(
        transport=ETHERNET_SIZE + header_length,
        protocol=raw[ETHERNET_SIZE + 9],
        dont_fragment=bool(fragment & DONT_FRAGMENT),
        fragment=_kind(offset=fragment & 0x1FFF, more=fragment & MORE_FRAGMENTS),
        identification=raw[ETHERNET_SIZE + 4 : ETHERNET_SIZE + 6],
    )


def _kind(offset: int, more: int) -> Fragment:
    if offset:
        return Fragment.LATER
    return Fragment.FIRST if more else Fragment.NONE


def _ipv6(raw: bytes) -> _Network | None:
    at = ETHERNET_SIZE + 40
    protocol = raw[ETHERNET_SIZE + 6]
    kind, identification = Fragment.NONE, b""
    skipped = 0
    while protocol in EXTENSION_HEADERS or protocol == FRAGMENT_HEADER:
        if skipped == MOST_EXTENSION_HEADERS or len(raw) < at + 8:
            return None
        skipped += 1
        if protocol == FRAGMENT_HEADER:
            if identification or at > ETHERNET_SIZE + FARTHEST_TRANSPORT:
                return None
            fragment = int.from_bytes(raw[at + 2 : at + 4], "big")
            kind, identification = _kind(fragment & 0xFFF8, fragment & 1), raw[at + 4 : at + 8]
            protocol, at = raw[at], at + 8
            if kind is Fragment.LATER:
                return _Network(at, 0, True, kind, identification)
        else:
            protocol, at = raw[at], at + 8 * (raw[at + 1] + 1)
    if at > ETHERNET_SIZE + FARTHEST_TRANSPORT:
        return None
    return _Network(at, protocol, True, kind, identification)


def _transport(raw: bytes, family: Family, network: _Network) -> Packet | None:
    at, protocol = network.transport, network.protocol
    needed = ICMP_SIZE if protocol == family.icmp else TRANSPORT_SIZE.get(protocol)
    if needed is None or len(raw) < at + needed:
        return None
    if protocol != family.icmp:
        ports = (int.from_bytes(raw[at : at + 2], "big"), int.from_bytes(raw[at + 2 : at + 4], "big"))
        packet = _packet(raw, family, network, ports)
        if protocol == TCP:
            return replace(packet, tcp_flags=raw[at + 13])
        if protocol == SCTP:
            is_cut = packet.network_length < at - ETHERNET_SIZE + SCTP_SIZE
            if is_cut or network.fragment is not Fragment.NONE:
                return None
            return replace(packet, tcp_flags=FLAGS_OF_CHUNK.get(raw[at + 12], ACK))
        return packet
    if network.fragment is not Fragment.NONE or raw[at] not in family.error_types:
        return None
    return replace(_packet(raw, family, network, (0, 0)), icmp_type=raw[at])


def _packet(raw: bytes, family: Family, network: _Network, ports: tuple[int, int]) -> Packet:
    source = ETHERNET_SIZE + family.source_at
    middle = source + family.address_size
    return Packet(
        raw=raw,
        family=family,
        flow=Flow(raw[source:middle], raw[middle : middle + family.address_size], *ports, network.protocol),
        transport=network.transport,
        ttl=raw[ETHERNET_SIZE + family.ttl_at],
        dont_fragment=network.dont_fragment,
        fragment=network.fragment,
        identification=network.identification,
    )
