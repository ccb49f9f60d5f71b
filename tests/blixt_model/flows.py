"""Rules 2 and 3: packets of known flows, and flows that begin."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace

from blixt_model.answers import answer_reset, answer_too_big, drop, refuse
from blixt_model.family import ETHERNET_SIZE, TCP, TRANSPORT_SIZE, UDP
from blixt_model.parse import FIN, RST, Packet
from blixt_model.ports import MASK_32, is_closed, is_idle, key_state, own_partner, source_ports
from blixt_model.tables import (
    ENDPOINT_REJECT,
    Affinity,
    AffinityKey,
    Changes,
    Connection,
    ConnectionFlag,
    Counters,
    DeviceFlag,
    DropReason,
    Endpoint,
    EndpointFlag,
    Flow,
    Frontend,
    KeyTried,
    Opening,
    Service,
    ServiceFlag,
    Tables,
    Via,
    Way,
    partner_of,
)
from blixt_model.translation import translate
from blixt_model.ways import Circumstances, Hook, Outcome, Verdict, send, way_to

MASK_64 = 0xFFFFFFFFFFFFFFFF


def handle_flow(packet: Packet, now: Circumstances, tables: Tables) -> Outcome:
    """TCP or UDP with its ports in sight: rules 2 and 3."""
    return _Handling(packet, now, tables).outcome()


def hash_of(flow: Flow, seed: int) -> int:
    """64 bits over the key's words as a little-endian machine reads them."""
    key = struct.pack(
        f"!{len(flow.source)}s{len(flow.destination)}sHHB3x",
        flow.source,
        flow.destination,
        flow.source_port,
        flow.destination_port,
        flow.protocol,
    )
    value = seed
    for word in struct.unpack(f"<{len(key) // 4}I", key):
        value = (value ^ word) * 0x9E3779B97F4A7C15 & MASK_64
        value ^= value >> 32
    return value


def fits(packet: Packet, mtu: int, gso_size: int) -> bool:
    """Whether the packet, or each segment that it will be cut into, is no longer than `mtu` (0: unknown)."""
    if mtu == 0 or packet.length <= mtu:
        return True
    headers = packet.transport - ETHERNET_SIZE + TRANSPORT_SIZE[packet.protocol]
    return gso_size > 0 and headers + gso_size <= mtu


@dataclass(slots=True)
class _Handling:
    """One packet's way through the rules; `changes` lies over `tables`."""

    packet: Packet
    now: Circumstances
    tables: Tables
    changes: Changes = field(default_factory=Changes)

    def outcome(self) -> Outcome:
        if self.packet.ttl <= 1:
            return self._next()
        entry = self._connection(self.packet.flow)
        if self.packet.is_fragment:
            return self._fragment(known=entry is not None)
        return self._new_flow() if entry is None else self._known_flow(entry)

    def _next(self) -> Outcome:
        return Outcome(Verdict.NEXT, self.packet.raw, self.changes)

    def _connection(self, flow: Flow) -> Connection | None:
        if flow in self.changes.connections:
            return self.changes.connections[flow]
        return self.tables.connections.get(flow)

    def _service(self) -> Service | None:
        flow = self.packet.flow
        return self.tables.services.get(Frontend(flow.destination, flow.destination_port, flow.protocol))

    def _live_endpoint(self, index: int, generation: int) -> Endpoint | None:
        endpoint = self.tables.endpoints.get(index)
        return endpoint if endpoint and endpoint.live and endpoint.generation == generation else None

    def _fragment(self, *, known: bool) -> Outcome:
        if known or self._service() is not None:
            return drop(self.packet, DropReason.FRAGMENT, self.changes)
        return self._next()

    # Rule 2

    def _known_flow(self, entry: Connection) -> Outcome:
        if not entry.is_reply:
            endpoint = self._live_endpoint(entry.endpoint, entry.generation)
            if endpoint is None:
                self._forget(entry)
                if self.packet.protocol == TCP and not self.packet.is_new_tcp:
                    self.changes.drops.append(DropReason.ENDPOINT_GONE)
                    return answer_reset(self.packet, self.now, self.changes)
                return self._new_flow()
            if self._begins_anew(entry, endpoint):
                self._forget(entry)
                return self._new_flow()
        if entry.seen_tick != self.now.tick:
            entry = self._refresh(entry)
        if not fits(self.packet, entry.way.mtu, self.now.gso_size):
            if self.packet.dont_fragment:
                return answer_too_big(self.packet, entry.way.mtu, self.now, self.changes)
            return self._carry(entry, Way())
        return self._carry(entry, entry.way)

    def _begins_anew(self, entry: Connection, endpoint: Endpoint) -> bool:
        if self.packet.protocol == UDP:
            return endpoint.silent or is_idle(entry, self.now.tick)
        return self.packet.is_new_tcp and (is_closed(entry) or endpoint.draining)

    def _forget(self, entry: Connection) -> None:
        if own_partner(self.packet.flow, entry, self._connection) is not None:
            self.changes.connections[partner_of(entry.becomes)] = None
        self.changes.connections[self.packet.flow] = None

    def _refresh(self, entry: Connection) -> Connection:
        way = way_to(entry.becomes.destination, self.now, self.tables)
        entry = replace(entry, way=way, seen_tick=self.now.tick)
        self.changes.connections[self.packet.flow] = entry
        if self._connection(partner_of(entry.becomes)) is None:
            self._write_partner(entry)
        return entry

    def _write_partner(self, entry: Connection) -> None:
        self.changes.connections[partner_of(entry.becomes)] = Connection(
            becomes=partner_of(self.packet.flow),
            endpoint=entry.endpoint,
            generation=entry.generation,
            service=entry.service,
            flags=entry.flags ^ ConnectionFlag.REPLY,
        )

    def _carry(self, entry: Connection, way: Way) -> Outcome:
        """Remember, count, translate, send."""
        flags = self._tcp_flags(entry)
        self.changes.connections[self.packet.flow] = replace(
            entry,
            flags=entry.flags | flags,
            packets=entry.packets + 1,
            bytes=entry.bytes + self.packet.length,
        )
        partner = own_partner(self.packet.flow, entry, self._connection)
        if flags and partner is not None:
            self.changes.connections[partner_of(entry.becomes)] = replace(
                partner, flags=partner.flags | flags
            )
        self.changes.count(entry.service, traffic(entry, self.packet))
        frame = translate(self.packet, entry.becomes, lower_ttl=way.via != Via.STACK)
        return send(frame, way, self.now, self.changes)

    def _tcp_flags(self, entry: Connection) -> int:
        flags = 0
        if self.packet.tcp_flags & RST:
            flags |= ConnectionFlag.RESET
        if self.packet.tcp_flags & FIN:
            flags |= ConnectionFlag.FIN_ENDPOINT if entry.is_reply else ConnectionFlag.FIN_CLIENT
        return flags

    # Rule 3

    def _new_flow(self) -> Outcome:
        service = self._service() if self._may_open() else None
        if service is None:
            self._forget_service_before()
            return self._next()
        from_outside = self.now.hook is Hook.UPLINK_INGRESS
        client = self.packet.flow.source
        if (
            from_outside
            and service.flags & ServiceFlag.SOURCE_RANGES
            and not self.tables.in_source_ranges(service.id, client)
        ):
            return drop(self.packet, DropReason.SOURCE_RANGE, self.changes)

        slots, drop_flag = (
            (service.outside, ServiceFlag.DROP_OUTSIDE)
            if from_outside
            else (service.inside, ServiceFlag.DROP_INSIDE)
        )
        flow_hash = hash_of(self.packet.flow, self.now.settings.hash_seed)
        if slots.count == 0:
            if service.flags & drop_flag:
                return drop(self.packet, DropReason.POLICY_LOCAL, self.changes)
            return self._refuse(DropReason.NO_ENDPOINT, service)
        index = self._sticky_endpoint(service)
        if index is None:
            slot = self.tables.slots[slots.first + ((flow_hash >> 32) * slots.count >> 32)]
            index = slot.endpoint if flow_hash & MASK_32 < slot.threshold else slot.alias
        if index == ENDPOINT_REJECT:
            if self.packet.protocol == UDP and service.flags & ServiceFlag.DROP_UDP_REJECTS:
                return drop(self.packet, DropReason.REJECT_SHARE, self.changes)
            return self._refuse(DropReason.REJECT_SHARE, service)
        endpoint = self.tables.endpoints.get(index)
        if endpoint is None or not endpoint.live:
            return self._refuse(DropReason.NO_ENDPOINT, service)
        if service.affinity_ticks:
            self.changes.affinities[AffinityKey(service.id, client)] = Affinity(
                index, endpoint.generation, self.now.tick
            )
        return self._connect(service, index, endpoint, flow_hash)

    def _may_open(self) -> bool:
        opening = self.tables.opening
        return opening is Opening.ALL or (opening is Opening.STARTS and self.packet.is_new_tcp)

    def _forget_service_before(self) -> None:
        """The client had this port to a service, and now goes to its endpoint by itself."""
        flow = self.packet.flow
        key = partner_of(flow)
        entry = self._connection(key)
        if entry is None or not entry.is_reply:
            return
        if (entry.becomes.destination, entry.becomes.destination_port) != (flow.source, flow.source_port):
            return
        client_s = own_partner(key, entry, self._connection)
        if flow.protocol == UDP:
            is_over = client_s is None or self.now.tick - client_s.seen_tick not in (0, 1)
        else:
            is_over = self.packet.is_new_tcp and is_closed(entry)
        if is_over:
            if client_s is not None:
                self.changes.connections[partner_of(entry.becomes)] = None
            self.changes.connections[key] = None

    def _refuse(self, reason: DropReason, service: Service) -> Outcome:
        return refuse(self.packet, reason, service.id, self.now, self.changes)

    def _sticky_endpoint(self, service: Service) -> int | None:
        if not service.affinity_ticks:
            return None
        affinity = self.tables.affinities.get(AffinityKey(service.id, self.packet.flow.source))
        if affinity is None or self.now.tick - affinity.seen_tick > service.affinity_ticks:
            return None
        endpoint = self._live_endpoint(affinity.endpoint, affinity.generation)
        return None if endpoint is None or endpoint.draining else affinity.endpoint

    def _connect(self, service: Service, index: int, endpoint: Endpoint, flow_hash: int) -> Outcome:
        flow = self.packet.flow
        hairpin = endpoint.address == flow.source
        from_outside = self.now.hook is Hook.UPLINK_INGRESS
        masquerade = hairpin or (from_outside and not endpoint.flags & EndpointFlag.LOCAL)

        way = way_to(endpoint.address, self.now, self.tables)
        used_way = way
        if not fits(self.packet, way.mtu, self.now.gso_size):
            if self.packet.dont_fragment:
                return answer_too_big(self.packet, way.mtu, self.now, self.changes)
            used_way = Way()

        source = self._masquerade_address(way) if masquerade else flow.source
        if source is None:
            return drop(self.packet, DropReason.NO_MASQUERADE_ADDRESS, self.changes)
        becomes = Flow(source, endpoint.address, flow.source_port, endpoint.port, flow.protocol)
        keeps_source = not masquerade and self._is_free(becomes, masquerading=False)
        if not keeps_source:
            with_port = self._with_free_port(becomes, flow_hash, masquerading=masquerade)
            if with_port is None:
                return drop(self.packet, DropReason.PORTS_EXHAUSTED, self.changes)
            becomes = with_port

        entry = Connection(
            becomes=becomes,
            endpoint=index,
            generation=endpoint.generation,
            service=service.id,
            flags=0 if keeps_source else ConnectionFlag.MASQUERADED,
            seen_tick=self.now.tick,
            way=way,
        )
        self._write_partner(entry)
        self.changes.count(service.id, Counters(connections=1))
        return self._carry(entry, used_way)

    def _masquerade_address(self, way: Way) -> bytes | None:
        for ifindex in (way.device, self.now.device):
            device = self.tables.devices.get(ifindex)
            if device is not None and device.flags & DeviceFlag.MASQUERADE:
                return device.address
        return None

    def _is_free(self, becomes: Flow, *, masquerading: bool) -> bool:
        flow = self.packet.flow
        state = key_state(partner_of(becomes), flow, self.now.tick, self._connection)
        self.changes.keys.append(KeyTried(flow.protocol, masquerading, state))
        return state.is_free

    def _with_free_port(self, becomes: Flow, flow_hash: int, *, masquerading: bool) -> Flow | None:
        first, count = self.now.settings.port_first, self.now.settings.port_count
        for port in source_ports(becomes.source_port, flow_hash, first, count):
            tried = replace(becomes, source_port=port)
            if self._is_free(tried, masquerading=masquerading):
                return tried
        return None


def traffic(entry: Connection, packet: Packet) -> Counters:
    if entry.is_reply:
        return Counters(packets_out=1, bytes_out=packet.length)
    return Counters(packets_in=1, bytes_in=packet.length)
