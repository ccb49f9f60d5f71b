"""Rule 6: answers in the endpoint's stead."""

from __future__ import annotations

import struct

from blixt_model.checksum import checksum, ones_sum, pseudo_header
from blixt_model.family import CHECKSUM_AT, ETHERNET_SIZE, IPV4, QUOTED_SIZE, SCTP, TCP
from blixt_model.parse import ACK, FIN, RST, SYN, Fragment, Packet
from blixt_model.tables import Changes, Counters, DropReason, Tables
from blixt_model.ways import Circumstances, Outcome, Verdict, send, way_to


def drop(packet: Packet, reason: DropReason, changes: Changes) -> Outcome:
    changes.drops.append(reason)
    return Outcome(Verdict.DROP, packet.raw, changes)


def refuse(
    packet: Packet, reason: DropReason, service: int, now: Circumstances, tables: Tables, changes: Changes
) -> Outcome:
    changes.count(service, Counters(refused=1))
    return _refuse(packet, reason, now, tables, changes)


def refuse_vacant(packet: Packet, now: Circumstances, tables: Tables, changes: Changes) -> Outcome:
    """At an address of a service that hasn't this port."""
    return _refuse(packet, DropReason.UNDEFINED_PORT, now, tables, changes)


def refuse_gone(packet: Packet, now: Circumstances, tables: Tables, changes: Changes) -> Outcome:
    """To an endpoint that is no longer there."""
    return _refuse(packet, DropReason.ENDPOINT_GONE, now, tables, changes)


def _refuse(
    packet: Packet, reason: DropReason, now: Circumstances, tables: Tables, changes: Changes
) -> Outcome:
    changes.drops.append(reason)
    if packet.protocol == TCP:
        return answer_reset(packet, now, tables, changes)
    kind, code = (3, 3) if packet.family is IPV4 else (1, 4)
    return _answer_error(packet, kind, code, 0, now, tables, changes)


def answer_too_big(packet: Packet, mtu: int, now: Circumstances, tables: Tables, changes: Changes) -> Outcome:
    changes.drops.append(DropReason.TOO_BIG)
    kind, code = (3, 4) if packet.family is IPV4 else (2, 0)
    return _answer_error(packet, kind, code, mtu, now, tables, changes)


def answer_reset(packet: Packet, now: Circumstances, tables: Tables, changes: Changes) -> Outcome:
    if not _answerable(packet) or packet.fragment is not Fragment.NONE:
        return Outcome(Verdict.DROP, packet.raw, changes)
    sequence, acknowledgement = struct.unpack_from("!II", packet.raw, packet.transport + 4)
    if packet.tcp_flags & ACK:
        numbers, flags = (acknowledgement, 0), RST
    else:
        more = _payload_bytes(packet) + bool(packet.tcp_flags & SYN) + bool(packet.tcp_flags & FIN)
        numbers, flags = (0, (sequence + more) & 0xFFFFFFFF), RST | ACK
    segment = struct.pack(
        "!HHIIBBHHH", packet.flow.destination_port, packet.flow.source_port, *numbers, 5 << 4, flags, 0, 0, 0
    )
    return _answer(packet, TCP, segment, 16, now, tables, changes)


def _payload_bytes(packet: Packet) -> int:
    data_offset = 4 * (packet.raw[packet.transport + 12] >> 4)
    return packet.network_length - packet.family.header_size - data_offset


def _answerable(packet: Packet) -> bool:
    if packet.tcp_flags & RST:
        return False
    if packet.protocol == SCTP and len(packet.raw) < packet.transport + QUOTED_SIZE[SCTP]:
        return False
    has_fragment_header_only = (
        packet.family is not IPV4
        and packet.fragment is Fragment.FIRST
        and packet.transport == ETHERNET_SIZE + packet.family.header_size + 8
    )
    return packet.is_plain or has_fragment_header_only


def _answer_error(
    packet: Packet, kind: int, code: int, mtu: int, now: Circumstances, tables: Tables, changes: Changes
) -> Outcome:
    if not _answerable(packet):
        return Outcome(Verdict.DROP, packet.raw, changes)
    quoted = packet.raw[ETHERNET_SIZE : packet.transport + QUOTED_SIZE[packet.protocol]]
    message = struct.pack("!BBHI", kind, code, 0, mtu) + quoted
    return _answer(packet, packet.family.icmp, message, 2, now, tables, changes, _still_to_come(packet))


def _still_to_come(packet: Packet) -> int:
    """What the transport checksum will add to a sum over the packet once a device has finished it.

    A checksum left to the device holds the pseudo header's sum until then; with the real one, the transport's
    part of the quoted packet sums up to the complement of that.
    """
    if packet.fragment is not Fragment.NONE or packet.protocol == SCTP:
        return 0
    flow, transport = packet.flow, packet.raw[packet.transport :]
    length = packet.network_length - packet.family.header_size & 0xFFFFFFFF
    pseudo = ones_sum(flow.source + flow.destination + struct.pack("!II", length, flow.protocol))
    at = CHECKSUM_AT[flow.protocol]
    if int.from_bytes(transport[at : at + 2], "big") != pseudo:
        return 0
    as_it_is = ones_sum(transport[: QUOTED_SIZE[flow.protocol]])
    return ones_sum(struct.pack("!HH", ~pseudo & 0xFFFF, ~as_it_is & 0xFFFF))


def _answer(
    packet: Packet,
    protocol: int,
    body: bytes,
    checksum_at: int,
    now: Circumstances,
    tables: Tables,
    changes: Changes,
    more: int = 0,
) -> Outcome:
    """`body`, its checksum still zero, back to where the packet came from; `more` is added to its sum."""
    source, destination = packet.flow.destination, packet.flow.source
    covered = body
    if not (packet.family is IPV4 and protocol == IPV4.icmp):
        covered = pseudo_header(source, destination, protocol, len(body)) + body
    body = body[:checksum_at] + struct.pack("!H", checksum(covered, more)) + body[checksum_at + 2 :]
    if packet.family is IPV4:
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0x4000, 64, protocol, 0)
        header_checksum = checksum(header + source + destination)
        header = header[:10] + struct.pack("!H", header_checksum)
    else:
        header = struct.pack("!IHBB", 6 << 28, len(body), protocol, 64)
    frame = packet.raw[6:12] + packet.raw[:6] + packet.raw[12:14] + header + source + destination + body
    if now.arrived_for:
        return send(frame, way_to(packet.flow.source, now, tables), now, changes)
    return Outcome(Verdict.REDIRECT, frame, changes, now.device)
