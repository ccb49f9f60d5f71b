"""Rule 1: what a frame must look like to be ours."""

from __future__ import annotations

from dataclasses import dataclass

from blixt_model.family import ETHERNET_SIZE, ICMP_SIZE, IPV4, TCP, TRANSPORT_SIZE, UDP, Family
from blixt_model.tables import Flow

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10

FRAGMENT_HEADER = 44
#: Hop-by-hop, routing and destination options: eight bytes and as many times eight as their second byte says.
EXTENSION_HEADERS = frozenset({0, 43, 60})
MOST_EXTENSION_HEADERS = 6
FARTHEST_TRANSPORT = 240

MORE_FRAGMENTS, DONT_FRAGMENT = 0x2000, 0x4000


@dataclass(frozen=True, slots=True)
class Packet:
    """A frame and where its parts are. `flow` has port numbers only for TCP and UDP."""

    raw: bytes
    family: Family
    flow: Flow
    #: Offset of the transport header from the start of the frame.
    transport: int
    ttl: int
    dont_fragment: bool
    is_fragment: bool
    #: TCP's flags, ICMP's type.
    tcp_flags: int = 0
    icmp_type: int = 0

    @property
    def protocol(self) -> int:
        return self.flow.protocol

    @property
    def length(self) -> int:
        return len(self.raw) - ETHERNET_SIZE

    @property
    def is_plain(self) -> bool:
        """Without IPv4 options and IPv6 extension headers."""
        return self.transport == ETHERNET_SIZE + self.family.header_size

    @property
    def is_new_tcp(self) -> bool:
        return self.protocol == TCP and self.tcp_flags & (SYN | ACK) == SYN


@dataclass(frozen=True, slots=True)
class _Network:
    transport: int
    protocol: int
    is_fragment: bool
    is_later_fragment: bool
    dont_fragment: bool


def parse(raw: bytes, family: Family) -> Packet | None:
    """None: not ours to handle (`NEXT`)."""
    if len(raw) < ETHERNET_SIZE + family.header_size or int.from_bytes(raw[12:14], "big") != family.ethertype:
        return None
    if raw[ETHERNET_SIZE] >> 4 != family.version:
        return None
    network = _ipv4(raw) if family is IPV4 else _ipv6(raw)
    if network is None or network.is_later_fragment:
        return None
    return _transport(raw, family, network)


def _ipv4(raw: bytes) -> _Network | None:
    header_length = (raw[ETHERNET_SIZE] & 15) * 4
    if header_length < 20:
        return None
    fragment = int.from_bytes(raw[ETHERNET_SIZE + 6 : ETHERNET_SIZE + 8], "big")
    return _Network(
        transport=ETHERNET_SIZE + header_length,
        protocol=raw[ETHERNET_SIZE + 9],
        is_fragment=bool(fragment & MORE_FRAGMENTS),
        is_later_fragment=bool(fragment & 0x1FFF),
        dont_fragment=bool(fragment & DONT_FRAGMENT),
    )


def _ipv6(raw: bytes) -> _Network | None:
    at = ETHERNET_SIZE + 40
    protocol = raw[ETHERNET_SIZE + 6]
    fragment: int | None = None
    skipped = 0
    while protocol in EXTENSION_HEADERS or protocol == FRAGMENT_HEADER:
        if skipped == MOST_EXTENSION_HEADERS or fragment is not None or len(raw) < at + 8:
            return None
        skipped += 1
        if protocol == FRAGMENT_HEADER:
            fragment = int.from_bytes(raw[at + 2 : at + 4], "big")
            protocol, at = raw[at], at + 8
        else:
            protocol, at = raw[at], at + 8 * (raw[at + 1] + 1)
    if at > ETHERNET_SIZE + FARTHEST_TRANSPORT:
        return None
    return _Network(at, protocol, fragment is not None, bool((fragment or 0) & 0xFFF8), True)


def _transport(raw: bytes, family: Family, network: _Network) -> Packet | None:
    at, protocol = network.transport, network.protocol
    needed = ICMP_SIZE if protocol == family.icmp else TRANSPORT_SIZE.get(protocol)
    if needed is None or len(raw) < at + needed:
        return None
    has_ports = protocol in (TCP, UDP)
    if not has_ports and (network.is_fragment or raw[at] not in family.error_types):
        return None
    source = ETHERNET_SIZE + family.source_at
    middle = source + family.address_size
    flow = Flow(
        source=raw[source:middle],
        destination=raw[middle : middle + family.address_size],
        source_port=int.from_bytes(raw[at : at + 2], "big") if has_ports else 0,
        destination_port=int.from_bytes(raw[at + 2 : at + 4], "big") if has_ports else 0,
        protocol=protocol,
    )
    return Packet(
        raw=raw,
        family=family,
        flow=flow,
        transport=at,
        ttl=raw[ETHERNET_SIZE + family.ttl_at],
        dont_fragment=network.dont_fragment,
        is_fragment=network.is_fragment,
        tcp_flags=raw[at + 13] if protocol == TCP else 0,
        icmp_type=0 if has_ports else raw[at],
    )
