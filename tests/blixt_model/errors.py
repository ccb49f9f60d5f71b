"""Rule 7: ICMP errors about packets of translated flows."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from blixt_model import embryos
from blixt_model.checksum import changed, changed_udp
from blixt_model.family import CHECKSUM_AT, ICMP_SIZE, IPV4, SCTP, TCP, TRANSPORT_SIZE, UDP
from blixt_model.parse import FRAGMENT_HEADER, Packet
from blixt_model.tables import Changes, ConnectionFlag, Flow, Tables, Via, partner_of
from blixt_model.translation import read16, replace_checksum, rewrite_network
from blixt_model.ways import Circumstances, Outcome, Verdict, send, way_to


@dataclass(frozen=True, slots=True)
class _Quoted:
    """The packet inside an ICMP error; offsets from the start of the frame."""

    flow: Flow
    network: int
    transport: int


def translate_error(packet: Packet, now: Circumstances, tables: Tables) -> Outcome:
    untouched = Outcome(Verdict.NEXT, packet.raw)
    quoted = _quoted(packet)
    if packet.ttl <= 1 or quoted is None or quoted.flow.source != packet.flow.destination:
        return untouched
    key = partner_of(quoted.flow)
    becomes = _translation(key, now, tables)
    if becomes is None:
        return untouched
    source = becomes.source if packet.flow.source == key.source else packet.flow.source
    way = way_to(becomes.destination, now, tables)

    frame = bytearray(packet.raw)
    _rewrite_quoted(frame, packet, quoted, partner_of(becomes))
    addresses = source + becomes.destination
    rewrite_network(frame, packet, addresses, lower_ttl=way.via != Via.STACK)
    _fix_icmp_checksum(frame, packet, addresses)
    return send(bytes(frame), way, now, Changes())


def _translation(flow: Flow, now: Circumstances, tables: Tables) -> Flow | None:
    """What packets of the flow become, whether or not it is a connection."""
    entry = tables.connections.get(flow) or embryos.entry_of(flow, now, tables)
    return entry.becomes if entry and not entry.flags & ConnectionFlag.TUNNELLED else None


def quoted_flow(packet: Packet) -> Flow | None:
    """Of the TCP or UDP packet that an ICMP error is about."""
    quoted = _quoted(packet)
    return quoted.flow if quoted else None


def _quoted(packet: Packet) -> _Quoted | None:
    family, raw = packet.family, packet.raw
    network = packet.transport + ICMP_SIZE
    transport = network + family.header_size
    if len(raw) < transport + 8:
        return None
    if family is IPV4:
        if raw[network] != 0x45 or read16(raw, network + 6) & 0x1FFF:
            return None
        protocol = raw[network + 9]
    else:
        if raw[network] >> 4 != 6:
            return None
        protocol = raw[network + 6]
        if protocol == FRAGMENT_HEADER:
            if read16(raw, transport + 2) & 0xFFF8 or len(raw) < transport + 16:
                return None
            protocol, transport = raw[transport], transport + 8
    if protocol not in TRANSPORT_SIZE:
        return None
    source = network + family.source_at
    middle = source + family.address_size
    ports = struct.unpack_from("!HH", raw, transport)
    destination = raw[middle : middle + family.address_size]
    flow = Flow(raw[source:middle], destination, ports[0], ports[1], protocol)
    return _Quoted(flow, network, transport)


def _rewrite_quoted(frame: bytearray, packet: Packet, quoted: _Quoted, to: Flow) -> None:
    start, end = quoted.network + packet.family.source_at, quoted.network + packet.family.header_size
    ports = slice(quoted.transport, quoted.transport + 4)
    old, new = bytes(frame[start:end]), to.source + to.destination
    frame[start:end] = new
    if packet.family is IPV4:
        at = quoted.network + 10
        replace_checksum(frame, at, changed(read16(frame, at), old, new))
    old, new = old + frame[ports], new + struct.pack("!HH", to.source_port, to.destination_port)
    frame[ports] = new[-4:]
    if quoted.flow.protocol == SCTP:  # nobody looks at its checksum, but for its tag
        return
    at = quoted.transport + CHECKSUM_AT[quoted.flow.protocol]
    if quoted.flow.protocol == UDP:
        replace_checksum(frame, at, changed_udp(read16(frame, at), old, new))
    elif quoted.flow.protocol == TCP and len(frame) >= at + 2:
        replace_checksum(frame, at, changed(read16(frame, at), old, new))


def _fix_icmp_checksum(frame: bytearray, packet: Packet, addresses: bytes) -> None:
    """By the difference too: what arrived broken must not leave mended."""
    at = packet.transport + 2
    old, new = packet.raw[packet.transport + ICMP_SIZE :], bytes(frame[packet.transport + ICMP_SIZE :])
    if packet.family is not IPV4:
        old = packet.flow.source + packet.flow.destination + old
        new = addresses + new
    odd = b"\0" * (len(old) % 2)
    replace_checksum(frame, at, changed(read16(frame, at), old + odd, new + odd))
