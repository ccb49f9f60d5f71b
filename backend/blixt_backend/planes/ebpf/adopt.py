"""Takes over what the kernel holds: which service id, which indexes and slots belong to which desired port.

Ids are found again by the map of names, which is written before anything of an id and deleted after all of
it; where it was lost, or the port has another name now, by the frontends that point to them. Endpoints are
known by id, address and port.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

from blixt_backend.planes.ebpf.allocate import Indexes
from blixt_backend.planes.ebpf.compile import Identity, PortKey, PortPlan
from blixt_backend.planes.ebpf.endpoints import EndpointTable
from blixt_backend.planes.ebpf.kernel import Snapshot
from blixt_backend.planes.ebpf.layout import EndpointFlag, Layout
from blixt_backend.planes.ebpf.placing import TablePlace, TableSpace, key_of_rows, places
from blixt_backend.planes.ebpf.ports import PackedIndexes, PortState, port_name

_LIVE = EndpointFlag.LIVE.value
#: The made-up path of ids that no desired port has.
ORPHANS = ""


class Adopted:
    """Ports with what they hold, allocators that know what is used, and rows that must be written off."""

    def __init__(self, layout: Layout, held: Snapshot, limit: Callable[[str], int]) -> None:
        """`limit` tells a map's entries."""
        self.ports: dict[PortKey, PortState] = {}
        #: Rows of endpoints that nobody would ever find: the rest of a change that failed half way.
        self.strays: dict[int, bytes] = {}
        #: Names to write, of ids that had none or another one.
        self.names: dict[int, bytes] = {}
        self._duplicates: list[TablePlace] = []
        self.endpoints = EndpointTable(layout, limit("endpoints"), held.endpoints)
        #: What each service id has. While there are any, ports must be found for them: `match`.
        self.states = self._states(layout, held)
        used = {place for state in self.states.values() for place in state.tables.values()}
        self.tables = TableSpace(limit, used.union(self._duplicates))
        self.ids = Indexes("counters", limit("counters"), 1, self.states)

    def _states(self, layout: Layout, held: Snapshot) -> dict[int, PortState]:
        states: defaultdict[int, PortState] = defaultdict(PortState)
        keepers: dict[TablePlace, int] = {}
        for key, row in sorted(held.services.items(), key=lambda item: item[1][0]):
            state = states[row[0]]
            state.rows[key] = row
            for place in places([row]):
                # A port's two ids share tables: one of them keeps those, lest they be freed with the other.
                if keepers.setdefault(place, row[0]) == row[0]:
                    self._keep_table(state, _key_of(place, held, layout), place)
        endpoints: defaultdict[int, dict[Identity, int]] = defaultdict(dict)
        for index, identity, flags, _, number in held.endpoints:
            if flags & _LIVE:
                self._keep_endpoint(endpoints[number], identity, index)
        for number, indexes in endpoints.items():
            states[number].endpoints = PackedIndexes.of(indexes)
        ranges: defaultdict[int, set[bytes]] = defaultdict(set)
        for key in held.ranges:
            ranges[int.from_bytes(key[4:8], "big")].add(key)
        for number, found in ranges.items():
            states[number].ranges = frozenset(found)
        arrivals: defaultdict[int, dict[bytes, int]] = defaultdict(dict)
        for key, index in held.arrivals.items():
            arrivals[layout.arrival.unpack(key)[0]][key] = index
        for number, there in arrivals.items():
            states[number].arrivals = PackedIndexes.of(there)
        for number in held.names.keys() - states.keys():  # a name alone is a rest of something, too
            states[number] = PortState()
        return dict(states)

    def match(self, held: Snapshot, plans: Sequence[PortPlan]) -> None:
        """Find the ports that the ids are of. Those that nobody desires are under the path ORPHANS."""
        states = self.states
        names = Names(held.names, plans)
        free = dict.fromkeys(states)
        for plan in plans:
            state = PortState()
            for position in range(max(1, len(plan.range_sets))):
                number = _find_id(plan, position, held, free, names)
                if number is None:
                    break
                del free[number]
                name = port_name(plan.key, position)
                if held.names.get(number) != name:
                    self.names[number] = name.rstrip(b"\0")
                self._merge(state, number, states[number])
            if state.ids:
                self.ports[plan.key] = state
        for number in free:
            self.ports[PortKey(ORPHANS, str(number), 0)] = state = PortState()
            self._merge(state, number, states[number])
        for place in self._duplicates:  # rows that still point there are about to be written
            self.tables.release(place)

    def _merge(self, state: PortState, number: int, part: PortState) -> None:
        is_first = not state.ids
        for key, place in part.tables.items():
            self._keep_table(state, key, place)
        endpoints = state.endpoints.unpacked()
        for identity, index in part.endpoints.unpacked().items():
            self._keep_endpoint(endpoints, identity, index)
            if not is_first and endpoints[identity] == index:
                self.endpoints.distrust(index)  # it should name the first id
        state.endpoints = PackedIndexes.of(endpoints)
        state.ids.append(number)
        state.rows |= part.rows
        state.ranges |= part.ranges
        state.arrivals = PackedIndexes.of(state.arrivals.unpacked() | part.arrivals.unpacked())

    def _keep_table(self, state: PortState, key: bytes, place: TablePlace) -> None:
        if state.tables.setdefault(key, place) != place:
            self._duplicates.append(place)

    def _keep_endpoint(self, endpoints: dict[Identity, int], identity: Identity, index: int) -> None:
        if endpoints.setdefault(identity, index) != index:
            self.strays[index] = self.endpoints.buried(index)


def _key_of(place: TablePlace, held: Snapshot, layout: Layout) -> bytes:
    """Table.key of what is there."""
    if not place.in_maglev:
        first, entries = place.extent
        size = layout.slot.size
        return key_of_rows(held.slots[first * size : (first + entries) * size], place.algorithm)
    digest, count = held.maglev[place.first]
    # A head that is someone else's makes no desired table's key.
    return digest if count == place.slots and any(digest) else b"broken %d" % place.first


class Names:
    """The map of names, both ways."""

    def __init__(self, names: Mapping[int, bytes], plans: Sequence[PortPlan]) -> None:
        self._names = names
        self._ids = {name: number for number, name in names.items()}
        self._plans = plans

    def id_of(self, key: PortKey, position: int) -> int | None:
        return self._ids.get(port_name(key, position))

    def may_be(self, number: int, key: PortKey) -> bool:
        """Whether an id that a port's frontends point to is that port's: it has no name, or was another one's
        of the same service that is no more."""
        name = self._names.get(number)
        if name is None:
            return True
        return name.startswith(f"{key.path}:".encode()) and name not in self._wanted

    @cached_property
    def _wanted(self) -> frozenset[bytes]:
        return frozenset(
            port_name(plan.key, position)
            for plan in self._plans
            for position in range(max(1, len(plan.range_sets)))
        )


def _find_id(
    plan: PortPlan, position: int, held: Snapshot, free: Mapping[int, None], names: Names
) -> int | None:
    named = names.id_of(plan.key, position)
    if named in free:
        return named
    for frontend in plan.frontends:
        if max(frontend.ranges, 0) == position and (row := held.services.get(frontend.key)):
            number = row[0]
            if number in free and names.may_be(number, plan.key):
                return number
    return None
