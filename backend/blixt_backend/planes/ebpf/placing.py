"""Where tables of choices stand: alias tables in `slots`, Maglev tables in `maglev`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from blixt_backend.model import Algorithm
from blixt_backend.planes.ebpf.allocate import Ranges
from blixt_backend.planes.ebpf.compile import Identity, SlotSet, render_slots
from blixt_backend.planes.ebpf.layout import Layout, ServiceFlag
from blixt_backend.planes.ebpf.maglev import Recipe, entries_of, recipe


class TablePlace(NamedTuple):
    """As a service's row has it: the first entry, and how many slots there are to choose from."""

    first: int
    slots: int
    in_maglev: bool = False

    @property
    def extent(self) -> tuple[int, int]:
        """First entry and number of entries that are taken; a Maglev table has its head before it."""
        return (self.first - 1, entries_of(self.slots)) if self.in_maglev else (self.first, self.slots)


NOWHERE = TablePlace(0, 0)


def places(rows: Iterable[tuple[int, ...]]) -> Iterator[TablePlace]:
    """Where rows of struct service, unpacked, point to; nowhere is left out."""
    for _, flags, *ranges, _ticks in rows:
        by_maglev = bool(flags & ServiceFlag.MAGLEV)
        for first, count in (ranges[:2], ranges[2:]):
            if count:
                yield TablePlace(first, count, by_maglev)


@dataclass(frozen=True, slots=True)
class Table:
    """What a set of choices becomes. `key` is found again in the kernel: an alias table's rows, else the
    recipe's digest; no key is both."""

    key: bytes
    count: int
    recipe: Recipe | None = None


def table_for(
    slots: SlotSet, algorithm: Algorithm, index_of: Mapping[Identity, int], layout: Layout
) -> Table | None:
    """None: nobody is in the set. Raises FullError."""
    if not slots.choices:
        return None
    if algorithm is Algorithm.MAGLEV:
        made = recipe(slots, index_of, layout)
        return Table(made.digest, made.size, made)
    rows = render_slots(slots, index_of, layout)
    return Table(rows, len(rows) // layout.slot.size)


class TableSpace:
    """Which entries of both arrays are taken. What is released can be taken after `settle`."""

    def __init__(self, limit: Callable[[str], int], used: Iterable[TablePlace] = ()) -> None:
        """`limit` tells a map's entries."""
        taken = list(used)
        self._spaces = {
            in_maglev: Ranges(name, limit(name), [p.extent for p in taken if p.in_maglev == in_maglev])
            for in_maglev, name in ((False, "slots"), (True, "maglev"))
        }

    def take(self, table: Table) -> TablePlace:
        """Raises FullError."""
        if table.recipe is None:
            return TablePlace(self._spaces[False].take(table.count), table.count)
        return TablePlace(self._spaces[True].take(entries_of(table.count)) + 1, table.count, True)

    def put_back(self, place: TablePlace) -> None:
        """A place that was taken and never written."""
        self._spaces[place.in_maglev].put_back(*place.extent)

    def release(self, place: TablePlace) -> None:
        self._spaces[place.in_maglev].release(*place.extent)

    def settle(self) -> None:
        for space in self._spaces.values():
            space.settle()
