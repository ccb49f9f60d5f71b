"""Where tables of choices stand: alias tables in `slots`, Maglev tables in `maglev`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from blixt_backend.model import Algorithm
from blixt_backend.planes.ebpf.allocate import Ranges
from blixt_backend.planes.ebpf.compile import (
    Identity,
    SlotSet,
    algorithm_of,
    render_slots,
    render_weighed_slots,
)
from blixt_backend.planes.ebpf.layout import Layout
from blixt_backend.planes.ebpf.maglev import Recipe, entries_of, recipe

_ENTRIES_A_SLOT = {Algorithm.WEIGHTED_RANDOM: 1, Algorithm.LEAST_CONNECTIONS: 2}
#: So that no key is that of another algorithm's table.
_KEY_OF_WEIGHED = b"weighed"


class TablePlace(NamedTuple):
    """As a service's row has it: the first entry, and how many slots there are to choose from."""

    first: int
    slots: int
    algorithm: Algorithm = Algorithm.WEIGHTED_RANDOM

    @property
    def in_maglev(self) -> bool:
        return self.algorithm is Algorithm.MAGLEV

    @property
    def extent(self) -> tuple[int, int]:
        """First entry and number of entries that are taken; a Maglev table has its head before it, and a slot
        by least connections its weights behind."""
        if self.in_maglev:
            return self.first - 1, entries_of(self.slots)
        return self.first, self.slots * _ENTRIES_A_SLOT[self.algorithm]


NOWHERE = TablePlace(0, 0)


def places(rows: Iterable[tuple[int, ...]]) -> Iterator[TablePlace]:
    """Where rows of struct service, unpacked, point to; nowhere is left out."""
    for _, flags, *ranges, _ticks in rows:
        algorithm = algorithm_of(flags)
        for first, count in (ranges[:2], ranges[2:]):
            if count:
                yield TablePlace(first, count, algorithm)


@dataclass(frozen=True, slots=True)
class Table:
    """What a set of choices becomes. `key` is found again in the kernel (`key_of_rows`); a Maglev table has a
    recipe, the others rows of `slots`."""

    key: bytes
    slots: int
    algorithm: Algorithm
    rows: bytes = b""
    recipe: Recipe | None = None


def key_of_rows(rows: bytes, algorithm: Algorithm) -> bytes:
    """Table.key of what is in `slots`. A Maglev table's is the digest in its head."""
    return _KEY_OF_WEIGHED + rows if algorithm is Algorithm.LEAST_CONNECTIONS else rows


def table_for(
    slots: SlotSet, algorithm: Algorithm, index_of: Mapping[Identity, int], layout: Layout
) -> Table | None:
    """None: nobody is in the set. Raises FullError."""
    count = len(slots.choices)
    if not count:
        return None
    if algorithm is Algorithm.MAGLEV:
        made = recipe(slots, index_of, layout)
        return Table(made.digest, made.size, algorithm, recipe=made)
    render = render_weighed_slots if algorithm is Algorithm.LEAST_CONNECTIONS else render_slots
    rows = render(slots, index_of, layout)
    return Table(key_of_rows(rows, algorithm), count, algorithm, rows)


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
        start, entries = TablePlace(0, table.slots, table.algorithm).extent
        taken = self._spaces[table.recipe is not None].take(entries)
        return TablePlace(taken - start, table.slots, table.algorithm)

    def put_back(self, place: TablePlace) -> None:
        """A place that was taken and never written."""
        self._spaces[place.in_maglev].put_back(*place.extent)

    def release(self, place: TablePlace) -> None:
        self._spaces[place.in_maglev].release(*place.extent)

    def settle(self) -> None:
        for space in self._spaces.values():
            space.settle()
