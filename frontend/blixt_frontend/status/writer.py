"""Brings what the board says into the objects' status, for as long as this frontend is the one writer.

A status is read once, at the beginning or when its object is first met; after that it is what the server
answered to the last write, or what is read again since somebody else has changed the object. Writes are merge
patches that name the version of the object that they were made from: if it has changed meanwhile the server
refuses them (409), and they are made anew. So even a write that was under way when the lease was lost cannot
undo anything of the next writer's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from blixt_frontend.kubernetes.client import ApiError
from blixt_frontend.kubernetes.pace import Backoff, Pace
from blixt_frontend.objects import GatewayClass
from blixt_frontend.source import ObjectKey
from blixt_frontend.status.api import Paths
from blixt_frontend.status.board import KINDS, ROUTE_KINDS, Board
from blixt_frontend.status.election import LostLeaseError
from blixt_frontend.status.merging import has_parent_of, merged
from blixt_frontend.status.objects import Objects, Stored
from blixt_frontend.status.queue import WorkQueue
from blixt_frontend.status.tasks import together
from blixt_frontend.status.wanted import ClassWanted, RouteWanted, Wanted

log = logging.getLogger(__name__)

GATEWAY_EXISTS_FINALIZER = "gateway-exists-finalizer.gateway.networking.k8s.io"


def utc_now() -> str:
    """metav1.Time: RFC 3339 in seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class WriterConfig:
    """Times are in seconds."""

    #: Objects that are written at a time.
    workers: int = 8
    #: Changes of one object are gathered for so long. Nodes mostly apply a change within it, so that nobody
    #: is told that they haven't yet.
    settle: float = 0.1
    #: Objects in a page of a list.
    page: int = 500
    #: Pauses after failures: a random time up to `first`, doubled at each failure up to `most`.
    first: float = 0.2
    most: float = 30.0
    #: The least pause where only a change of rights or of rules can help.
    refused: float = 5.0
    #: The Gateway API's definitions are looked at again: nothing tells when a new release is installed.
    definitions: float = 600.0
    #: Between two looks at what nodes have applied, while some Gateway waits for it.
    listen: float = 0.05
    #: The same, at what other frontends' nodes have: the first, and doubled up to the second.
    ask: tuple[float, float] = (0.05, 2.0)
    now: Callable[[], str] = utc_now


@dataclass(slots=True)
class _Known:
    """What is remembered of one object."""

    backoff: Backoff
    stored: Stored | None = None
    #: What its status says, as far as the server takes it: definitions of other releases leave fields out.
    says: Wanted | None = None
    #: The newest version that was told of.
    seen: str = ""
    complaint: str = ""


class Writer:
    """For one term: `run` does the work, the other methods tell it of news."""

    def __init__(self, objects: Objects, paths: Paths, board: Board, config: WriterConfig) -> None:
        self._objects = objects
        self._paths = paths
        self._board = board
        self._config = config
        self._pace = Pace(first=config.first, most=config.most)
        self._known: dict[ObjectKey, _Known] = {}
        self._queue: WorkQueue[ObjectKey] = WorkQueue()
        self._definitions_doubtful = asyncio.Event()

    def touched(self, key: ObjectKey) -> None:
        if key.kind == GatewayClass.kind and key not in self._known:
            self._definitions_doubtful.set()  # the first class may have come with the definitions
        self._queue.add(key, self._config.settle)

    def gone(self, key: ObjectKey) -> None:
        self._known.pop(key, None)
        self._queue.discard(key)

    def seen(self, key: ObjectKey, resource_version: str) -> None:
        """A watch told of this version of an object. One that isn't ours is read: its status may differ."""
        known = self._known.get(key)
        if known is not None:
            known.seen = resource_version
            self._queue.add(key, self._config.settle)

    def definitions_changed(self) -> None:
        """The cluster's definitions of the Gateway API may be others now."""
        self._paths.doubt()
        self._definitions_doubtful.set()

    async def run(self) -> None:
        """Until it is cancelled. Raises LostLeaseError."""
        await self._board.complete.wait()
        self._board.follower = self
        try:
            await together(
                self._follow_definitions(),
                *(self._begin(kind) for kind in KINDS),
                *(self._work() for _ in range(self._config.workers)),
            )
        finally:
            self._board.follower = None
            self._queue.close()

    async def _begin(self, kind: str) -> None:
        """See all there is; entries from earlier terms that nothing asks for now come to light as well."""
        await self._persistently(f"listing every {kind}", lambda: self._list(kind))
        for key in self._board:
            if key.kind == kind:
                self._queue.add(key)
        await asyncio.Event().wait()

    async def _list(self, kind: str) -> None:
        path = await self._paths.collection(kind)
        after = ""
        while path is not None:
            page, after = await self._objects.page(path, self._config.page, after)
            for stored in page:
                self._take_listed(ObjectKey(kind, stored.namespace, stored.name), stored)
            if not after:
                return

    def _take_listed(self, key: ObjectKey, stored: Stored) -> None:
        wanted = self._board.wanted(key)
        ours = key.kind in ROUTE_KINDS and has_parent_of(self._board.controller, stored.status)
        if ours:
            self._queue.add(key)
        if ours or (wanted is not None and wanted != RouteWanted(self._board.controller)):
            known = self._remember(key)
            if known.stored is None:
                known.stored = stored

    def _remember(self, key: ObjectKey) -> _Known:
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = _Known(Backoff(self._pace))
        return known

    async def _follow_definitions(self) -> None:
        async def read() -> None:
            self._board.learn(await self._objects.bundle())

        while True:
            self._definitions_doubtful.clear()
            await self._persistently("reading the definitions of the Gateway API", read)
            try:
                async with asyncio.timeout(self._config.definitions):
                    await self._definitions_doubtful.wait()
            except TimeoutError:
                continue

    async def _persistently(self, what: str, action: Callable[[], Awaitable[None]]) -> None:
        """Again and again, until it succeeds."""
        backoff = Backoff(self._pace)
        while True:
            try:
                return await action()
            except ApiError as error:
                pause = self._pause(backoff, error)
                log.warning("%s failed: %s; next try in %.1f s", what, error, pause)
            await asyncio.sleep(pause)

    def _pause(self, backoff: Backoff, error: ApiError) -> float:
        refused = error.status in (401, 403, 422)
        return backoff.next(at_least=max(error.retry_after, self._config.refused if refused else 0.0))

    async def _work(self) -> None:
        while True:
            key = await self._queue.take()
            known = self._remember(key)
            try:
                await self._write(key, known)
            except ApiError as error:
                self._failed(key, known, error)
            except LostLeaseError:
                raise
            except Exception:  # one odd object must not keep the others from their status
                log.exception("the status of %s can't be worked out", key)
                self._queue.add(key, self._config.most)
            else:
                self._succeeded(key, known)
            finally:
                self._queue.done(key)

    async def _write(self, key: ObjectKey, known: _Known) -> None:
        """Read, merge, write: as much of it as is needed. Raises ApiError, LostLeaseError."""
        wanted = self._board.wanted(key)
        path = await self._paths.of(key) if wanted is not None else None
        if wanted is None or path is None:
            return
        if known.stored is None or (known.seen and known.stored.is_older_than(known.seen)):
            known.stored, known.says = await self._objects.get(path), None
        if known.says == wanted:
            return
        if isinstance(wanted, ClassWanted):
            known.stored = await self._hold_class(path, known.stored, wanted)
        parts = merged(key.namespace, known.stored.status, wanted, self._config.now())
        if parts is not None:
            known.stored = await self._objects.write_status(path, known.stored, parts)
            log.debug("wrote the status of %s", key)
        known.says = wanted

    async def _hold_class(self, path: str, stored: Stored, wanted: ClassWanted) -> Stored:
        """A class outlives the Gateways that use it."""
        others = tuple(name for name in stored.finalizers if name != GATEWAY_EXISTS_FINALIZER)
        held = len(others) < len(stored.finalizers)
        if held == wanted.used or (wanted.used and stored.being_deleted):
            return stored  # nothing may be added to what is being deleted
        finalizers = (*others, GATEWAY_EXISTS_FINALIZER) if wanted.used else others
        return await self._objects.write_finalizers(path, stored, finalizers)

    def _succeeded(self, key: ObjectKey, known: _Known) -> None:
        known.backoff, known.complaint = Backoff(self._pace), ""
        wanted = self._board.wanted(key)
        if (wanted is None or wanted == RouteWanted(self._board.controller)) and known.says == wanted:
            self._known.pop(key, None)  # nothing of it is ours any more

    def _failed(self, key: ObjectKey, known: _Known, error: ApiError) -> None:
        known.stored = known.says = None
        if error.status == 404:
            self._paths.doubt()
            if known.complaint == error.reason:
                self._known.pop(key, None)  # not there, whatever the version: we will be told
                return
        pause = self._pause(known.backoff, error)
        if error.status not in (404, 409) and error.reason != known.complaint:
            log.warning("the status of %s can't be written: %s; next try in %.1f s", key, error, pause)
        known.complaint = error.reason
        self._queue.add(key, pause)
