"""Ties the client to a plane: one round in, one change set applied, then the next round.

While applies fail, rounds are still asked for, since the next one may bring what makes them succeed; only the
revision that was applied is acknowledged. While the frontend is gone, the plane goes on with what it has.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from blixt_backend import systemd
from blixt_backend.model import ChangeSet
from blixt_backend.planes.base import Plane, PlaneError
from blixt_backend.rounds import Round
from blixt_backend.state import DesiredState

log = logging.getLogger(__name__)

_MOST_PROBLEMS_LOGGED = 20


class Rounds(Protocol):
    """Where rounds come from: a Client."""

    #: Told to the server with the next request.
    applied_revision: int

    async def next_round(self) -> Round:
        """Wait for one, however long that takes."""

    async def close(self) -> None:
        """Let go of the server."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds between tries of an apply that fails: doubled from `first` up to `most`."""

    first: float = 0.5
    most: float = 10.0


class Driver:
    """Runs one plane off one source of rounds until it is told to stop."""

    def __init__(
        self,
        client: Rounds,
        plane: Plane,
        backoff: Backoff | None = None,
        on_applied: Callable[[ChangeSet], None] | None = None,
        *,
        on_trying: Callable[[], None] | None = None,
        on_failed: Callable[[str], None] | None = None,
    ) -> None:
        self._client = client
        self._plane = plane
        self._backoff = backoff or Backoff()
        #: Told of each change that is in force, before it is acknowledged.
        self._on_applied = on_applied
        #: Told when an apply begins, and why one failed, in a line.
        self._on_trying = on_trying
        self._on_failed = on_failed
        self._state = DesiredState()
        #: Seconds until the next try of a failed apply; None: the plane holds what it should.
        self._retry_in: float | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Start the plane, keep it current until `stop` is set, stop it. Raises PlaneError from its start."""
        await self._plane.start()
        systemd.notify("READY=1")
        try:
            await self._serve(stop)
        finally:
            systemd.notify("STOPPING=1")
            await self._client.close()
            await self._plane.stop()

    async def _serve(self, stop: asyncio.Event) -> None:
        stopped = asyncio.create_task(stop.wait())
        awaited: asyncio.Task[Round] | None = None
        try:
            while not stop.is_set():
                awaited = awaited or asyncio.create_task(self._client.next_round())
                await asyncio.wait(
                    {awaited, stopped}, timeout=self._retry_in, return_when=asyncio.FIRST_COMPLETED
                )
                if stop.is_set():
                    return
                if awaited.done():
                    received, awaited = awaited.result(), None
                    await self._take(received, stop)
                else:
                    await self._apply(self._state.resync())
        finally:
            await _cancel(stopped, awaited)

    async def _take(self, received: Round, stop: asyncio.Event) -> None:
        """Fold a round into the state, and try to apply what it changed."""
        _report(received)
        change = self._state.apply(received)
        received.forget_items()  # now, not when the last who refers to it is gone
        if self._retry_in is not None:
            # At most one try in `first` seconds, even if the server repeats what we don't acknowledge.
            await _pause(self._backoff.first if change.changed or change.removed else self._retry_in, stop)
            change = self._state.resync(change.removed)
        if not stop.is_set():
            await self._apply(change)

    async def _apply(self, change: ChangeSet) -> None:
        if change.resync or change.changed or change.removed:
            if self._on_trying is not None:
                self._on_trying()
            try:
                await self._plane.apply(change)
            except PlaneError as error:
                self._failed(change, str(error))
                return
            except Exception as error:  # a plane is foreign code: its bugs must not stop the node's service
                self._failed(change, f"{type(error).__name__}: {error}", trace=error)
                return
        self._applied(change)

    def _failed(self, change: ChangeSet, reason: str, trace: Exception | None = None) -> None:
        delay = self._retry_in = min(2 * (self._retry_in or self._backoff.first / 2), self._backoff.most)
        log.error(
            "applying revision %d failed: %s; trying again, whole, in %.1f s",
            change.revision, reason, delay, exc_info=trace,
        )  # fmt: skip
        if self._on_failed is not None:
            self._on_failed(reason)

    def _applied(self, change: ChangeSet) -> None:
        if self._retry_in is not None:
            log.info("the plane is repaired")
        self._retry_in = None
        self._tell_applied(change)
        self._client.applied_revision = change.revision
        if change.resync:
            log.info("applied all %d services (revision %d)", len(change.desired), change.revision)
        else:
            log.debug(
                "applied revision %d: %d changed, %d removed",
                change.revision, len(change.changed), len(change.removed),
            )  # fmt: skip
        systemd.notify(f"STATUS={len(change.desired)} services, revision {change.revision}")

    def _tell_applied(self, change: ChangeSet) -> None:
        """What goes wrong there is no reason to stop what is in force, or to apply it again."""
        if self._on_applied is None:
            return
        try:
            self._on_applied(change)
        except Exception:
            log.exception("revision %d is in force, but could not be announced or checked", change.revision)


def _report(received: Round) -> None:
    for problem in received.problems[:_MOST_PROBLEMS_LOGGED]:
        log.warning("unusable item %s; keeping its last good version, if any", problem)
    more = len(received.problems) - _MOST_PROBLEMS_LOGGED
    if more > 0:
        log.warning("and %d more unusable items", more)


async def _pause(seconds: float, stop: asyncio.Event) -> None:
    """Sleep, but not past a stop."""
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return


async def _cancel(*tasks: asyncio.Task[Round] | asyncio.Task[bool] | None) -> None:
    """Cancel tasks and wait until they are gone."""
    live = [task for task in tasks if task is not None and not task.done()]
    for task in live:
        task.cancel()
    await asyncio.gather(*live, return_exceptions=True)
