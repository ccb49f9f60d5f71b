"""One family's service maps: read whole, and written in batches in the order that no packet can trip over."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from blixt_backend.planes.ebpf.layout import Layout
from blixt_backend.planes.ebpf.maglev import Recipe
from blixt_backend.planes.ebpf.maps import BpfMap, joined
from blixt_backend.planes.ebpf.placing import Table, TablePlace, places

#: Of the map of names, which only userspace uses: `namespace/name:port/PROTOCOL`, cut to this many bytes.
NAME_BYTES = 192
_RANGE_PRESENT = (1).to_bytes(4, sys.byteorder)
_COUNTERS_CHUNK = 512


@dataclass(slots=True)
class Rows:
    """Entries of an array as they are to be written, joined; of one index the last counts."""

    indexes: array[int] = field(default_factory=lambda: array("I"))
    content: bytearray = field(default_factory=bytearray)

    def add(self, index: int, row: bytes) -> None:
        self.indexes.append(index)
        self.content += row

    def __len__(self) -> int:
        return len(self.indexes)


@dataclass(slots=True)
class Batch:
    """What a change writes. Keys and values are packed rows; None deletes."""

    endpoints: Rows = field(default_factory=Rows)
    ranges: set[bytes] = field(default_factory=set)
    arrivals: dict[bytes, int | None] = field(default_factory=dict)
    slots: list[tuple[int, bytes]] = field(default_factory=list)
    maglev: list[tuple[int, Recipe]] = field(default_factory=list)
    services: dict[bytes, bytes | None] = field(default_factory=dict)
    gone_endpoints: Rows = field(default_factory=Rows)
    gone_ranges: set[bytes] = field(default_factory=set)
    names: dict[int, bytes | None] = field(default_factory=dict)
    new_ids: list[int] = field(default_factory=list)
    silenced: bool = False  # some of `endpoints` answers nobody
    new_frontends: bool = False  # some of `services` were not there before

    def add_table(self, table: Table, place: TablePlace) -> None:
        if table.recipe is None:
            self.slots.append((place.first, table.rows))
        else:
            self.maglev.append((place.first, table.recipe))

    def replace_ranges(self, held: frozenset[bytes], wanted: frozenset[bytes]) -> None:
        new, gone = wanted - held, held - wanted
        self.ranges = self.ranges - gone | new
        self.gone_ranges = self.gone_ranges - new | gone

    def replace_arrivals(self, held: Mapping[bytes, int], wanted: Mapping[bytes, int]) -> None:
        if held:
            self.arrivals.update(dict.fromkeys(held.keys() - wanted.keys()))
            wanted = {key: index for key, index in wanted.items() if held.get(key) != index}
        self.arrivals.update(wanted)

    @property
    def rows(self) -> int:
        """How many are written or removed, without names and counters."""
        return (
            len(self.endpoints)
            + len(self.ranges)
            + sum(len(content) for _, content in self.slots) // 12
            + sum(recipe.size for _, recipe in self.maglev)
            + len(self.services)
            + len(self.gone_endpoints)
            + len(self.gone_ranges)
            + len(self.arrivals)
        )

    def __bool__(self) -> bool:
        return bool(
            self.endpoints
            or self.ranges
            or self.arrivals
            or self.slots
            or self.maglev
            or self.services
            or self.gone_endpoints
            or self.gone_ranges
            or self.names
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the kernel holds. Endpoints: (index, identity, flags,
    generation, service) where any byte is set. `maglev`: the digest and size in the head of each table that
    a service points to, by its first entry."""

    services: dict[bytes, tuple[int, ...]]
    slots: bytes
    maglev: dict[int, tuple[bytes, int]]
    endpoints: list[tuple[int, bytes, int, int, int]]
    ranges: set[bytes]
    arrivals: dict[bytes, int]
    names: dict[int, bytes]


class Builder(Protocol):
    """Makes Maglev tables (tasks.Tasks)."""

    def build_maglev(self, jobs: Iterable[tuple[int, Recipe]]) -> None:
        """Each from an entry of `maglev` on, the head before it. May raise BpfError."""


class ServiceMaps:
    """The maps that the reconciler owns, opened from their pins. Every method may raise BpfError."""

    NAMES = (
        *("services", "slots", "maglev", "endpoints", "source_ranges", "counters", "kernel_asked"),
        "arrivals",
        *("names", "unfit"),
    )

    def __init__(self, layout: Layout, maps: dict[str, BpfMap], builder: Builder) -> None:
        """`builder` fills tables of the map `maglev`; it is closed by who made it."""
        self.layout = layout
        self.maps = maps
        self._builder = builder

    @classmethod
    def open(cls, layout: Layout, folder: Path, builder: Builder) -> ServiceMaps:
        return cls(layout, {name: BpfMap.open(folder / name) for name in cls.NAMES}, builder)

    def limit(self, name: str) -> int:
        return self.maps[name].info.max_entries

    def close(self) -> None:
        for opened in self.maps.values():
            opened.close()

    def read(self) -> Snapshot:
        layout = self.layout
        keys, values = self.maps["services"].dump()
        size = layout.frontend.size
        rows = layout.service.iter_unpack(values)
        services = {keys[i * size : (i + 1) * size]: row for i, row in enumerate(rows)}
        tops = [sum(place.extent) for place in places(services.values()) if not place.in_maglev]
        top = max(tops, default=0)
        ranges, _ = self.maps["source_ranges"].dump()
        size = layout.source_range.size
        return Snapshot(
            services=services,
            slots=self.maps["slots"].dump(top)[1] if top else b"",
            maglev=self._maglev_heads(services.values()),
            endpoints=self._endpoints(),
            ranges={ranges[start : start + size] for start in range(0, len(ranges), size)},
            arrivals={k: int.from_bytes(v, sys.byteorder) for k, v in self.maps["arrivals"].items()},
            names={int.from_bytes(key, sys.byteorder): value for key, value in self.maps["names"].items()},
        )

    def note_unfit(self, ports: int) -> None:
        """Leave behind how many ports didn't fit, for whoever asks without a daemon."""
        self.maps["unfit"].update(bytes(4), ports.to_bytes(4, sys.byteorder))

    def _maglev_heads(self, rows: Iterable[tuple[int, ...]]) -> dict[int, tuple[bytes, int]]:
        heads = {}
        for first in {place.first for place in places(rows) if place.in_maglev}:
            head = self.maps["maglev"].lookup((first - 1).to_bytes(4, sys.byteorder))
            digest, count = self.layout.maglev_head.unpack(head or bytes(self.layout.maglev_head.size))
            heads[first] = (digest, count)
        return heads

    def ask_kernel(self, asked: bool) -> None:
        """Whether the programs ask the kernel if a new flow is one that it translates."""
        self.maps["kernel_asked"].update(bytes(4), asked.to_bytes(4, sys.byteorder))

    def _endpoints(self) -> list[tuple[int, bytes, int, int, int]]:
        found, index = [], 0
        for _, values in self.maps["endpoints"].chunks():
            if values.count(0) == len(values):
                index += len(values) // self.layout.endpoint.size
                continue
            for identity, flags, generation, service in self.layout.endpoint.iter_unpack(values):
                if generation or flags:
                    found.append((index, identity, flags, generation, service))
                index += 1
        return found

    def write(self, batch: Batch) -> None:
        """Add what is pointed at, point, then remove what nothing points at any more."""
        self._clear_counters(batch.new_ids)
        self._write_names(batch.names)  # before all else: after a crash they tell whose an id was to be
        self._write_endpoints(batch.endpoints)
        if batch.ranges:
            keys = b"".join(batch.ranges)
            self.maps["source_ranges"].update_joined(keys, _RANGE_PRESENT * len(batch.ranges))
        self._write_arrivals(batch.arrivals)
        self._write_slots(batch.slots)
        self._builder.build_maglev(batch.maglev)  # of endpoints as they were written above
        if batch.new_frontends:
            self.ask_kernel(True)
        pointed = joined((key, value) for key, value in batch.services.items() if value is not None)
        self.maps["services"].update_joined(*pointed)
        self.maps["services"].delete_joined(
            b"".join(k for k, value in batch.services.items() if value is None)
        )
        self.maps["arrivals"].delete_joined(
            b"".join(k for k, index in batch.arrivals.items() if index is None)
        )
        self._write_endpoints(batch.gone_endpoints)
        self.maps["source_ranges"].delete_joined(b"".join(batch.gone_ranges))
        self._delete_names(batch.names)

    def _write_endpoints(self, rows: Rows) -> None:
        self.maps["endpoints"].update_joined(rows.indexes.tobytes(), bytes(rows.content))

    def _write_arrivals(self, arrivals: dict[bytes, int | None]) -> None:
        there = {key: index for key, index in arrivals.items() if index is not None}
        self.maps["arrivals"].update_joined(b"".join(there), array("I", there.values()).tobytes())

    def _write_slots(self, slots: Iterable[tuple[int, bytes]]) -> None:
        size = self.layout.slot.size
        keys, contents = array("I"), []
        for start, content in slots:
            keys.extend(range(start, start + len(content) // size))
            contents.append(content)
        self.maps["slots"].update_joined(keys.tobytes(), b"".join(contents))

    def _write_names(self, names: dict[int, bytes | None]) -> None:
        kept = {number: name for number, name in names.items() if name is not None}
        self.maps["names"].update_joined(
            array("I", kept).tobytes(), b"".join(name.ljust(NAME_BYTES, b"\0") for name in kept.values())
        )

    def _delete_names(self, names: dict[int, bytes | None]) -> None:
        gone = array("I", (number for number, name in names.items() if name is None))
        self.maps["names"].delete_joined(gone.tobytes())

    def _clear_counters(self, ids: list[int]) -> None:
        """An id that was another service's once starts at zero."""
        counters = self.maps["counters"]
        for start in range(0, len(ids), _COUNTERS_CHUNK):
            chunk = array("I", ids[start : start + _COUNTERS_CHUNK])
            counters.update_joined(chunk.tobytes(), bytes(counters.stride * len(chunk)))


def set_kernel_asked(folder: Path, asked: bool) -> None:
    """Before programs run that look at it: see `ServiceMaps.ask_kernel`. Raises BpfError."""
    with BpfMap.open(folder / "kernel_asked") as opened:
        opened.update(bytes(4), asked.to_bytes(4, sys.byteorder))
