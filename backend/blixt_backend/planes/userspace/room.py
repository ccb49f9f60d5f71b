"""How many connections or flows there may be, how many there are, and what became of others."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Generic, Protocol, TypeVar

from blixt_backend.planes.userspace.choice import Target


class Ends(Protocol):
    """Something that takes room."""

    def abort(self) -> None:
        """End it now; it leaves its room by itself."""


_Member = TypeVar("_Member", bound=Ends)


class Room(Generic[_Member]):
    """Of one protocol, for all of the plane's listeners."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.members: set[_Member] = set()
        #: By endpoint, for least connections.
        self.loads: Counter[Target] = Counter()
        #: What happened so far, by what.
        self.counts: Counter[str] = Counter()
        self._empty = asyncio.Event()
        self._empty.set()

    def enter(self, member: _Member) -> bool:
        """False: there is no room."""
        if len(self.members) >= self.most:
            self.counts["no room"] += 1
            return False
        self.counts["begun"] += 1
        self.members.add(member)
        self._empty.clear()
        return True

    def leave(self, member: _Member) -> None:
        self.members.discard(member)
        if not self.members:
            self._empty.set()

    def load(self, target: Target) -> None:
        self.loads[target] += 1

    def unload(self, target: Target) -> None:
        self.loads[target] -= 1
        if self.loads[target] <= 0:
            del self.loads[target]

    async def empty(self) -> None:
        """Wait until nobody is there."""
        await self._empty.wait()

    def abort_all(self) -> None:
        for member in list(self.members):
            member.abort()

    def status(self) -> dict[str, object]:
        return {"open": len(self.members), "most": self.most, **self.counts}
