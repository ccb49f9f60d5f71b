"""Who holds which address, and which one is free next."""

from __future__ import annotations

import heapq

from blixt_frontend.addresses.pools import Address, Pools, Range
from blixt_frontend.source import ObjectKey


class _Unused:
    """A range's addresses that nobody holds, found without a walk through those that are held.

    From `fresh` on, none was ever the lowest free one. Of those below, the free ones are in `returned`, and
    maybe some that were taken by name since then.
    """

    __slots__ = ("fresh", "returned", "waiting")

    def __init__(self, first: int) -> None:
        self.fresh = first
        self.returned: list[int] = []  # a heap
        self.waiting: set[int] = set()  # the same numbers

    def give_back(self, number: int) -> None:
        if number < self.fresh and number not in self.waiting:
            self.waiting.add(number)
            heapq.heappush(self.returned, number)


class Ledger:
    """At most one holder for each address of the pools. Every operation costs O(log addresses held)."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._holders: dict[Address, ObjectKey] = {}
        self._unused: dict[Range, _Unused] = {}

    def holder(self, address: Address) -> ObjectKey | None:
        return self._holders.get(address)

    def take(self, address: Address, holder: ObjectKey) -> None:
        """The address must be free, and in a pool."""
        assert address not in self._holders
        self._holders[address] = holder

    def release(self, address: Address) -> None:
        """The address must be held."""
        del self._holders[address]
        part = self._pools.range_of(address)
        if part in self._unused:
            self._unused[part].give_back(address.number)

    def lowest_free(self, pool: str, version: int) -> Address | None:
        """The first free address of the first range that has one; of any pool if the name is empty."""
        for part in self._pools.ranges(pool, version):
            number = self._lowest_in(part)
            if number is not None:
                return Address(version, number)
        return None

    def _lowest_in(self, part: Range) -> int | None:
        unused = self._unused.setdefault(part, _Unused(part.first))
        while unused.returned:
            number = unused.returned[0]
            if Address(part.version, number) not in self._holders:
                return number
            unused.waiting.discard(heapq.heappop(unused.returned))
        while unused.fresh <= part.last and Address(part.version, unused.fresh) in self._holders:
            unused.fresh += 1
        return unused.fresh if unused.fresh <= part.last else None
