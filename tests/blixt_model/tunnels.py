"""Rules 13 to 15: packets in packets, put in and taken out; and ICMP errors of flows that go so."""

from __future__ import annotations

import struct

from blixt_model import embryos
from blixt_model.checksum import changed, checksum
from blixt_model.datagrams import with_ports
from blixt_model.errors import quoted_flow
from blixt_model.family import ETHERNET_SIZE, ICMP_SIZE, IPV4, SCTP, Family
from blixt_model.parse import Fragment, Packet, parse
from blixt_model.tables import (
    Arrival,
    Changes,
    Connection,
    ConnectionFlag,
    DeviceFlag,
    DropReason,
    Flow,
    Frontend,
    Opening,
    Tables,
    Via,
    Way,
    partner_of,
)
from blixt_model.translation import read16
from blixt_model.ways import Circumstances, Hook, Outcome, Verdict, send, way_to

TUNNEL_TTL, ANSWER_TTL = 64, 64
#: What stands for an endpoint that left, and is no endpoint's index.
ENDPOINT_LEFT = 0xFFFFFFFF
LEAST_MTU = {4: 68, 6: 1280}
_TUNNEL_PROTOCOL = {4: 4, 6: 41}
_MOST_BYTES = 0xFFFF


def is_tunnelled(flags: int) -> bool:
    return bool(flags & ConnectionFlag.TUNNELLED)


def ending_of(flags: int, ending: int) -> int:
    """A client's FIN ends what goes by a tunnel: the endpoint's is never seen."""
    if is_tunnelled(flags) and ending & ConnectionFlag.FIN_CLIENT:
        return ending | ConnectionFlag.FIN_ENDPOINT
    return ending


def mtu_in(way: Way, flags: int, family: Family) -> int:
    """What a packet may have on this way; 0: unknown."""
    if not is_tunnelled(flags) or way.mtu <= family.header_size:
        return way.mtu
    return way.mtu - family.header_size


def source_of(way: Way, now: Circumstances, tables: Tables) -> bytes | None:
    """Where a tunnel's packets come from."""
    for ifindex in (way.device, now.device):
        device = tables.devices.get(ifindex)
        if device is not None and device.flags & DeviceFlag.MASQUERADE:
            return device.address
    return None


def send_by_tunnel(
    packet: Packet, source: bytes, tunnel_end: bytes, way: Way, now: Circumstances, changes: Changes
) -> Outcome:
    # GSO packets of a test run have no type, for which the kernel makes no room.
    if way.via == Via.STACK or now.gso_size:
        return Outcome(Verdict.DROP, packet.raw, changes)
    inner = packet.raw[ETHERNET_SIZE:]
    length = network_length(packet)
    if packet.family is IPV4:
        length += 20
        total = length if length <= _MOST_BYTES else 0
        head = struct.pack("!BBHHHBBH", 0x45, inner[1] & 0xFC, total, 0, 0x4000, TUNNEL_TTL, 4, 0)
        sum_ = checksum(head + source + tunnel_end)
        head = head[:10] + struct.pack("!H", sum_)
    else:
        head = bytes([0x60 | inner[0] & 0x0F, inner[1] & 0xC0, 0, 0])
        head += struct.pack("!HBB", length if length <= _MOST_BYTES else 0, 41, TUNNEL_TTL)
    return send(packet.raw[:ETHERNET_SIZE] + head + source + tunnel_end + inner, way, now, changes)


def network_length(packet: Packet) -> int:
    """By the network header itself."""
    at = ETHERNET_SIZE + (2 if packet.family is IPV4 else 4)
    return read16(packet.raw, at) + (0 if packet.family is IPV4 else 40)


def arrived(raw: bytes, now: Circumstances, tables: Tables) -> tuple[bytes, int] | Outcome | None:
    """What was in the tunnel, and the endpoint that it is for; what becomes of one that no node
    sent; None: it is none of ours."""
    family = now.family
    header = raw[ETHERNET_SIZE : ETHERNET_SIZE + family.header_size]
    if now.hook is not Hook.UPLINK_INGRESS or not _is_tunnel(header, family):
        return None
    tunnel_end = header[-family.address_size :]
    inner = raw[:ETHERNET_SIZE] + raw[ETHERNET_SIZE + family.header_size :]
    packet = parse(inner, family)
    if packet is not None and packet.protocol == SCTP:
        return None
    if packet is not None and packet.fragment is Fragment.LATER:
        packet = with_ports(packet, now, tables)
    if packet is None:
        return None
    client, is_error = packet.flow, packet.protocol == family.icmp and packet.fragment is Fragment.NONE
    if is_error:
        quoted = quoted_flow(packet)
        if quoted is None:
            return None
        client = partner_of(quoted)
    if not _may_be_opened(packet, tables) and not _is_known(client, now, tables):
        return None
    service = tables.services.get(Frontend(client.destination, client.destination_port, client.protocol))
    index = tables.arrivals.get(Arrival(service.id, tunnel_end), 0) if service else 0
    if not index and not is_error and _is_of_connection(packet, tunnel_end, tables):
        index = ENDPOINT_LEFT
    if not index:
        return None
    if not tables.is_node(_source(header, family)):
        return Outcome(Verdict.DROP, raw, Changes(drops=[DropReason.NO_NODE]))
    # GSO packets of a test run have no type, and the kernel takes nothing off them.
    return None if now.gso_size else (inner, index)


def _may_be_opened(packet: Packet, tables: Tables) -> bool:
    if tables.opening is Opening.STARTS:
        return packet.opens
    return tables.opening is Opening.ALL


def _is_known(client: Flow, now: Circumstances, tables: Tables) -> bool:
    return client in tables.connections or embryos.find(client, now, tables) is not None


def _is_tunnel(header: bytes, family: Family) -> bool:
    if len(header) < family.header_size:
        return False
    if family is IPV4:
        return header[0] == 0x45 and header[9] == 4 and not read16(header, 6) & 0x3FFF
    return header[0] >> 4 == 6 and header[6] == 41


def _is_of_connection(packet: Packet, tunnel_end: bytes, tables: Tables) -> bool:
    entry = tables.connections.get(packet.flow)
    if entry is None or entry.is_reply or is_tunnelled(entry.flags):
        return False
    return entry.becomes.destination == tunnel_end


def translate_tunnel_error(packet: Packet, now: Circumstances, tables: Tables) -> Outcome | None:
    """None: it has nothing to do with tunnels."""
    if now.hook is not Hook.UPLINK_INGRESS or now.arrived_for or packet.ttl <= 1:
        return None
    at = packet.transport + ICMP_SIZE
    outer = _quoted_header(packet, at)
    if outer is None or _source(outer, packet.family) != packet.flow.destination:
        return None
    if _protocol(outer, packet.family) == _TUNNEL_PROTOCOL[packet.family.version]:
        return _error_on_the_way(packet, outer, now, tables)
    quoted = quoted_flow(packet)
    entry = entry_by_tunnel(partner_of(quoted), now, tables) if quoted else None
    if entry is None:
        return None
    way = way_to(entry.becomes.destination, now, tables)
    return send_by_tunnel(packet, entry.becomes.source, entry.becomes.destination, way, now, Changes())


def _error_on_the_way(packet: Packet, outer: bytes, now: Circumstances, tables: Tables) -> Outcome:
    untouched = Outcome(Verdict.NEXT, packet.raw)
    family = packet.family
    kind, code = packet.raw[packet.transport : packet.transport + 2]
    is_too_big = (kind, code) == (3, 4) if family is IPV4 else kind == 2
    inner_at = packet.transport + ICMP_SIZE + family.header_size
    inner = _quoted_header(packet, inner_at)
    if not packet.is_plain or not is_too_big or inner is None:
        return untouched
    ports = struct.unpack_from("!HH", packet.raw, inner_at + family.header_size)
    source, destination = _source(inner, family), inner[-family.address_size :]
    client = Flow(source, destination, ports[0], ports[1], _protocol(inner, family))
    entry = entry_by_tunnel(client, now, tables)
    if entry is None or entry.becomes.destination != outer[-family.address_size :]:
        return untouched
    return _told(packet, outer, client.source, now, tables)


def _told(packet: Packet, outer: bytes, client: bytes, now: Circumstances, tables: Tables) -> Outcome:
    """The error's headers, made anew, in the place of its own and the outer header that it quotes."""
    if now.gso_size:
        return Outcome(Verdict.DROP, packet.raw)
    family, raw, at = packet.family, packet.raw, packet.transport
    quoted = raw[at + ICMP_SIZE + family.header_size :]
    mtu = int.from_bytes(raw[at + 4 : at + 8], "big") & (0xFFFF if family is IPV4 else 0xFFFFFFFF)
    least = LEAST_MTU[family.version]
    mtu = least if mtu < least + family.header_size else mtu - family.header_size
    length = network_length(packet) - family.header_size
    router, node = packet.flow.source, packet.flow.destination
    old, new = raw[at + 4 : at + 8] + outer, struct.pack("!I", mtu) + bytes(len(outer))
    if family is not IPV4:
        old += node + struct.pack("!H", length & 0xFFFF)
        new += client + struct.pack("!H", length - family.header_size & 0xFFFF)
    sum_ = changed(read16(raw, at + 2), old, new)
    payload = length - family.header_size & 0xFFFF
    if family is IPV4:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + payload & 0xFFFF, 0, 0x4000, ANSWER_TTL, 1, 0)
        head = head[:10] + struct.pack("!H", checksum(head + router + client))
    else:
        head = struct.pack("!IHBB", 6 << 28, payload, 58, ANSWER_TTL)
    message = raw[at : at + 2] + struct.pack("!HI", sum_, mtu)
    frame = raw[:ETHERNET_SIZE] + head + router + client + message + quoted
    return send(frame, way_to(client, now, tables), now, Changes())


def entry_by_tunnel(client: Flow, now: Circumstances, tables: Tables) -> Connection | None:
    """Of a client's flow that goes by a tunnel."""
    entry = tables.connections.get(client)
    if entry is None:
        found = embryos.find(client, now, tables)
        if found is None:
            return None
        key, embryo = found
        source = source_of(embryo.way, now, tables)
        if not is_tunnelled(embryo.flags) or source is None:
            return None
        entry = embryos.client_s_entry(key, embryo, source)
    return entry if is_tunnelled(entry.flags) else None


def _quoted_header(packet: Packet, at: int) -> bytes | None:
    """A whole one, with 8 bytes after it."""
    family, raw = packet.family, packet.raw
    if len(raw) < at + family.header_size + 8:
        return None
    if family is IPV4 and (raw[at] != 0x45 or read16(raw, at + 6) & 0x1FFF):
        return None
    if family is not IPV4 and raw[at] >> 4 != 6:
        return None
    return raw[at : at + family.header_size]


def _protocol(header: bytes, family: Family) -> int:
    return header[9] if family is IPV4 else header[6]


def _source(header: bytes, family: Family) -> bytes:
    return header[family.source_at : family.source_at + family.address_size]
