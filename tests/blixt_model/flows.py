"""Rules 2 and 3: packets of known flows, and flows that begin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from blixt_model import embryos, loads
from blixt_model.answers import answer_too_big, drop, refuse, refuse_gone, refuse_vacant
from blixt_model.datagrams import datagram_of, with_ports
from blixt_model.family import ETHERNET_SIZE, SCTP, TRANSPORT_SIZE, UDP
from blixt_model.hashing import MASK_32, hash_of, maglev_hash
from blixt_model.kernel_flows import kernel_answers_with, kernel_has
from blixt_model.parse import FIN, RST, SYN, Fragment, Packet
from blixt_model.ports import is_closed, is_idle, is_over, key_state, own_partner, source_ports
from blixt_model.tables import (
    CLOSED_BY_BOTH,
    ENDPOINT_REJECT,
    Affinity,
    AffinityKey,
    Changes,
    Closing,
    Connection,
    ConnectionFlag,
    Counters,
    DeviceFlag,
    DropReason,
    Embryo,
    Endpoint,
    EndpointFlag,
    FirstFragment,
    Flow,
    Frontend,
    KeyState,
    KeyTried,
    Load,
    Opening,
    Service,
    ServiceFlag,
    SlotRange,
    Tables,
    VacancyAnswer,
    Via,
    Way,
    partner_of,
)
from blixt_model.translation import translate, translate_addresses
from blixt_model.tunnels import ending_of, entry_by_tunnel, is_tunnelled, mtu_in, send_by_tunnel, source_of
from blixt_model.ways import Circumstances, Hook, Outcome, Verdict, send, way_to

CLOSING_TICKS = 2
#: What a connection that begins again must not have.
ENDED = CLOSED_BY_BOTH | ConnectionFlag.RESET


#: For so long a first fragment is remembered.


def handle_flow(packet: Packet, now: Circumstances, tables: Tables) -> Outcome:
    """TCP, UDP or SCTP with its ports in sight, and later fragments: rules 2, 3 and 11."""
    return _Handling(packet, now, tables).outcome()


def fits(packet: Packet, mtu: int, gso_size: int) -> bool:
    """Whether the packet, or each segment that it will be cut into, is no longer than `mtu` (0: unknown)."""
    if mtu == 0 or packet.length <= mtu:
        return True
    if packet.protocol == SCTP:
        return gso_size > 0
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
        if self.packet.fragment is Fragment.LATER:
            return self._later_fragment()
        entry = self._connection(self.packet.flow)
        if self.packet.fragment is Fragment.FIRST and (
            entry is not None or self._service() is not None or self._embryo(self.packet.flow) is not None
        ):
            self._remember_first_fragment()
        return self._new_flow() if entry is None else self._known_flow(entry)

    def _next(self) -> Outcome:
        return Outcome(Verdict.NEXT, self.packet.raw, self.changes)

    def _is_the_kernel_s(self) -> bool:
        if self._service() is None or not kernel_has(self.packet, self.tables):
            return False
        self.changes.left_to_kernel = self.packet.flow
        return True

    def _connection(self, flow: Flow) -> Connection | None:
        if flow in self.changes.connections:
            return self.changes.connections[flow]
        return self.tables.connections.get(flow)

    def _embryo(self, key: Flow) -> Embryo | None:
        if key in self.changes.embryos:
            return self.changes.embryos[key]
        return self.tables.embryos.get(key)

    def _service(self) -> Service | None:
        flow = self.packet.flow
        return self.tables.services.get(Frontend(flow.destination, flow.destination_port, flow.protocol))

    def _live_endpoint(self, index: int, generation: int) -> Endpoint | None:
        endpoint = self.tables.endpoints.get(index)
        return endpoint if endpoint and endpoint.live and endpoint.generation == generation else None

    # Rule 2

    def _goes_in_circles(self, flags: int) -> bool:
        """Another node has sent here what this one, as it has it, would send on to a third."""
        return bool(self.now.arrived_for) and is_tunnelled(flags)

    def _known_flow(self, entry: Connection) -> Outcome:
        if self._goes_in_circles(entry.flags):
            return self._new_flow(entry)
        if not entry.is_reply:
            endpoint = self._live_endpoint(entry.endpoint, entry.generation)
            if endpoint is None:
                if self.packet.protocol != UDP and not self.packet.opens:
                    self._forget(entry)
                    return refuse_gone(self.packet, self.now, self.tables, self.changes)
                return self._new_flow(entry)
            if self._begins_anew(entry, endpoint):
                return self._new_flow(entry)
        elif self.packet.tcp_flags & SYN and is_over(entry.flags):
            return self._new_flow(entry)
        return self._go_on(entry)

    def _go_on(self, entry: Connection) -> Outcome:
        if entry.seen_tick != self.now.tick:
            entry = self._refresh(entry)
        own = not entry.is_reply and entry.becomes.source == self.packet.flow.source
        way_on = self._usable(entry.way, entry.flags, keeps_source=own)
        if way_on is None:
            return self._too_big(entry.way, entry.flags)
        return self._carry(entry, way_on)

    def _may_be_cut(self, *, keeps_source: bool) -> bool:
        """Whether the stack may make fragments of this packet and send them."""
        at_ingress = self.now.hook is not Hook.NODE_EGRESS
        return at_ingress and keeps_source and self.packet.protocol == UDP and not self.packet.dont_fragment

    def _begins_anew(self, entry: Connection, endpoint: Endpoint) -> bool:
        if self.packet.protocol == UDP:
            return endpoint.silent or is_idle(entry, self.now.tick)
        return self.packet.opens and (is_closed(entry) or endpoint.draining)

    def _count_opened(self, entry: Connection | Embryo) -> None:
        if loads.is_counted(entry.flags):
            before = self._load(entry.endpoint)
            self.changes.loads[entry.endpoint] = loads.opened(before, entry.generation)

    def _count_over(self, entry: Connection) -> None:
        """`entry` as it was."""
        if loads.is_counted(entry.flags):
            before = self._load(entry.endpoint)
            self.changes.loads[entry.endpoint] = loads.ended(before, entry.generation)

    def _load(self, index: int) -> Load:
        return self.changes.loads.get(index) or self.tables.loads.get(index, Load())

    def _forget(self, entry: Connection) -> None:
        self._count_over(entry)
        if own_partner(self.packet.flow, entry, self._connection) is not None:
            self.changes.connections[partner_of(entry.becomes)] = None
        self.changes.connections[self.packet.flow] = None

    def _refresh(self, entry: Connection) -> Connection:
        way = way_to(entry.becomes.destination, self.now, self.tables)
        entry = replace(entry, way=way, seen_tick=self.now.tick)
        if is_tunnelled(entry.flags):
            source = source_of(way, self.now, self.tables) or entry.becomes.source
            entry = replace(entry, becomes=replace(entry.becomes, source=source))
            self.changes.connections[self.packet.flow] = entry
            return entry
        self.changes.connections[self.packet.flow] = entry
        key = partner_of(entry.becomes)
        if self._connection(key) is None and self._embryo(key) is None:
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
        flags = ending_of(entry.flags, self._tcp_flags(is_reply=entry.is_reply))
        self._count(replace(entry, flags=entry.flags | flags))
        partner = own_partner(self.packet.flow, entry, self._connection)
        is_closing = not is_over(entry.flags) and is_over(entry.flags | flags)
        if is_closing and (entry.is_reply or not flags & ConnectionFlag.RESET):
            self._take_place(partner_of(entry.becomes) if entry.is_reply else self.packet.flow)
        if flags and partner is not None:
            self.changes.connections[partner_of(entry.becomes)] = replace(
                partner, flags=partner.flags | flags
            )
        client_s = partner if entry.is_reply else entry
        if client_s is not None and is_over(client_s.flags | flags):
            self._count_over(client_s)
        return self._translated(entry.becomes, way, entry.flags)

    def _take_place(self, client: Flow) -> None:
        """Of the connection that was over so many others ago, which goes."""
        closed, places = self.tables.closed, self.now.settings.closing_count
        self.changes.closed = Closing(client, self.now.tick)
        if len(closed) < places:
            return
        going = closed[-places]
        entry = self._connection(going.client)
        if entry is None or entry.is_reply or not is_closed(entry):
            return
        if min(self.now.tick - going.tick, self.now.tick - entry.seen_tick) > CLOSING_TICKS:
            if own_partner(going.client, entry, self._connection) is not None:
                self.changes.connections[partner_of(entry.becomes)] = None
            self.changes.connections[going.client] = None

    def _translated(self, becomes: Flow, way: Way, flags: int = 0) -> Outcome:
        if is_tunnelled(flags):
            if way.via == Via.STACK:
                return drop(self.packet, DropReason.NO_WAY, self.changes)
            return send_by_tunnel(
                self.packet, becomes.source, becomes.destination, way, self.now, self.changes
            )
        frame = translate(self.packet, becomes, lower_ttl=way.via != Via.STACK)
        return send(frame, way, self.now, self.changes)

    def _too_big(self, way: Way, flags: int = 0) -> Outcome:
        mtu = mtu_in(way, flags, self.packet.family)
        return answer_too_big(self.packet, mtu, self.now, self.tables, self.changes)

    def _usable(self, way: Way, flags: int = 0, *, keeps_source: bool) -> Way | None:
        """What is too big, and may be cut to pieces, goes by the stack; None: it may not."""
        if fits(self.packet, mtu_in(way, flags, self.packet.family), self.now.gso_size):
            return way
        return Way() if self._may_be_cut(keeps_source=keeps_source) else None

    # Rule 3.10

    def _unanswered(self) -> Outcome | None:
        """A client's packet whose flow is no connection yet; None: there is no such flow, or not any more."""
        found = embryos.find(self.packet.flow, self.now, self.tables)
        if found is None:
            return None
        key, embryo = found
        endpoint = self.tables.endpoints[embryo.endpoint]
        circles = self._goes_in_circles(embryo.flags)
        if circles or embryos.begins_anew(embryo, self.packet, endpoint, self.now.tick):
            self.changes.embryos[key] = None
            return None
        if embryo.seen_tick != self.now.tick:
            way = way_to(key.source, self.now, self.tables)
            embryo = replace(embryo, way=way, seen_tick=self.now.tick)
            self.changes.embryos[key] = embryo
        own = key.destination == self.packet.flow.source and not is_tunnelled(embryo.flags)
        way_on = self._usable(embryo.way, embryo.flags, keeps_source=own)
        if way_on is None:
            return self._too_big(embryo.way, embryo.flags)
        if is_tunnelled(embryo.flags) and source_of(embryo.way, self.now, self.tables) is None:
            return drop(self.packet, DropReason.NO_MASQUERADE_ADDRESS, self.changes)
        self.changes.embryos[key] = embryo = embryos.with_packet(
            embryo, self.packet.length, ending_of(embryo.flags, self._tcp_flags(is_reply=False))
        )
        self._grow(key, embryo)
        self.changes.count(embryo.service, Counters(packets_in=1, bytes_in=self.packet.length))
        return self._translated_first(key, embryo, way_on)

    def _translated_first(self, key: Flow, embryo: Embryo, way_on: Way) -> Outcome:
        becomes = embryos.client_s_entry(key, embryo, self._tunnel_source(embryo)).becomes
        return self._translated(becomes, way_on, embryo.flags)

    def _tunnel_source(self, embryo: Embryo) -> bytes:
        """Empty: its packets go by none."""
        if not is_tunnelled(embryo.flags):
            return b""
        return source_of(embryo.way, self.now, self.tables) or b""

    def _grow(self, key: Flow, embryo: Embryo) -> None:
        if embryos.shows_life(embryo, self.packet, self.now.tick):
            self._promote(key, embryo)

    def _promote(self, key: Flow, embryo: Embryo, answer_s: Way | None = None) -> None:
        """`answer_s`: the way that an answer goes right now."""
        reply = embryos.endpoint_s_entry(embryo)
        if answer_s is not None:
            reply = replace(reply, seen_tick=self.now.tick, way=answer_s)
        if not is_tunnelled(embryo.flags):
            self.changes.connections[key] = reply
        self.changes.connections[embryo.flow] = opened = embryos.client_s_entry(
            key, embryo, self._tunnel_source(embryo)
        )
        self.changes.embryos[key] = None
        if key.protocol != UDP:
            self._count_opened(opened)

    def _answer(self, embryo: Embryo) -> Outcome:
        """What the endpoint of a flow sends that is no connection yet."""
        key, becomes = self.packet.flow, partner_of(embryo.flow)
        way = way_to(becomes.destination, self.now, self.tables)
        way_on = self._usable(way, keeps_source=False)
        if way_on is None:
            return self._too_big(way)
        flags = self._tcp_flags(is_reply=True)
        self.changes.embryos[key] = embryo = embryos.with_answer(embryo, self.packet.length, flags)
        if embryos.has_grown(embryo):
            self._promote(key, embryo, way)
        self.changes.count(embryo.service, Counters(packets_out=1, bytes_out=self.packet.length))
        return self._translated(becomes, way_on)

    def _count(self, entry: Connection) -> None:
        self.changes.connections[self.packet.flow] = replace(
            entry, packets=entry.packets + 1, bytes=entry.bytes + self.packet.length
        )
        self.changes.count(entry.service, traffic(entry, self.packet))

    def _tcp_flags(self, *, is_reply: bool) -> int:
        flags = 0
        if self.packet.tcp_flags & RST:
            flags |= ConnectionFlag.RESET
        if self.packet.tcp_flags & FIN:
            flags |= ConnectionFlag.FIN_ENDPOINT if is_reply else ConnectionFlag.FIN_CLIENT
        return flags

    # Rule 11

    def _remember_first_fragment(self) -> None:
        flow = self.packet.flow
        self.changes.fragments[datagram_of(self.packet)] = FirstFragment(
            flow.source_port, flow.destination_port, flow.protocol, self.now.tick
        )

    def _later_fragment(self) -> Outcome:
        packet = with_ports(self.packet, self.now, self.tables)
        if packet is None:
            return self._next()
        self.packet = packet
        entry = self._connection(packet.flow)
        if entry is not None and (
            self._goes_in_circles(entry.flags)
            or not (entry.is_reply or self._live_endpoint(entry.endpoint, entry.generation))
        ):
            return drop(self.packet, DropReason.FRAGMENT, self.changes)
        if entry is None:
            return self._later_fragment_by_embryo()
        if entry.seen_tick != self.now.tick:
            entry = self._refresh(entry)
        return self._carry_later(entry, entry.way, lambda: self._count(entry))

    def _later_fragment_by_embryo(self) -> Outcome:
        """Nothing of the flow changes."""
        flow = self.packet.flow
        entry = embryos.entry_of(flow, self.now, self.tables)
        entry = entry or entry_by_tunnel(flow, self.now, self.tables)
        if entry is None:
            return self._next()
        if self._goes_in_circles(entry.flags):
            return drop(self.packet, DropReason.FRAGMENT, self.changes)
        way = way_to(entry.becomes.destination, self.now, self.tables)
        counted = traffic(entry, self.packet)
        return self._carry_later(entry, way, lambda: self.changes.count(entry.service, counted))

    def _carry_later(self, entry: Connection, way: Way, count: Callable[[], None]) -> Outcome:
        tunnelled, becomes = is_tunnelled(entry.flags), entry.becomes
        mtu = mtu_in(way, entry.flags, self.packet.family)
        if mtu and self.packet.length > mtu:
            if self.packet.dont_fragment or tunnelled:
                return drop(self.packet, DropReason.TOO_BIG, self.changes)
            way = Way()
        count()
        if tunnelled:
            return self._translated(becomes, way, entry.flags)
        frame = translate_addresses(self.packet, becomes, lower_ttl=way.via != Via.STACK)
        return send(frame, way, self.now, self.changes)

    # Rule 3

    def _new_flow(self, old: Connection | None = None) -> Outcome:
        """`old` is what stands under the flow's key, and must not go on as it is."""
        service = self._service()
        if service is not None and old is None and (outcome := self._unanswered()) is not None:
            return outcome
        if old is None and self._is_the_kernel_s():
            return self._next()
        if service is None or not self._may_open():
            return self._to_no_service(old, defined=service is not None)
        partner = own_partner(self.packet.flow, old, self._connection) if old is not None else None
        if old is not None:
            self._forget(old)
        flow_hash = hash_of(self.packet.flow, self.now.settings.hash_seed)
        if self.now.arrived_for:
            index = self.now.arrived_for
        else:
            chosen = self._choose(service, flow_hash)
            if isinstance(chosen, Outcome):
                return chosen
            index = chosen
        endpoint = self.tables.endpoints.get(index)
        if endpoint is None or not endpoint.live:
            return self._refuse(DropReason.NO_ENDPOINT, service)
        if service.affinity_ticks and not self.now.arrived_for:
            self.changes.affinities[AffinityKey(service.id, self.packet.flow.source)] = Affinity(
                index, endpoint.generation, self.now.tick
            )
        if old is not None and partner is not None and self._may_reuse(old, index, endpoint):
            return self._begin_again(service, endpoint, old, partner)
        return self._connect(service, index, endpoint, flow_hash)

    def _choose(self, service: Service, flow_hash: int) -> int | Outcome:
        """An endpoint's index, or what becomes of the packet without one."""
        from_outside = self.now.from_outside
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
        if slots.count == 0:
            if service.flags & drop_flag:
                return drop(self.packet, DropReason.POLICY_LOCAL, self.changes)
            return self._refuse(DropReason.NO_ENDPOINT, service)
        index = self._sticky_endpoint(service)
        if index is None:
            index = self._chosen_endpoint(service, slots, flow_hash)
        if index == ENDPOINT_REJECT:
            if self.packet.protocol == UDP and service.flags & ServiceFlag.DROP_UDP_REJECTS:
                return drop(self.packet, DropReason.REJECT_SHARE, self.changes)
            return self._refuse(DropReason.REJECT_SHARE, service)
        return index

    def _may_open(self) -> bool:
        opening = self.tables.opening
        return opening is Opening.ALL or (opening is Opening.STARTS and self.packet.opens)

    def _to_no_service(self, old: Connection | None, *, defined: bool) -> Outcome:
        if old is not None:
            self._forget(old)
        embryo = self._embryo(self.packet.flow)
        if embryo is not None and not is_tunnelled(embryo.flags):
            return self._answer(embryo)
        if not defined and self._may_open() and (self.packet.protocol == UDP or self.packet.opens):
            match self.tables.vacancy(self.packet.flow.destination):
                case VacancyAnswer.REFUSED:
                    return refuse_vacant(self.packet, self.now, self.tables, self.changes)
                case VacancyAnswer.DROPPED:
                    return drop(self.packet, DropReason.UNALLOCATED, self.changes)
        self._forget_service_before()
        return self._next()

    def _chosen_endpoint(self, service: Service, slots: SlotRange, flow_hash: int) -> int:
        if service.flags & ServiceFlag.MAGLEV:
            everywhere = maglev_hash(self.packet.flow, by_client=service.affinity_ticks > 0)
            return self.tables.maglev[slots.first, (everywhere >> 32) * slots.count >> 32]
        if service.flags & ServiceFlag.LEAST_CONNECTIONS:
            return loads.least_of_two(self.tables, slots, flow_hash)
        slot = self.tables.slots[slots.first + ((flow_hash >> 32) * slots.count >> 32)]
        return slot.endpoint if flow_hash & MASK_32 < slot.threshold else slot.alias

    def _forget_service_before(self) -> None:
        """The client had this port to a service, and now goes to its endpoint by itself."""
        flow = self.packet.flow
        key = partner_of(flow)
        embryo = self._embryo(key)
        may_begin = flow.protocol == UDP or self.packet.opens
        if embryo is not None and may_begin and self.now.tick - embryo.seen_tick not in (0, 1):
            client = (embryo.flow.source, embryo.flow.source_port)
            if client == (flow.source, flow.source_port):
                self.changes.embryos[key] = None
        entry = self._connection(key)
        if entry is None or not entry.is_reply:
            return
        if (entry.becomes.destination, entry.becomes.destination_port) != (flow.source, flow.source_port):
            return
        client_s = own_partner(key, entry, self._connection)
        if flow.protocol == UDP:
            is_over = client_s is None or self.now.tick - client_s.seen_tick not in (0, 1)
        else:
            is_over = self.packet.opens and is_closed(entry)
        if is_over:
            self._count_over(entry)
            if client_s is not None:
                self.changes.connections[partner_of(entry.becomes)] = None
            self.changes.connections[key] = None

    def _refuse(self, reason: DropReason, service: Service) -> Outcome:
        return refuse(self.packet, reason, service.id, self.now, self.tables, self.changes)

    def _sticky_endpoint(self, service: Service) -> int | None:
        if not service.affinity_ticks:
            return None
        affinity = self.tables.affinities.get(AffinityKey(service.id, self.packet.flow.source))
        if affinity is None or self.now.tick - affinity.seen_tick > service.affinity_ticks:
            return None
        endpoint = self._live_endpoint(affinity.endpoint, affinity.generation)
        return None if endpoint is None or endpoint.draining else affinity.endpoint

    def _masquerades(self, endpoint: Endpoint) -> bool:
        hairpin = endpoint.address == self.packet.flow.source
        reached = endpoint.flags & (EndpointFlag.LOCAL | EndpointFlag.TUNNELLED)
        return hairpin or (self.now.from_outside and not reached)

    def _goes_by_tunnel(self, endpoint: Endpoint) -> bool:
        wanted = self.now.from_outside and endpoint.flags & EndpointFlag.TUNNELLED
        return bool(wanted) and not self._masquerades(endpoint)

    def _may_reuse(self, old: Connection, index: int, endpoint: Endpoint) -> bool:
        is_same = (old.endpoint, old.generation) == (index, endpoint.generation)
        otherwise = old.flags & (ConnectionFlag.MASQUERADED | ConnectionFlag.TUNNELLED)
        needs_more = self._masquerades(endpoint) or self._goes_by_tunnel(endpoint)
        return is_same and not otherwise and not needs_more

    def _begin_again(
        self, service: Service, endpoint: Endpoint, old: Connection, partner: Connection
    ) -> Outcome:
        """Both entries of a connection that is over are there: they become the new one's."""
        kept = ~(ENDED | ConnectionFlag.COUNTED)
        old, partner = (
            replace(
                entry,
                flags=entry.flags & kept | counted_flag(endpoint),
                service=service.id,
                packets=0,
                bytes=0,
            )
            for entry in (old, partner)
        )
        self.changes.connections[self.packet.flow] = old
        self.changes.connections[partner_of(old.becomes)] = partner
        self._count_opened(old)
        self.changes.count(service.id, Counters(connections=1))
        return self._go_on(old)

    def _connect(self, service: Service, index: int, endpoint: Endpoint, flow_hash: int) -> Outcome:
        flow = self.packet.flow
        way = way_to(endpoint.address, self.now, self.tables)
        tunnelled = ConnectionFlag.TUNNELLED.value if self._goes_by_tunnel(endpoint) else 0
        keeps_source = not tunnelled and not self._masquerades(endpoint)
        way_on = self._usable(way, tunnelled, keeps_source=keeps_source)
        if way_on is None:
            return self._too_big(way, tunnelled)
        if tunnelled and source_of(way, self.now, self.tables) is None:
            return drop(self.packet, DropReason.NO_MASQUERADE_ADDRESS, self.changes)
        masquerading, device, source = self._masquerades(endpoint), 0, flow.source
        if masquerading:
            found = self._masquerade_address(way)
            if found is None:
                return drop(self.packet, DropReason.NO_MASQUERADE_ADDRESS, self.changes)
            device, source = found
        embryo = Embryo(
            flow=flow,
            endpoint=index,
            generation=endpoint.generation,
            service=service.id,
            born_tick=self.now.tick,
            seen_tick=self.now.tick,
            way=way,
            flags=ending_of(tunnelled, self._tcp_flags(is_reply=False)) | counted_flag(endpoint) | tunnelled,
            packets=1,
            bytes=self.packet.length,
        )
        key = Flow(endpoint.address, source, endpoint.port, flow.source_port, flow.protocol)
        claimed = None if masquerading else self._claim(key, embryo, masquerading=False)
        if claimed is None:
            found_key = self._claim_a_port(key, embryo, flow_hash, masquerading=masquerading)
            if found_key is None:
                return drop(self.packet, DropReason.PORTS_EXHAUSTED, self.changes)
            key, claimed = found_key
        place, tag = embryos.place_of_hint(flow, self.now)
        self.changes.hints[place] = embryos.hint_to(key, embryo, device, tag)
        is_known = claimed is KeyState.EMBRYO_OWN
        counted = Counters(connections=0 if is_known else 1, packets_in=1, bytes_in=self.packet.length)
        self.changes.count(service.id, counted)
        if flow.protocol == UDP and not is_known:
            self._count_opened(embryo)
        if is_known:
            taken_up = self._embryo(key)
            assert taken_up is not None
            self._grow(key, taken_up)
        return self._translated_first(key, embryo, way_on)

    def _masquerade_address(self, way: Way) -> tuple[int, bytes] | None:
        for ifindex in (way.device, self.now.device):
            device = self.tables.devices.get(ifindex)
            if device is not None and device.flags & DeviceFlag.MASQUERADE:
                return ifindex, device.address
        return None

    def _claim(self, key: Flow, embryo: Embryo, *, masquerading: bool) -> KeyState | None:
        """Take the key, if it is free; what it was before. A flow that was answered before, and whose
        endpoint's entry is still there, is a connection at once."""
        state = self._key_state(key, embryo)
        self.changes.keys.append(KeyTried(key.protocol, masquerading, state))
        if not state.is_free:
            return None
        if state is KeyState.OWN:
            self._promote(key, embryo)
            return state
        if state is KeyState.OVER:
            self.changes.connections[key] = None
        there = self._embryo(key)
        if state is KeyState.EMBRYO_OWN and there is not None:
            if (there.endpoint, there.generation) == (embryo.endpoint, embryo.generation):
                embryo = embryos.taken_up(embryo, there)
            else:
                state = KeyState.EMBRYO_OVER
        self.changes.embryos[key] = embryo
        return state

    def _key_state(self, key: Flow, embryo: Embryo) -> KeyState:
        state = key_state(key, self.packet.flow, self.now.tick, self._connection)
        if state is not KeyState.OWN and kernel_answers_with(key, self.tables):
            return KeyState.KERNEL
        there = self._embryo(key)
        if there is None or state not in (KeyState.UNUSED, KeyState.OVER):
            return state
        if is_over(there.flags):
            return KeyState.EMBRYO_OVER
        if there.flow == embryo.flow:
            return KeyState.EMBRYO_OWN
        late = embryos.gives_way(there, self.now.tick)
        return KeyState.EMBRYO_YIELDS if late else KeyState.EMBRYO_TAKEN

    def _claim_a_port(
        self, key: Flow, embryo: Embryo, flow_hash: int, *, masquerading: bool
    ) -> tuple[Flow, KeyState] | None:
        """With another source port; if none is free, with one whose flow gives way."""
        first, count = self.now.settings.port_first, self.now.settings.port_count
        embryo = replace(embryo, flags=embryo.flags | ConnectionFlag.MASQUERADED)
        yielded = None
        for port in source_ports(self.packet.flow.source_port, flow_hash, first, count):
            tried = replace(key, destination_port=port)
            state = self._claim(tried, embryo, masquerading=masquerading)
            if state is not None:
                return tried, state
            if yielded is None and self.changes.keys[-1].state is KeyState.EMBRYO_YIELDS:
                yielded = tried
        if yielded is None:
            return None
        self.changes.embryos[yielded] = embryo
        return yielded, KeyState.EMBRYO_YIELDS


def traffic(entry: Connection, packet: Packet) -> Counters:
    if entry.is_reply:
        return Counters(packets_out=1, bytes_out=packet.length)
    return Counters(packets_in=1, bytes_in=packet.length)


def counted_flag(endpoint: Endpoint) -> int:
    return ConnectionFlag.COUNTED if endpoint.flags & EndpointFlag.COUNTED else 0
