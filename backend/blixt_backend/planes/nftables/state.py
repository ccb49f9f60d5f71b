"""What one family's table holds, and what a change of services makes of it. Free of I/O.

A frontend that several services ask for is the first one's by name, as long as that asks for it. Elements
that many services share (an address of a pod, say) are there as long as one of them has them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from blixt_backend.planes.nftables import elements
from blixt_backend.planes.nftables.choice import Choice
from blixt_backend.planes.nftables.compile import Entry, Frontend, Plan, Side
from blixt_backend.planes.nftables.elements import (
    CLUSTER_IPS,
    HAIRPINS,
    LOCAL_ENDPOINTS,
    NOTHING,
    SIDES,
    UPLINKS,
    Difference,
    Element,
    Elements,
    Value,
)
from blixt_backend.planes.nftables.slots import Slots, Target, arrange

_NO_PLAN: Final = Plan()
#: What needs a choice: a side's name, and the choice.
Needed = tuple[str, Choice]


class Moved(NamedTuple):
    """A frontend before and after a change; None: it wasn't there, or isn't any more."""

    before: Entry | None
    after: Entry | None


class State:
    """Begins empty."""

    def __init__(self) -> None:
        self._plans: dict[str, Plan] = {}
        #: Paths of the services that ask for a frontend.
        self._claims: defaultdict[Frontend, set[str]] = defaultdict(set)
        #: What each frontend has, slots in the places where they are.
        self._entries: dict[Frontend, Entry] = {}
        self._shared: Counter[Element] = Counter()
        self._uplinks: frozenset[str] = frozenset()

    @property
    def entries(self) -> Mapping[Frontend, Entry]:
        return self._entries

    def needed(self) -> set[Needed]:
        """Every choice that a frontend has."""
        return {needed for entry in self._entries.values() for needed in choices_of(entry)}

    def everything(self) -> Elements:
        """All elements that should be there."""
        found: dict[Element, Value] = dict.fromkeys(self._shared, NOTHING)
        for frontend, entry in self._entries.items():
            found.update(elements.of_frontend(frontend, entry))
        return found

    def replace(self, plans: Mapping[str, Plan], places: Mapping[Frontend, Mapping[str, Slots]]) -> None:
        """Let these be all there is. `places`: where slots of frontends are in the kernel, by side."""
        self._plans = {path: plan for path, plan in plans.items() if plan != _NO_PLAN}
        self._claims.clear()
        self._shared = Counter(_uplink_elements(self._uplinks))
        for path, plan in self._plans.items():
            for frontend in plan.entries:
                self._claims[frontend].add(path)
            self._shared.update(_shared(plan))
        self._entries = {}
        for frontend in self._claims:
            entry = self._owned(frontend)
            assert entry is not None, "somebody claims it"
            self._entries[frontend] = _placed(entry, places.get(frontend, {}))

    def change(self, plans: Mapping[str, Plan]) -> tuple[dict[Frontend, Moved], Difference]:
        """Services' new plans (an empty one: the service is gone), and what that moves."""
        touched: dict[Frontend, None] = {}
        shared: dict[Element, bool] = {}
        for path, plan in plans.items():
            before = self._plans.pop(path, _NO_PLAN)
            if plan != _NO_PLAN:
                self._plans[path] = plan
            touched |= dict.fromkeys(self._claim(path, before, plan))
            self._share(_shared(before), _shared(plan), shared)
        moved = dict(self._move(touched))
        return moved, _joined([self._shared_difference(shared), *map(_difference, moved, moved.values())])

    def set_uplinks(self, names: frozenset[str]) -> Difference:
        """The uplinks' names from now on."""
        shared: dict[Element, bool] = {}
        self._share(_uplink_elements(self._uplinks), _uplink_elements(names), shared)
        self._uplinks = names
        return self._shared_difference(shared)

    def _claim(self, path: str, before: Plan, plan: Plan) -> Iterator[Frontend]:
        """The frontends that may have another entry now."""
        for frontend in before.entries:
            if frontend not in plan.entries:
                self._claims[frontend].discard(path)
                if not self._claims[frontend]:
                    del self._claims[frontend]
                yield frontend
        for frontend, entry in plan.entries.items():
            self._claims[frontend].add(path)
            if before.entries.get(frontend) != entry:
                yield frontend

    def _move(self, touched: Iterable[Frontend]) -> Iterator[tuple[Frontend, Moved]]:
        for frontend in touched:
            before, after = self._entries.get(frontend), self._owned(frontend)
            if after is None:
                self._entries.pop(frontend, None)
            else:
                after = self._entries[frontend] = _placed(after, _places(before))
            if after != before:
                yield frontend, Moved(before, after)

    def _owned(self, frontend: Frontend) -> Entry | None:
        claims = self._claims.get(frontend)
        return self._plans[min(claims)].entries[frontend] if claims else None

    def _share(self, before: set[Element], after: set[Element], was_there: dict[Element, bool]) -> None:
        """Count other users, and note of each element that this concerns whether it was there at first."""
        for element in before ^ after:
            was_there.setdefault(element, self._shared[element] > 0)
        self._shared.subtract(before - after)
        self._shared.update(after - before)

    def _shared_difference(self, was_there: Mapping[Element, bool]) -> Difference:
        away, there = [], {}
        for element, was in was_there.items():
            if self._shared[element] > 0:
                if not was:
                    there[element] = NOTHING
            else:
                del self._shared[element]
                if was:
                    away.append(element)
        return Difference(tuple(away), there)


def choices_of(entry: Entry | None) -> set[Needed]:
    """What the entry's sides need."""
    if entry is None:
        return set()
    sides = zip(SIDES, (entry.inside, entry.outside), strict=True)
    return {(name, side.choice) for name, side in sides if side is not None}


def _difference(frontend: Frontend, moved: Moved) -> Difference:
    before, after = (elements.of_frontend(frontend, entry) if entry is not None else {} for entry in moved)
    return elements.difference(before, after)


def _joined(differences: Iterable[Difference]) -> Difference:
    away: list[Element] = []
    there: dict[Element, Value] = {}
    for each in differences:
        away += each.away
        there.update(each.there)
    return Difference(tuple(away), there)


def _places(entry: Entry | None) -> dict[str, Slots]:
    if entry is None:
        return {}
    sides = zip(SIDES, (entry.inside, entry.outside), strict=True)
    return {name: side.slots for name, side in sides if side is not None}


def _placed(entry: Entry, places: Mapping[str, Slots]) -> Entry:
    inside, outside = (
        side and _at(side, places.get(name, ()))
        for name, side in zip(SIDES, (entry.inside, entry.outside), strict=True)
    )
    assert inside is not None, "every entry has an inside"
    if inside is entry.inside and outside is entry.outside:
        return entry
    return entry._replace(inside=inside, outside=outside)


def _at(side: Side, held: tuple[Target | None, ...]) -> Side:
    slots = arrange(held, side.slots) if held else side.slots
    return side if slots is side.slots else Side(side.choice, slots)


def _shared(plan: Plan) -> set[Element]:
    return {
        *(Element(CLUSTER_IPS, (address,)) for address in plan.cluster_ips),
        *(Element(LOCAL_ENDPOINTS, (address,)) for address in plan.local),
        *(Element(HAIRPINS, (address, address)) for address in plan.local),
    }


def _uplink_elements(names: Iterable[str]) -> set[Element]:
    return {Element(UPLINKS, (name,)) for name in names}
