"""Requests to assignments. What an object has it keeps, and no address has two holders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from blixt_frontend.addresses.ledger import Ledger
from blixt_frontend.addresses.pools import Address, Pools
from blixt_frontend.addresses.requests import Request, Wish
from blixt_frontend.addresses.waiting import Waiting
from blixt_frontend.source import ObjectKey
from blixt_frontend.translation.addresses import Assignment, Lacking


@dataclass(slots=True)
class _Case:
    """A request and what it has so far: a place for each wish."""

    request: Request
    places: list[Address | None]

    def unmet(self) -> Iterator[tuple[int, Wish]]:
        for index, (wish, address) in enumerate(zip(self.request.wishes, self.places, strict=True)):
            if address is None:
                yield index, wish

    def fits(self, wish: Wish, address: Address, pools: Pools) -> bool:
        if wish.address is not None:
            return wish.address == address
        if wish.version != address.version:
            return False
        return not self.request.pool or pools.pool_of(address) == self.request.pool


def allocate(requests: Iterable[Request], pools: Pools) -> Mapping[ObjectKey, Assignment]:
    """All requests at once, as after a restart: first what each one holds, then the addresses that are asked
    for by name, then any for the rest; the oldest object first."""
    allocator = Allocator(pools)
    allocator.settle({request.key: request for request in requests})
    return allocator.assignments


class Allocator:
    """Remembers who has what. A change costs what it touches, and those that wait for what it sets free.

    Only a leading allocator decides. One that follows takes what the objects' status says, so that any number
    of them agree; they learn of a new address from the status that the leader writes.
    """

    def __init__(self, pools: Pools, leading: bool = True) -> None:
        self._pools = pools
        self._leading = leading
        self._ledger = Ledger(pools)
        self._waiting = Waiting(pools)
        self._cases: dict[ObjectKey, _Case] = {}
        self._assignments: dict[ObjectKey, Assignment] = {}

    @property
    def assignments(self) -> Mapping[ObjectKey, Assignment]:
        """What each request has: a live, read-only view."""
        return MappingProxyType(self._assignments)

    def lead(self, leading: bool) -> set[ObjectKey]:
        """Begin or cease to decide; tells whose assignment changes by that.

        Whoever ceases gives up what it gave out and no status has shown yet: the next one may decide
        otherwise.
        """
        if leading == self._leading:
            return set()
        self._leading = leading
        work = self._waiting.everyone()
        if not leading:
            work.update(key for key, case in self._cases.items() if not _confirmed(case))
        return self._settle(work)

    def settle(self, requests: Mapping[ObjectKey, Request | None]) -> set[ObjectKey]:
        """Take these requests in, None for those that are withdrawn; tells whose assignment changes."""
        work = set()
        changed = set()
        freed: list[Address] = []
        for key, request in requests.items():
            old = self._cases.get(key)
            if request is None:
                if old is not None:
                    freed += self._withdraw(old)
                    changed.add(key)
            elif old is None or old.request != request:
                freed += self._renew(request, old)
                work.add(key)
        return changed | self._settle(work, freed)

    def _withdraw(self, case: _Case) -> Iterator[Address]:
        key = case.request.key
        self._waiting.drop(case.request)
        del self._cases[key], self._assignments[key]
        for address in filter(None, case.places):
            self._ledger.release(address)
            yield address

    def _renew(self, request: Request, old: _Case | None) -> Iterator[Address]:
        """The case with what it still may keep; yields what it gives up."""
        case = self._cases[request.key] = _Case(request, [None] * len(request.wishes))
        if old is None:
            return
        self._waiting.drop(old.request)
        had = [address for address in old.places if address is not None]
        for index, wish in case.unmet():
            kept = next((address for address in had if case.fits(wish, address, self._pools)), None)
            if kept is not None:
                had.remove(kept)
                case.places[index] = kept
        for address in had:
            self._ledger.release(address)
            yield address

    def _settle(self, work: set[ObjectKey], freed: Iterable[Address] = ()) -> set[ObjectKey]:
        """Give these what they lack, and those that wait for what becomes free."""
        freed = list(freed)
        if not self._leading:
            for key in work:
                freed += self._follow(self._cases[key])
        work.update(self._waiting.helped_by(freed))
        cases = [self._cases[key] for key in work]
        cases.sort(key=lambda case: (case.request.age, case.request.key))
        for case in cases:
            self._waiting.drop(case.request)
            self._hold(case)
        if self._leading:
            for case in cases:
                self._grant_certain(case)
            for case in cases:
                self._grant_any(case)
        return {case.request.key for case in cases if self._conclude(case)}

    def _follow(self, case: _Case) -> Iterator[Address]:
        """Give up what the status doesn't say."""
        for index, address in enumerate(case.places):
            if address is not None and address not in case.request.held:
                case.places[index] = None
                self._ledger.release(address)
                yield address

    def _hold(self, case: _Case) -> None:
        """What the status says that it has, if nobody else has it."""
        free = [address for address in case.request.held if self._ledger.holder(address) is None]
        for index, wish in case.unmet():
            found = next((address for address in free if case.fits(wish, address, self._pools)), None)
            if found is not None:
                free.remove(found)
                self._give(case, index, found)

    def _grant_certain(self, case: _Case) -> None:
        for index, wish in case.unmet():
            if wish.address is not None and self._usable(wish.address):
                self._give(case, index, wish.address)

    def _grant_any(self, case: _Case) -> None:
        if case.request.complaint:
            return
        for index, wish in case.unmet():
            if wish.address is None:
                found = self._ledger.lowest_free(case.request.pool, wish.version)
                if found is not None:
                    self._give(case, index, found)

    def _usable(self, address: Address) -> bool:
        return self._pools.pool_of(address) is not None and self._ledger.holder(address) is None

    def _give(self, case: _Case, index: int, address: Address) -> None:
        case.places[index] = address
        self._ledger.take(address, case.request.key)

    def _conclude(self, case: _Case) -> bool:
        """Note what became of it; whether that is something else than before."""
        request = case.request
        if not request.complaint:  # else only a change of its own helps
            for _, wish in case.unmet():
                self._waiting.add(request, wish)
        has = [*request.static, *filter(None, case.places)]
        reason, problem = self._lacking(case)
        assignment = Assignment(tuple(map(str, has)), reason, problem)
        before = self._assignments.get(request.key)
        self._assignments[request.key] = assignment
        return assignment != before

    def _lacking(self, case: _Case) -> tuple[Lacking | None, str]:
        met = sum(address is not None for address in case.places)
        if case.request.complaint:
            return "AddressNotAssigned", case.request.complaint
        if met >= case.request.enough:
            return None, ""
        problems = [self._why(case.request, wish) for _, wish in case.unmet()]
        # A certain address that can't be had is the first to tell of: nothing but its holder helps.
        problems.sort(key=lambda problem: problem[0] == "AddressNotAssigned")
        return problems[0][0], "; ".join(dict.fromkeys(text for _, text in problems))

    def _why(self, request: Request, wish: Wish) -> tuple[Lacking, str]:
        if wish.address is None:
            pools = f"address pool {request.pool!r}" if request.pool else "the address pools"
            if not next(self._pools.ranges(request.pool, wish.version), None):
                return "AddressNotAssigned", f"no IPv{wish.version} addresses are in {pools}"
            if self._ledger.lowest_free(request.pool, wish.version) is not None:
                return "AddressNotAssigned", _PENDING
            return "AddressNotAssigned", f"no IPv{wish.version} address is free in {pools}"
        if self._pools.pool_of(wish.address) is None:
            return "AddressNotUsable", f"{wish.address} is in no address pool"
        holder = self._ledger.holder(wish.address)
        if holder is None:
            return "AddressNotAssigned", _PENDING
        return (
            "AddressNotUsable",
            f"{wish.address} is held by {holder.kind} {holder.namespace}/{holder.name}",
        )


_PENDING = "the frontend that leads has not assigned it yet"


def _confirmed(case: _Case) -> bool:
    return all(address in case.request.held for address in case.places if address is not None)
