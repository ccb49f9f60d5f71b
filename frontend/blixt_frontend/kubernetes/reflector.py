"""Keeps one kind's mirror like the server's state: list once, then watch, on one connection at a time."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import aclosing

from blixt_frontend.decode import DecodeError
from blixt_frontend.kubernetes.client import SILENT, ApiClient, ApiError
from blixt_frontend.kubernetes.frames import Event, FrameError, ObjectDecoder, decode_event
from blixt_frontend.kubernetes.kinds import CORE
from blixt_frontend.kubernetes.mirror import Mirror, Page
from blixt_frontend.kubernetes.pace import Backoff, Pace
from blixt_frontend.source import ObjectKey

log = logging.getLogger(__name__)


class Reflector:
    """Follows one version of a kind. Whatever fails, the mirror keeps what is known, and it is tried again.

    - A broken or silent watch goes on from the last resource version that was seen.
    - Where that is too old (410) or lies in the server's future (an etcd restored from a backup, or empty),
      all is listed anew, and compared with what is held: deletions that were missed are found that way.
    """

    def __init__(
        self,
        client: ApiClient,
        mirror: Mirror,
        version: str,
        listed: Callable[[], None],
        pace: Pace,
        failed: Callable[[ApiError], None] = lambda _: None,
    ) -> None:
        self._client = client
        self._mirror = mirror
        self._kind = mirror.kind
        self._path = mirror.kind.path(version)
        self._decoder = ObjectDecoder(mirror.kind.type)
        self._listed = listed
        self._tell_failure = failed
        self._selector = {"fieldSelector": mirror.kind.selector} if mirror.kind.selector else {}
        self._pace = pace
        self._version = ""  # the resource version that the mirror is at; empty: list first
        self._broke_off = False  # since then, another server may have taken this one's place
        self._garbage_at = ""
        self._complaint = ""
        self._failed_with = 0  # the last failure's status

    async def run(self) -> None:
        """Returns if the kind is not served (any more); otherwise only cancelling ends it."""
        backoff = Backoff(self._pace)
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self._catch_up()
                began = loop.time()
                await self._watch()
                pause = 0.0 if loop.time() - began > 1 else backoff.next()
            except ApiError as error:
                if error.status == 404 and self._kind not in CORE:
                    return
                pause = self._failed(error, backoff, lasted=loop.time() - began)
                self._tell_failure(error)
            await asyncio.sleep(pause)

    async def _catch_up(self) -> None:
        if self._version and self._broke_off and await self._went_back():
            log.warning("%s: the server's state is older than what was seen; listing anew", self._kind.name)
            self._version = ""
        self._broke_off = False
        if not self._version:
            self._version = await self._list()
            self._good()
            self._listed()

    def _failed(self, error: ApiError, backoff: Backoff, lasted: float) -> float:
        """Seconds until the next attempt."""
        self._broke_off = True
        again, self._failed_with = error.status == self._failed_with, error.status
        if error.status == 410:
            log.info("%s: %s; listing anew", self._kind.name, error)
            self._version = ""
            # The server is well, however long it was not: it need not be spared before it says so twice.
            return (backoff if again else Backoff(self._pace)).next(lasted, error.retry_after)
        if error.status == 403 and not again:
            return backoff.next(lasted, error.retry_after)  # one that just starts hasn't read its rules yet
        if error.status == 400:
            self._version = ""  # a version that the server does not understand is not its own
        if error.reason == SILENT:
            # No reason to complain: a server has no bookmark to send while it has no news of the kind.
            log.debug("%s: %s; connecting again", self._kind.name, error)
            return backoff.next(lasted)
        advice = ""
        least = error.retry_after
        if error.status == 403:
            advice = f"; grant it get, list and watch of {self._kind.resource}"
            least = max(least, self._pace.forbidden)
        pause = backoff.next(lasted, least)
        self._complain(f"{error}{advice}", pause)
        return pause

    def _complain(self, text: str, pause: float) -> None:
        """Once, until something else is wrong or all is well again."""
        if text != self._complaint:
            self._complaint = text
            log.warning(
                "%s: %s; what is known of them stays, next try in %.1f s", self._kind.name, text, pause
            )

    def _good(self) -> None:
        if self._complaint:
            self._complaint = ""
            log.info("%s: following it again", self._kind.name)

    async def _list(self) -> str:
        """The version that the mirror is at then. A list that expires half way is asked for in one piece."""
        try:
            return await self._list_in_pages(self._pace.page)
        except ApiError as error:
            if error.status != 410:
                raise
        return await self._list_in_pages(0)

    async def _list_in_pages(self, size: int) -> str:
        keys: set[ObjectKey] = set()
        query = {"limit": str(size)} if size else {}
        while True:
            page = await self._page(query)
            self._mirror.take_page(page)
            keys.update(page.keys)
            keys.update(key for key, _ in page.malformed)
            if not page.continue_:
                self._mirror.keep_only(keys)
                return page.resource_version
            query = {**query, "continue": page.continue_}

    async def _page(self, query: dict[str, str]) -> Page:
        raw = await self._client.request("GET", self._path, query=self._selector | query)
        try:
            return await asyncio.to_thread(self._mirror.read_page, raw)
        except DecodeError as error:
            raise ApiError(0, "Unreachable", f"GET {self._path}: not a list: {error}") from error

    async def _went_back(self) -> bool:
        """Whether the server is at an earlier version than we are, so that a watch from ours stays silent."""
        page = await self._page({"limit": "1"})
        now, ours = page.resource_version, self._version
        return now.isdecimal() and ours.isdecimal() and int(now) < int(ours)

    async def _watch(self) -> None:
        """Until the server ends it. Raises ApiError."""
        seconds = int(random.uniform(*self._pace.watch))  # noqa: S311  # jitter, not a secret
        query = self._selector | {
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        began = asyncio.get_running_loop().time()
        async with aclosing(self._client.watch(self._path, query, silence=self._pace.silence)) as batches:
            async for lines in batches:
                for line in lines:
                    if line:
                        self._take(line)
                self._good()
        self._broke_off = asyncio.get_running_loop().time() - began < seconds - 1

    def _take(self, line: bytes) -> None:
        try:
            event = decode_event(line)
        except FrameError as error:
            raise self._garbage(error) from error
        if event.type == "ERROR":
            status = event.object
            raise ApiError(
                status.code or 500, status.reason or "Unknown", f"watch of {self._path}: {status.message}"
            )
        if event.type != "BOOKMARK":
            self._apply(event, line)
        self._version = event.object.metadata.resource_version or self._version

    def _apply(self, event: Event, line: bytes) -> None:
        key = self._mirror.key(event.object.metadata)
        if event.type == "DELETED":
            self._mirror.delete(key)
            return
        try:
            self._mirror.put(key, self._decoder.decode(line))
        except DecodeError as error:
            self._mirror.report(key, str(error))
        self._mirror.saw(key, event.object.metadata.resource_version)

    def _garbage(self, error: FrameError) -> ApiError:
        """The event is asked for once more; if it comes out wrong again, a list leads past it."""
        if self._garbage_at == self._version:
            self._version = ""
        self._garbage_at = self._version
        shown = "not shown" if self._kind.type.confidential else error
        return ApiError(0, "Unreachable", f"watch of {self._path}: a line that is no event: {shown}")
