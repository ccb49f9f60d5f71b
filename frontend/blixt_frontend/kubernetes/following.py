"""All kinds of one API server together: which of them are followed, and what has changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol

from blixt_frontend.kubernetes.client import ApiClient, ApiError
from blixt_frontend.kubernetes.discovery import served_kinds
from blixt_frontend.kubernetes.gathering import Gathering
from blixt_frontend.kubernetes.kinds import CORE, GATEWAY, Kind
from blixt_frontend.kubernetes.mirror import Mirror
from blixt_frontend.kubernetes.pace import Backoff, Pace
from blixt_frontend.kubernetes.reflector import Reflector
from blixt_frontend.objects import Object
from blixt_frontend.source import NOT_YET, ObjectKey

log = logging.getLogger(__name__)


class Observer(Protocol):
    """Wants to know what makes no difference to what is served. Called on the event loop."""

    def seen(self, key: ObjectKey, resource_version: str) -> None:
        """The server has this version of an object of the Gateway API."""

    def definitions_changed(self) -> None:
        """Other kinds of the Gateway API are served than before, or other versions of them."""


class Following:
    """A reflector for each kind that is served, started and ended as kinds come, change version and go."""

    def __init__(self, client: ApiClient, pace: Pace, observer: Callable[[], Observer | None]) -> None:
        self._client = client
        self._pace = pace
        self._observer = observer
        self._mirrors = {kind: Mirror(kind, self._changed) for kind in CORE}
        self._mirrors |= {kind: Mirror(kind, self._changed, self._seen) for kind in GATEWAY}
        self._served: Mapping[Kind, str] = {}
        self._reflectors: dict[Kind, tuple[str, asyncio.Task[None]]] = {}
        self._unlisted: set[Kind] = {kind for kind in CORE if not kind.status_only}
        #: Of the kinds that only status needs: those that were never listed, and why.
        self.unread: dict[str, str] = {kind.name: NOT_YET for kind in CORE if kind.status_only}
        self._discovered = False
        self._doubted: set[Kind] = set()
        self._look_again = asyncio.Event()
        self._complaint = ""
        self.gathering = Gathering()
        #: Set when there is something to gather, or all has been listed.
        self.news = asyncio.Event()

    @property
    def all_listed(self) -> bool:
        return self._discovered and not self._unlisted

    async def run(self) -> None:
        """Ends only by being cancelled, or by a bug."""
        async with asyncio.TaskGroup() as tasks:
            for kind in CORE:
                self._follow(tasks, kind, kind.versions[0])
            backoff = Backoff(self._pace)
            while True:
                try:
                    self._adjust(tasks, await served_kinds(self._client))
                except ApiError as error:
                    pause = backoff.next(at_least=error.retry_after)
                    self._complain(error)
                else:
                    backoff, self._complaint = Backoff(self._pace), ""
                    pause = self._pace.relook if self._doubted else self._pace.discovery
                await self._rest(pause)

    def _changed(self, key: ObjectKey, before: Object | None, after: Object | None) -> None:
        self.gathering.add(key, before, after)
        self.news.set()

    def _seen(self, key: ObjectKey, resource_version: str) -> None:
        observer = self._observer()
        if observer is not None:
            observer.seen(key, resource_version)

    def _listed(self, kind: Kind) -> None:
        self._unlisted.discard(kind)
        was_unread = self.unread.pop(kind.name, None) is not None
        if self.all_listed or was_unread:
            self.news.set()

    def _failed(self, kind: Kind, error: ApiError) -> None:
        """Its reason is kept, not its words: status is written with it, and these may differ each time."""
        if self.unread.get(kind.name, error.reason) != error.reason:
            self.unread[kind.name] = error.reason
            self.news.set()

    def _follow(self, tasks: asyncio.TaskGroup, kind: Kind, version: str) -> None:
        reflector = Reflector(
            self._client,
            self._mirrors[kind],
            version,
            lambda: self._listed(kind),
            self._pace,
            failed=lambda error: self._failed(kind, error),
        )
        task = tasks.create_task(reflector.run(), name=f"reflector of {kind.name}")
        task.add_done_callback(lambda _: self._look_again.set())
        self._reflectors[kind] = (version, task)

    def _adjust(self, tasks: asyncio.TaskGroup, served: Mapping[Kind, str]) -> None:
        for kind in GATEWAY:
            if kind in served:
                self._come(tasks, kind, served[kind])
            elif kind in self._reflectors:
                self._go(kind)
        observer = self._observer()
        if observer is not None and served != self._served:
            observer.definitions_changed()
        self._served = served
        if not self._discovered:
            self._discovered = True
            absent = [kind.name for kind in GATEWAY if kind not in served]
            if absent:
                log.warning("%s not served: followed once their CRDs are installed", ", ".join(absent))
            self.news.set()

    def _come(self, tasks: asyncio.TaskGroup, kind: Kind, version: str) -> None:
        self._doubted.discard(kind)
        followed, task = self._reflectors.get(kind, ("", None))
        if task is not None:
            if followed == version and not task.done():
                return
            task.cancel()
        if followed != version:
            log.info("%s: following %s/%s", kind.name, kind.group, version)
        if not kind.status_only:
            self._unlisted.add(kind)
        elif not followed:
            self.unread[kind.name] = NOT_YET
        self._follow(tasks, kind, version)

    def _go(self, kind: Kind) -> None:
        """Deleting a CRD deletes its objects. It must be missed twice: a server that just starts may not have
        found its CRDs yet."""
        if kind not in self._doubted:
            self._doubted.add(kind)
            return
        log.warning("%s is not served any more; its objects are gone", kind.name)
        self._doubted.discard(kind)
        _, task = self._reflectors.pop(kind)
        task.cancel()
        self._mirrors[kind].clear()
        self._listed(kind)

    def _complain(self, error: ApiError) -> None:
        if str(error) != self._complaint:
            self._complaint = str(error)
            log.warning("can't tell which kinds are served: %s; asking again", error)

    async def _rest(self, pause: float) -> None:
        """Shorter if a reflector has found its kind gone, but never so short that a server is hurried."""
        self._look_again.clear()
        await asyncio.sleep(min(pause, self._pace.relook))
        with suppress(TimeoutError):
            async with asyncio.timeout(pause - self._pace.relook):
                await self._look_again.wait()
