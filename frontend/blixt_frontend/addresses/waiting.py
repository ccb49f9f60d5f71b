"""Requests that lack an address, by what could help them."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from itertools import chain
from typing import TypeVar

from blixt_frontend.addresses.pools import Address, Pools
from blixt_frontend.addresses.requests import Request, Wish
from blixt_frontend.source import ObjectKey

K = TypeVar("K", bound=Hashable)


class Waiting:
    """Finds those that a free address helps, without asking the others."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._for_address: dict[Address, dict[ObjectKey, Request]] = {}
        self._for_any: dict[tuple[str, int], dict[ObjectKey, Request]] = {}

    def add(self, request: Request, wish: Wish) -> None:
        if wish.address is not None:
            self._for_address.setdefault(wish.address, {})[request.key] = request
        else:
            self._for_any.setdefault((request.pool, wish.version), {})[request.key] = request

    def drop(self, request: Request) -> None:
        """Take the request out wherever it stands."""
        for wish in request.wishes:
            if wish.address is not None:
                _discard(self._for_address, wish.address, request.key)
            else:
                _discard(self._for_any, (request.pool, wish.version), request.key)

    def everyone(self) -> set[ObjectKey]:
        return set(chain(*self._for_address.values(), *self._for_any.values()))

    def helped_by(self, freed: Iterable[Address]) -> Iterator[ObjectKey]:
        """All that ask for one of these addresses, and of those that take any, the oldest: as many as were
        freed. Costs a look at each one that waits for just this."""
        of_pool = Counter[tuple[str, int]]()
        for address in freed:
            yield from self._for_address.get(address, ())
            of_pool[self._pools.pool_of(address) or "", address.version] += 1
        for (pool, version), count in of_pool.items():
            candidates = chain(
                self._for_any.get((pool, version), {}).values(),
                self._for_any.get(("", version), {}).values(),
            )
            oldest = heapq.nsmallest(count, candidates, key=lambda request: (request.age, request.key))
            yield from (request.key for request in oldest)


def _discard(groups: dict[K, dict[ObjectKey, Request]], group: K, key: ObjectKey) -> None:
    members = groups.get(group)
    if members is not None:
        members.pop(key, None)
        if not members:
            del groups[group]
