"""The model and the kernel side by side: the same tables and packets, and every difference a Mismatch."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, field

from blixt_model import loads
from blixt_model.incidents import Aged, EndpointChanged, Evicted, Recounted, Unused
from blixt_model.kernel import Kernel, Run
from blixt_model.network import Network
from blixt_model.programs import process
from blixt_model.steps import Sent, Step
from blixt_model.tables import (
    Arrival,
    Connection,
    Endpoint,
    Flow,
    KernelFlow,
    NodeRange,
    Opening,
    Slot,
    Tables,
)
from blixt_model.ways import Circumstances, Outcome, Settings

TICK_SHIFT = 30
_TICK_NS = 1 << TICK_SHIFT
#: The programs' clock: it goes forward with timer interrupts only.
_COARSE_CLOCK = 6  # CLOCK_MONOTONIC_COARSE, which the module `time` doesn't name
#: Not so near a tick's end.
_LATE_NS = 8_000_000
_BYTES_SHOWN = 200


class Mismatch(AssertionError):  # noqa: N818 - pytest shows it as the failed assertion that it is
    """What differed, on what packet."""


@dataclass(slots=True)
class Comparison:
    """One world's life. Use it inside the network's namespace."""

    kernel: Kernel
    network: Network
    settings: Settings
    tables: Tables = field(default_factory=Tables)
    packets: int = 0
    _raw: dict[bytes, bytes] = field(default_factory=dict)
    _tick: int = 0

    def begin(self, tables: Tables) -> None:
        self.tables = copy.deepcopy(tables)
        self._raw = {}
        self._tick = _now()
        self.kernel.reset(self.tables)

    def take(self, step: Step) -> Outcome | None:
        """Do it on both sides. The outcome of a packet, which is the same on both; raises Mismatch."""
        match step:
            case Sent():
                return self.send(step)
            case Aged(ticks):
                self.age(ticks)
            case Unused(flows, ticks):
                for flow in flows:
                    self.age_one(flow, ticks)
            case EndpointChanged(index, endpoint):
                self.change_endpoint(index, endpoint)
            case Evicted(flow):
                self.evict(flow)
            case Recounted():
                self.recount()
        return None

    def recount(self) -> None:
        """Raises Mismatch."""
        self._keep_up()
        loads.recount(self.tables, self._tick)
        self.kernel.recount()
        raw = self.kernel.connections()
        layout = self.kernel.layout
        rows = {layout.to_flow(key): value for key, value in raw.items()}
        found = {flow: layout.to_connection(row, flow.protocol) for flow, row in rows.items()}
        difference = _table_difference("loads", self.tables.loads, self.kernel.loads(self.tables.loads))
        difference = (
            difference
            or _table_difference("connections", self.tables.connections, found)
            or _table_difference("embryos", self.tables.embryos, self.kernel.embryos())
        )
        if difference:
            raise Mismatch(f"{difference}\n  on counting afresh")
        self._raw = raw

    def change_endpoint(self, index: int, endpoint: Endpoint) -> None:
        self.tables.endpoints[index] = endpoint
        self.kernel.write_endpoint(index, endpoint)

    def change_slot(self, index: int, slot: Slot) -> None:
        self.tables.slots[index] = slot
        self.kernel.write_slot(index, slot)

    def set_opening(self, opening: Opening) -> None:
        self.tables.opening = opening
        self.kernel.write_opening(opening)

    def lose_hints(self) -> None:
        self.tables.hints.clear()
        self.kernel.clear_hints()

    def track(self, *flows: KernelFlow, asked: bool = True) -> None:
        """These, and no others, are in the kernel's connection tracking."""
        self.tables.kernel_flows, self.tables.kernel_asked = flows, asked
        self.kernel.write_kernel_flows(self.tables)

    def arrive(self, arrivals: dict[Arrival, int]) -> None:
        """Tunnels of other nodes lead here, and nowhere else."""
        self.tables.arrivals = arrivals
        self.kernel.write_arrivals(arrivals)

    def know_nodes(self, *ranges: NodeRange) -> None:
        """Tunnels come from these, and from nowhere else."""
        self.tables.node_ranges = frozenset(ranges)
        self.kernel.write_node_ranges(ranges)

    def evict(self, flow: Flow) -> None:
        if flow in self.tables.embryos:
            del self.tables.embryos[flow]
            self.kernel.delete_embryo(flow)
            return
        del self.tables.connections[flow]
        key = self.kernel.layout.flow(flow)
        self.kernel.delete_connection(key)
        del self._raw[key]

    def send(self, sent: Sent) -> Outcome:
        self._keep_up()
        got = self.kernel.run(
            sent.hook,
            sent.frame,
            self.network.ifindexes[sent.device],
            came_in_by=self.network.ifindexes.get(sent.came_in_by, 0),
            gso_size=sent.gso_size,
        )
        raw = self.kernel.connections()
        outcome = process(sent.frame, self._circumstances(sent, self._tick), self.tables)
        difference = self._difference(outcome, got, raw)
        if difference and (later := _now()) != self._tick:
            outcome = process(sent.frame, self._circumstances(sent, later), self.tables)
            difference = difference if self._difference(outcome, got, raw) else ""
        if difference:
            raise Mismatch(_report(sent, difference))
        self.tables.apply(outcome.changes)
        self._raw = raw
        self.packets += 1
        return outcome

    def _circumstances(self, sent: Sent, tick: int) -> Circumstances:
        return Circumstances(
            family=self.kernel.family,
            hook=sent.hook,
            device=self.network.ifindexes[sent.device],
            tick=tick,
            fib=self.network.fib(self.kernel.family),
            settings=self.settings,
            mac=self.network.mac_of(sent.device),
            came_in_by=self.network.ifindexes.get(sent.came_in_by, 0),
            gso_size=sent.gso_size,
        )

    def _difference(self, outcome: Outcome, got: Run, raw: dict[bytes, bytes]) -> str:
        if outcome.verdict != got.verdict:
            return f"verdict: the model says {outcome.verdict!r}, the kernel {got.verdict}"
        if outcome.packet != got.packet:
            return _bytes_difference(outcome.packet, got.packet)
        expected = copy.copy(self.tables)
        expected.connections = dict(self.tables.connections)
        expected.embryos = dict(self.tables.embryos)
        expected.hints = dict(self.tables.hints)
        expected.closed = list(self.tables.closed)
        expected.affinities = dict(self.tables.affinities)
        expected.loads = dict(self.tables.loads)
        expected.fragments = dict(self.tables.fragments)
        expected.counters = dict(self.tables.counters)
        expected.drops = dict(self.tables.drops)
        expected.apply(outcome.changes)
        return (
            self._connection_difference(expected.connections, outcome, raw)
            or _table_difference("embryos", expected.embryos, self.kernel.embryos())
            or _table_difference("affinities", expected.affinities, self.kernel.affinities())
            or _table_difference("loads", expected.loads, self.kernel.loads(expected.loads))
            or _table_difference("fragments", expected.fragments, self.kernel.fragments())
            or _table_difference("counters", expected.counters, self.kernel.counters())
            or _table_difference("drops", expected.drops, self.kernel.drops())
        )

    def _connection_difference(
        self, expected: dict[Flow, Connection], outcome: Outcome, raw: dict[bytes, bytes]
    ) -> str:
        """Looks at what the model changed, and at what changed in the map; the rest was the same before."""
        layout = self.kernel.layout
        touched = {layout.flow(flow) for flow in outcome.changes.connections}
        touched |= {key for key, value in raw.items() if self._raw.get(key) != value}
        touched |= self._raw.keys() - raw.keys()
        for key in touched:
            flow = layout.to_flow(key)
            wanted = expected.get(flow)
            found = layout.to_connection(raw[key], flow.protocol) if key in raw else None
            if wanted != found:
                return f"connections[{flow}]:\n  model  {wanted}\n  kernel {found}"
        return ""

    def _keep_up(self) -> None:
        """When a tick has passed, move all that was seen along with it: a run doesn't depend on its speed."""
        while (passed := time.clock_gettime_ns(_COARSE_CLOCK)) % _TICK_NS > _TICK_NS - _LATE_NS:
            time.sleep(_LATE_NS / 1e9)
        now = passed >> TICK_SHIFT
        if now != self._tick:
            self.age(self._tick - now)
            self._tick = now

    def age(self, ticks: int) -> None:
        """As if everything seen so far had been seen `ticks` earlier."""
        self.tables.age(ticks)
        for flow in self.tables.connections:
            self._write_seen_tick(flow)
        for flow, embryo in self.tables.embryos.items():
            self.kernel.write_embryo(flow, embryo)
        places = self.settings.closing_count
        for number, closing in list(enumerate(self.tables.closed))[-places:]:
            self.kernel.write_closing(number % places, closing)
        for client, affinity in self.tables.affinities.items():
            self.kernel.write_affinity(client, affinity)
        for datagram, first in self.tables.fragments.items():
            self.kernel.write_fragment(datagram, first)

    def age_one(self, flow: Flow, ticks: int) -> None:
        self.tables.age_one(flow, ticks)
        self._write_seen_tick(flow)

    def _write_seen_tick(self, flow: Flow) -> None:
        layout = self.kernel.layout
        key = layout.flow(flow)
        self._raw[key] = layout.with_seen_tick(self._raw[key], self.tables.connections[flow].seen_tick)
        self.kernel.write_connection(key, self._raw[key])


def _now() -> int:
    return time.clock_gettime_ns(_COARSE_CLOCK) >> TICK_SHIFT


def _bytes_difference(wanted: bytes, found: bytes) -> str:
    where = next(
        (i for i, (a, b) in enumerate(zip(wanted, found, strict=False)) if a != b),
        min(len(wanted), len(found)),
    )
    return f"bytes from offset {where}:\n  model  {_hex(wanted)}\n  kernel {_hex(found)}"


def _table_difference(name: str, wanted: object, found: object) -> str:
    if wanted == found:
        return ""
    if isinstance(wanted, dict) and isinstance(found, dict):  # what is the same in both is of no interest
        wanted, found = (
            {key: value for key, value in one.items() if other.get(key) != value}
            for one, other in ((wanted, found), (found, wanted))
        )
    return f"{name}:\n  model  {wanted}\n  kernel {found}"


def _report(sent: Sent, difference: str) -> str:
    return f"{difference}\n  on {sent}"


def _hex(frame: bytes) -> str:
    shown = frame[:_BYTES_SHOWN].hex()
    return shown if len(frame) <= _BYTES_SHOWN else f"{shown}... ({len(frame)} bytes)"
