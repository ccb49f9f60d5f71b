"""Who may use which number: service ids and endpoint indexes, and ranges of the slots array.

What is released can be taken again only after `settle`, which is called when a change is written: until then
a program may be half way through it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable


class FullError(Exception):
    """Nothing is left. `used` and `limit` count entries."""

    def __init__(self, what: str, used: int, limit: int) -> None:
        super().__init__(f"{what}: {used} of {limit} in use")
        self.what, self.used, self.limit = what, used, limit


class Indexes:
    """Numbers from `first` to below `limit`."""

    def __init__(self, what: str, limit: int, first: int = 1, used: Iterable[int] = ()) -> None:
        held = set(used)
        self._what, self._limit, self._first = what, limit, first
        self._top = max(held, default=first - 1) + 1
        self._free = [number for number in range(self._top - 1, first - 1, -1) if number not in held]
        self._released: list[int] = []

    @property
    def used(self) -> int:
        return self._top - self._first - len(self._free)

    def take(self, count: int) -> list[int]:
        """`count` numbers, or FullError and none."""
        recycled = min(count, len(self._free))
        fresh = count - recycled
        if self._top + fresh > self._limit:
            raise FullError(self._what, self.used, self._limit - self._first)
        taken = [self._free.pop() for _ in range(recycled)]
        taken.extend(range(self._top, self._top + fresh))
        self._top += fresh
        return taken

    def put_back(self, numbers: Iterable[int]) -> None:
        """Numbers that were taken and never written anywhere."""
        self._free.extend(numbers)

    def release(self, number: int) -> None:
        self._released.append(number)

    def settle(self) -> None:
        self._free.extend(self._released)
        self._released.clear()


class Ranges:
    """Runs of neighbouring entries from an array of `limit`."""

    def __init__(self, what: str, limit: int, used: Iterable[tuple[int, int]] = ()) -> None:
        self._what, self._limit = what, limit
        self._free: defaultdict[int, list[int]] = defaultdict(list)  # length -> starts
        self._free_total = 0
        self._released: list[tuple[int, int]] = []
        self._top = 0
        for start, count in sorted(used):
            if start > self._top:
                self._add(self._top, start - self._top)
            self._top = max(self._top, start + count)

    @property
    def used(self) -> int:
        return self._top - self._free_total

    def take(self, count: int) -> int:
        """The start of a range of `count` > 0 entries. FullError when there is none."""
        start = self._exact(count)
        if start is None:
            start = self._from_top(count)
        if start is None:
            start = self._split(count)
        if start is None:
            self._merge()
            start = self._from_top(count)
            if start is None:
                start = self._split(count)
        if start is None:
            raise FullError(self._what, self.used, self._limit)
        return start

    def put_back(self, start: int, count: int) -> None:
        """A range that was taken and never written anywhere."""
        self._add(start, count)

    def release(self, start: int, count: int) -> None:
        self._released.append((start, count))

    def settle(self) -> None:
        for start, count in self._released:
            self._add(start, count)
        self._released.clear()

    def _add(self, start: int, count: int) -> None:
        self._free[count].append(start)
        self._free_total += count

    def _exact(self, count: int) -> int | None:
        starts = self._free.get(count)
        if not starts:
            return None
        self._free_total -= count
        return starts.pop()

    def _from_top(self, count: int) -> int | None:
        if self._top + count > self._limit:
            return None
        self._top += count
        return self._top - count

    def _split(self, count: int) -> int | None:
        lengths = sorted(length for length, starts in self._free.items() if starts)
        position = bisect_left(lengths, count)
        if position == len(lengths):
            return None
        length = lengths[position]
        start = self._free[length].pop()
        self._free_total -= length
        if length > count:
            self._add(start + count, length - count)
        return start

    def _merge(self) -> None:
        pieces = sorted((start, length) for length, starts in self._free.items() for start in starts)
        self._free.clear()
        self._free_total = 0
        merged: list[tuple[int, int]] = []
        for start, length in pieces:
            if merged and sum(merged[-1]) == start:
                merged[-1] = (merged[-1][0], merged[-1][1] + length)
            else:
                merged.append((start, length))
        if merged and sum(merged[-1]) == self._top:
            self._top = merged.pop()[0]
        for start, length in merged:
            self._add(start, length)
