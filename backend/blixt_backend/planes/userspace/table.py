"""All frontends that services ask for, and what a change of services makes of them. Free of I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from blixt_backend.planes.userspace.compile import Entry, Frontend, Plan


class Moved(NamedTuple):
    """A frontend before and after a change; None: it wasn't there, or isn't any more."""

    before: Entry | None
    after: Entry | None


class Table:
    """Begins empty. A frontend that several services ask for is the first one's by name, while it asks."""

    def __init__(self) -> None:
        self._plans: dict[str, Plan] = {}
        #: Paths of the services that ask for a frontend.
        self._claims: defaultdict[Frontend, set[str]] = defaultdict(set)
        self._entries: dict[Frontend, Entry] = {}

    @property
    def entries(self) -> Mapping[Frontend, Entry]:
        return self._entries

    @property
    def services(self) -> list[str]:
        return list(self._plans)

    def change(self, plans: Mapping[str, Plan]) -> dict[Frontend, Moved]:
        """Let these services have these plans (empty: none); which frontends differ now."""
        touched: dict[Frontend, None] = {}
        for path, plan in plans.items():
            for frontend in self._plans.pop(path, {}):
                self._claims[frontend].discard(path)
                touched[frontend] = None
            for frontend in plan:
                self._claims[frontend].add(path)
                touched[frontend] = None
            if plan:
                self._plans[path] = plan
        moved = {frontend: self._settle(frontend) for frontend in touched}
        return {frontend: each for frontend, each in moved.items() if each.before != each.after}

    def _settle(self, frontend: Frontend) -> Moved:
        before = self._entries.pop(frontend, None)
        if not self._claims[frontend]:
            del self._claims[frontend]
            return Moved(before, None)
        after = self._plans[min(self._claims[frontend])][frontend]
        self._entries[frontend] = after
        return Moved(before, after)
