"""The programs, and rule 8: from a frame to its outcome."""

from __future__ import annotations

from dataclasses import replace

from blixt_model.errors import translate_error
from blixt_model.family import ETHERNET_SIZE, TCP, TRANSPORT_SIZE, UDP
from blixt_model.flows import fits, handle_flow, traffic
from blixt_model.parse import FIN, RST, SYN, Fragment, Packet, parse
from blixt_model.tables import Changes, Connection, Tables, Via
from blixt_model.translation import translate
from blixt_model.tunnels import arrived, is_tunnelled, translate_tunnel_error
from blixt_model.ways import Circumstances, Hook, Outcome, Verdict, XdpVerdict


def process(raw: bytes, now: Circumstances, tables: Tables) -> Outcome:
    """What becomes of a frame. `tables` are only read: the changes are in the outcome."""
    packet = parse(raw, now.family)
    if now.hook is Hook.UPLINK_XDP:
        return _fast_path(packet, now, tables) or Outcome(XdpVerdict.PASS, raw)
    if now.hook is Hook.UPLINK_INGRESS and _is_for_another_host(raw, now.mac):
        return Outcome(Verdict.NEXT, raw)
    if packet is None and (taken := arrived(raw, now, tables)):
        if isinstance(taken, Outcome):
            return taken
        raw, endpoint = taken
        packet, now = parse(raw, now.family), replace(now, arrived_for=endpoint)
    was_handled = now.hook is Hook.NODE_EGRESS and now.came_in_by in tables.devices
    if packet is None or was_handled:
        return Outcome(Verdict.NEXT, raw)
    if packet.protocol in TRANSPORT_SIZE or packet.fragment is Fragment.LATER:
        return handle_flow(packet, now, tables)
    return translate_tunnel_error(packet, now, tables) or translate_error(packet, now, tables)


def _is_for_another_host(raw: bytes, mac: bytes) -> bool:
    is_group = bool(raw[0] & 1)
    return raw[:6] != mac and not is_group


def _fast_path(packet: Packet | None, now: Circumstances, tables: Tables) -> Outcome | None:
    if packet is None or packet.protocol not in (TCP, UDP) or not packet.is_plain:
        return None
    if packet.fragment is not Fragment.NONE:
        return None
    entry = tables.connections.get(packet.flow)
    if entry is None or packet.ttl <= 1 or packet.tcp_flags & (SYN | FIN | RST):
        return None
    way = entry.way
    if is_tunnelled(entry.flags):
        return None
    if entry.seen_tick != now.tick or way.via != Via.DEVICE or not fits(packet, way.mtu, 0):
        return None
    if not entry.is_reply and not _endpoint_remains(entry, packet.protocol, tables):
        return None

    changes = Changes()
    changes.connections[packet.flow] = replace(
        entry, packets=entry.packets + 1, bytes=entry.bytes + packet.length
    )
    changes.count(entry.service, traffic(entry, packet))
    frame = translate(packet, entry.becomes, lower_ttl=True)
    frame = way.to_mac + way.from_mac + frame[ETHERNET_SIZE - 2 :]
    if way.device == now.device:
        return Outcome(XdpVerdict.TX, frame, changes, way.device)
    return Outcome(XdpVerdict.REDIRECT, frame, changes, way.device)


def _endpoint_remains(entry: Connection, protocol: int, tables: Tables) -> bool:
    endpoint = tables.endpoints.get(entry.endpoint)
    if endpoint is None or not endpoint.live or endpoint.generation != entry.generation:
        return False
    # An entry that was seen in this tick isn't idle.
    return protocol == TCP or not endpoint.silent
