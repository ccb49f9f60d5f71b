"""Drains what other planes have left on this node, once this one carries its services (docs/swapping.md).

One task for each leftover: hold it, have it take no new flows, tell it of endpoints that leave, look how many
flows it has, and remove it when there are none. What goes wrong is tried again; the plane goes on meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from blixt_backend.model import ChangeSet, ServiceView
from blixt_backend.planes.base import Plane, PlaneError
from blixt_backend.planes.leftover import Leftover

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between looks: at least `look`, and `times` what the last one took; and after a failure.

    `longest`: after so many, what is left is removed with the flows that it has. None: never.
    """

    look: float = 1.0
    times: int = 50
    again: float = 5.0
    longest: float | None = None


@dataclass(slots=True)
class Pending:
    """What a leftover has not been told yet, as one change."""

    changed: dict[str, ServiceView] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    desired: Mapping[str, ServiceView] = field(default_factory=dict)
    #: The next one must tell all: nothing was told, or it failed.
    resync: bool = True
    came: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, change: ChangeSet) -> None:
        self.desired = change.desired
        self.came.set()
        if self.resync or change.resync:  # all of it is in `desired`
            self.resync, self.changed, self.removed = True, {}, set()
            return
        for path in change.removed:
            self.changed.pop(path, None)
        self.changed.update(change.changed)
        self.removed = (self.removed | change.removed) - change.changed.keys()

    def take(self) -> ChangeSet | None:
        """None: nothing came since the last time."""
        if not self.came.is_set():
            return None
        self.came.clear()
        resync, self.resync = self.resync, False
        changed = dict(self.desired) if resync else self.changed
        removed = frozenset(self.removed)
        self.changed, self.removed = {}, set()
        return ChangeSet(changed, removed, dict(self.desired), resync)

    def repeat(self) -> None:
        """What was taken last was not done."""
        self.resync = True
        self.came.set()


class Draining:
    """All leftovers of other planes."""

    def __init__(self, leftovers: Collection[Leftover], pace: Pace | None = None) -> None:
        self._pace = pace or Pace()
        self._pending = {leftover: Pending() for leftover in leftovers}
        self._in_force = asyncio.Event()

    def applied(self, change: ChangeSet) -> None:
        """What this node's plane has in force. With the first one, new flows are that plane's."""
        for pending in self._pending.values():
            pending.add(change)
        self._in_force.set()

    def begin(self) -> None:
        """New flows are somebody else's already."""
        self._in_force.set()

    async def run(self) -> None:
        """Until nothing is left, or cancelled: then what is there stays."""
        await self._in_force.wait()
        async with asyncio.TaskGroup() as tasks:
            for leftover, pending in list(self._pending.items()):
                tasks.create_task(self._drain(leftover, pending), name=f"draining-{leftover.plane}")

    async def _drain(self, leftover: Leftover, pending: Pending) -> None:
        told = ""
        while True:
            try:
                if await leftover.hold():
                    await self._until_gone(leftover, pending)
                del self._pending[leftover]
                return
            except PlaneError as error:
                if str(error) != told:
                    log.warning("what %s has left here is not drained yet: %s", leftover.title, error)
                told = str(error)
                pending.repeat()
            finally:
                await leftover.release()
            await asyncio.sleep(self._pace.again)

    async def _until_gone(self, leftover: Leftover, pending: Pending) -> None:
        await leftover.drain()
        log.info("%s takes no new flows on this node; those that it has go on", leftover.title)
        started = time.monotonic()
        while True:
            change = pending.take()
            if change is not None:
                await leftover.follow(change)
            looked = time.monotonic()
            left = await leftover.flows()
            took = time.monotonic() - looked
            log.debug("%s has %d flows left", leftover.title, left)
            if not left or self._is_too_late(looked - started):
                break
            await self._pause(max(self._pace.look, took * self._pace.times), pending)
        await leftover.remove()
        log.info("took away what %s had left, and %d flows with it", leftover.title, left)

    def _is_too_late(self, seconds: float) -> bool:
        return self._pace.longest is not None and seconds >= self._pace.longest

    async def _pause(self, seconds: float, pending: Pending) -> None:
        """Shorter when an endpoint may have left."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await pending.came.wait()


class Onlooker(Plane):
    """Carries nothing: where a node's services are given away, changes are told to what is drained only."""

    only_shows = True

    async def start(self) -> None:
        """There is nothing to take over."""

    async def apply(self, change: ChangeSet) -> None:
        """Nothing is programmed."""

    async def stop(self) -> None:
        """Nothing runs."""

    async def cleanup(self) -> None:
        """Nothing was put anywhere."""
