"""Brings one family's service maps to what is desired, by writing differences only.

What the kernel holds is read once, at a resync; after that this module knows it, since nobody else
writes those maps. Ids, endpoint indexes and generations are taken over from the kernel, so a connection
made before a restart still finds its endpoint. A failed write makes the next change a resync.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterable, Mapping, Sequence

from blixt_backend.model import PackedAddress, ServiceView
from blixt_backend.planes.ebpf.adopt import ORPHANS, Adopted
from blixt_backend.planes.ebpf.allocate import FullError, Indexes
from blixt_backend.planes.ebpf.compile import Identity, PortKey, PortPlan, compile_view
from blixt_backend.planes.ebpf.endpoints import EndpointTable
from blixt_backend.planes.ebpf.kernel import Batch, ServiceMaps
from blixt_backend.planes.ebpf.layout import EndpointFlag
from blixt_backend.planes.ebpf.ownership import Ownership
from blixt_backend.planes.ebpf.placing import NOWHERE, TablePlace, TableSpace, table_for
from blixt_backend.planes.ebpf.ports import (
    NOTHING,
    PackedIndexes,
    PortState,
    Unfit,
    former_key,
    port_name,
)
from blixt_backend.planes.ebpf.wanted import arrivals, range_keys

log = logging.getLogger(__name__)

_SILENT = EndpointFlag.SILENT.value

#: Services' paths with what they should be, in the order that is theirs.
Plans = Iterable[tuple[str, list[PortPlan]]]


class Reconciler:
    """One family. Not thread-safe: one call at a time, in any thread."""

    def __init__(self, maps: ServiceMaps, *, by_tunnel: bool = False) -> None:
        """`by_tunnel`: endpoints of other nodes are reached so by clients outside (`--forwarding dsr`)."""
        self._maps = maps
        self._by_tunnel = by_tunnel
        self._layout = maps.layout
        self._ports: dict[PortKey, PortState] = {}
        self._by_path: dict[str, list[PortKey]] = {}
        self._owners = Ownership()
        self._range_count = 0
        self._endpoints = EndpointTable(self._layout, maps.limit("endpoints"))
        self._ids = Indexes("counters", maps.limit("counters"))
        self._tables = TableSpace(maps.limit)
        self._known = False
        self.unfit: dict[PortKey, Unfit] = {}
        #: Whether the last change took endpoints away, or said of some that they answer nobody.
        self.endpoints_left = False
        #: Whether the last change brought frontends: the kernel may have translated flows to them until now.
        self.frontends_came = False

    @property
    def in_step(self) -> bool:
        """Whether it is known what the kernel holds; if not, the next change must carry everything."""
        return self._known

    @property
    def family(self) -> str:
        return self._layout.name

    @property
    def frontends(self) -> int:
        return len(self._owners)

    def apply(
        self,
        changed: Mapping[str, ServiceView],
        removed: Iterable[str],
        desired: Mapping[str, ServiceView],
        node_addresses: Sequence[PackedAddress],
        resync: bool,
    ) -> int:
        """Write the difference; returns the rows written. Raises BpfError;
        ports that didn't fit are in `unfit`."""
        plans: Plans = ((path, self._compiled(view, node_addresses)) for path, view in changed.items())
        batch = Batch()
        resync = resync or not self._known
        self._known = False
        gone = set(removed)
        if resync:
            self.unfit.clear()
            plans, orphans = self._adopt(plans, batch)
            gone |= orphans
        for path in gone:
            self._update_path(path, [], batch)
        for path, found in plans:
            self._update_path(path, found, batch)
        self._settle_claims(desired, node_addresses, batch)
        self.endpoints_left = bool(batch.gone_endpoints) or batch.silenced
        self.frontends_came = batch.new_frontends
        self._maps.write(batch)
        for allocator in (self._ids, self._endpoints.indexes, self._tables):
            allocator.settle()
        self._maps.note_unfit(len(self.unfit))
        self._known = True
        return batch.rows

    def _adopt(self, plans: Plans, batch: Batch) -> tuple[Plans, set[str]]:
        """Rebuild the state from the kernel's maps; returns the plans, and the paths that must go."""
        held = self._maps.read()
        adopted = Adopted(self._layout, held, self._maps.limit)
        if adopted.states:  # else no plan is looked at before its turn: all of them are much at once
            plans = list(plans)
            adopted.match(held, [plan for _, found in plans for plan in found])
        self._ports, self._endpoints = adopted.ports, adopted.endpoints
        self._ids, self._tables = adopted.ids, adopted.tables
        self._range_count = len(held.ranges)
        self._by_path, self._owners = {}, Ownership()
        for key, state in adopted.ports.items():
            self._by_path.setdefault(key.path, []).append(key)
            for frontend in state.rows:
                self._owners.give(frontend, key)
        for index, row in adopted.strays.items():
            batch.gone_endpoints.add(index, row)
        batch.names.update(adopted.names)
        return plans, {ORPHANS} & self._by_path.keys()

    # -- one service ------------------------------------------------------------------------------------

    def _update_path(self, path: str, plans: Sequence[PortPlan], batch: Batch) -> None:
        wanted = {plan.key for plan in plans}
        going = {key: None for key in self._by_path.get(path, ()) if key not in wanted}
        for plan in plans if going else ():
            former = None if plan.key in self._ports else former_key(plan, going, self._ports)
            if former is not None:
                del going[former]
                self._rename(former, plan.key, batch)
        for key in going:
            self._remove(key, batch)
        for plan in plans:
            try:
                self._update(plan, batch)
                self.unfit.pop(plan.key, None)
            except FullError as full:
                self.unfit[plan.key] = Unfit(plan.key, full.what, full.used, full.limit)
        kept = [plan.key for plan in plans if plan.key in self._ports]
        if kept:
            self._by_path[path] = kept
        else:
            self._by_path.pop(path, None)

    def _update(self, plan: PortPlan, batch: Batch) -> None:
        """All of a plan, or FullError and nothing."""
        state = self._ports.get(plan.key) or PortState()
        rows_wanted = {row.key for row in plan.frontends if self._owners.may_have(row.key, plan.key)}
        held = state.endpoints.unpacked()
        fresh = [identity for identity in plan.endpoints if identity not in held]
        ids_needed = max(1, len(plan.range_sets))
        self._check_room(rows_wanted - state.rows.keys(), batch)
        new_ids = self._ids.take(max(ids_needed - len(state.ids), 0))
        new_indexes: list[int] = []
        new_places: dict[bytes, TablePlace] = {}
        ids = (state.ids + new_ids)[:ids_needed]
        try:
            ranges = range_keys(plan, ids, self._layout)
            self._check_ranges(state, ranges, batch)
            new_indexes = self._endpoints.indexes.take(len(fresh))
            endpoints = held | dict(zip(fresh, new_indexes, strict=True))
            used = {i for row in plan.frontends if row.key in rows_wanted for i in (row.inside, row.outside)}
            tables = [
                table_for(slots, plan.algorithm, endpoints, self._layout) if position in used else None
                for position, slots in enumerate(plan.sets)
            ]
            new_tables = {t.key: t for t in tables if t and t.key not in state.tables}
            for key, table in new_tables.items():
                new_places[key] = self._tables.take(table)
        except FullError:
            self._ids.put_back(new_ids)
            self._endpoints.indexes.put_back(new_indexes)
            for place in new_places.values():
                self._tables.put_back(place)
            raise
        if plan.key not in self._ports:
            self._ports[plan.key] = state
        for number in state.ids[ids_needed:]:
            self._ids.release(number)
            batch.names[number] = None
        self._write_ids(plan.key, ids, new_ids, batch)
        state.ids = ids
        self._write_endpoints(plan, endpoints, ids[0], batch)
        state.endpoints = PackedIndexes.of(endpoints)
        self._write_arrivals(state, arrivals(plan, endpoints, ids, self._layout), batch)
        self._write_ranges(state, ranges, batch)
        for key, table in new_tables.items():
            batch.add_table(table, new_places[key])
        known = state.tables | new_places
        places = [known[table.key] if table else NOWHERE for table in tables]
        self._write_rows(plan, state, rows_wanted, places, batch)
        state.tables = {table.key: known[table.key] for table in tables if table}
        for key in known.keys() - state.tables.keys():
            self._tables.release(known[key])

    def _remove(self, key: PortKey, batch: Batch) -> None:
        state = self._ports.pop(key)
        self.unfit.pop(key, None)
        for frontend in state.contested:
            self._owners.forget_claim(frontend, key)
        for row in state.rows:
            self._vacate(row, batch)
        for index in state.endpoints.unpacked().values():
            batch.gone_endpoints.add(index, self._endpoints.buried(index))
        for place in state.tables.values():
            self._tables.release(place)
        for number in state.ids:
            self._ids.release(number)
            batch.names[number] = None
        self._write_arrivals(state, {}, batch)
        self._write_ranges(state, NOTHING, batch)

    def _rename(self, former: PortKey, key: PortKey, batch: Batch) -> None:
        state = self._ports[key] = self._ports.pop(former)
        self.unfit.pop(former, None)
        for frontend in state.rows:
            self._owners.give(frontend, key)
        for frontend in state.contested:
            self._owners.forget_claim(frontend, former)
            self._owners.claim(frontend, key)
        for position, number in enumerate(state.ids):
            batch.names[number] = port_name(key, position).rstrip(b"\0")

    def _vacate(self, frontend: bytes, batch: Batch) -> None:
        self._owners.vacate(frontend)
        batch.services[frontend] = None

    # -- the parts of one port --------------------------------------------------------------------------

    def _check_room(self, new: Iterable[bytes], batch: Batch) -> None:
        additional = sum(key not in self._owners for key in new)
        used, limit = len(self._owners), self._maps.limit("services")
        if not additional or used + additional + len(batch.services) <= limit:
            return
        # What is deleted is there until everything else is written.
        deleted = sum(row is None for row in batch.services.values())
        if used + deleted + additional > limit:
            raise FullError("services", used, limit)

    def _check_ranges(self, state: PortState, ranges: frozenset[bytes], batch: Batch) -> None:
        new, limit = len(ranges - state.ranges), self._maps.limit("source_ranges")
        if new and self._range_count + len(batch.gone_ranges) + new > limit:
            raise FullError("source_ranges", self._range_count, limit)

    def _write_ids(self, key: PortKey, ids: list[int], new: list[int], batch: Batch) -> None:
        batch.new_ids.extend(new)
        for number in new:
            batch.names[number] = port_name(key, ids.index(number)).rstrip(b"\0")

    def _write_endpoints(
        self, plan: PortPlan, index_of: dict[Identity, int], service: int, batch: Batch
    ) -> None:
        """`index_of` keeps those of the plan."""
        written = self._endpoints.write(plan.endpoints, index_of, service, batch.endpoints)
        batch.silenced |= bool(written & _SILENT)
        for identity in index_of.keys() - plan.endpoints.keys():
            index = index_of.pop(identity)
            batch.gone_endpoints.add(index, self._endpoints.buried(index))

    def _write_arrivals(self, state: PortState, wanted: Mapping[bytes, int], batch: Batch) -> None:
        packed = PackedIndexes.of(wanted)
        if packed != state.arrivals:
            batch.replace_arrivals(state.arrivals.unpacked(), wanted)
            state.arrivals = packed

    def _write_ranges(self, state: PortState, ranges: frozenset[bytes], batch: Batch) -> None:
        if ranges != state.ranges:
            batch.replace_ranges(state.ranges, ranges)
            self._range_count += len(ranges) - len(state.ranges)
            state.ranges = ranges

    def _write_rows(
        self,
        plan: PortPlan,
        state: PortState,
        wanted: set[bytes],
        places: Sequence[TablePlace],
        batch: Batch,
    ) -> None:
        for key in state.rows.keys() - wanted:
            del state.rows[key]
            self._vacate(key, batch)
        contested: set[bytes] = set()
        for key, flags, inside, outside, ranges in plan.frontends:
            if key not in wanted:
                contested.add(key)
                if key not in state.contested:
                    log.warning(
                        "%s has no %s: %s has it", plan.key, self._readable(key), self._owners.owner(key)
                    )
                continue
            sides = (*places[inside][:2], *places[outside][:2])
            row = (state.ids[max(ranges, 0)], flags, *sides, plan.affinity_ticks)
            batch.new_frontends |= key not in self._owners
            loser = self._owners.give(key, plan.key)
            if loser is not None:
                self._dispossess(loser, key)
            if state.rows.get(key) != row:
                state.rows[key] = row
                batch.services[key] = self._layout.service.pack(*row)
        for key in state.contested - contested:
            self._owners.forget_claim(key, plan.key)
        for key in contested:
            self._owners.claim(key, plan.key)
        state.contested = frozenset(contested) if contested else NOTHING

    def _dispossess(self, loser: PortKey, frontend: bytes) -> None:
        state = self._ports[loser]
        del state.rows[frontend]
        if loser.path != ORPHANS:
            state.contested |= {frontend}
            self._owners.claim(frontend, loser)

    def _readable(self, frontend: bytes) -> str:
        address, port, _ = self._layout.frontend.unpack(frontend)
        return f"{ipaddress.ip_address(address)} port {int.from_bytes(port, 'big')}"

    def _settle_claims(
        self, desired: Mapping[str, ServiceView], node_addresses: Sequence[PackedAddress], batch: Batch
    ) -> None:
        """An address that its owner gave up in this change goes to whoever else asks for it."""
        while waiting := self._owners.take_waiting():
            for path in sorted(waiting & desired.keys()):
                self._update_path(path, self._compiled(desired[path], node_addresses), batch)

    def _compiled(self, view: ServiceView, node_addresses: Sequence[PackedAddress]) -> list[PortPlan]:
        return compile_view(view, self._layout, node_addresses, by_tunnel=self._by_tunnel)
