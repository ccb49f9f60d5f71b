"""Picks an endpoint for a client: who it is, whom it had, chance, and load."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping

from blixt_backend.planes.userspace.affinity import Affinity
from blixt_backend.planes.userspace.choice import Target, choose, choose_least
from blixt_backend.planes.userspace.clients import Clients
from blixt_backend.planes.userspace.compile import Entry


class Picker:
    """For the listeners of one protocol. `point`: a number in [0, 1) by chance; `now`: seconds, monotonic."""

    def __init__(
        self,
        loads: Mapping[Target, int],
        now: Callable[[], float],
        point: Callable[[], float] = random.random,
    ) -> None:
        self.clients = Clients()
        self.affinity = Affinity()
        self._loads, self._now, self._point = loads, now, point

    def admits(self, entry: Entry, client: str) -> bool:
        """Whether a client of that address is let in at all."""
        return entry.ranges is None or self.clients.side(entry, client) is not None

    def pick(self, entry: Entry, client: str, avoid: Collection[Target] = ()) -> Target | None:
        """For a new connection; None: refuse it. `avoid`: those that were tried and didn't answer."""
        side = self.clients.side(entry, client)
        if side is None:
            return None
        if avoid:
            side = side.without(avoid)
        target = None
        if entry.affinity_seconds:
            had = self.affinity.get(entry.port, client, entry.affinity_seconds, self._now())
            target = had if had in side.targets else None
        if target is None and entry.least:
            target = choose_least(side, (self._point(), self._point()), self._load)
        elif target is None:
            target = choose(side, self._point())
        if target is not None and entry.affinity_seconds:
            self.affinity.put(entry.port, client, target, self._now())
        return target

    def _load(self, target: Target) -> int:
        return self._loads.get(target, 0)
