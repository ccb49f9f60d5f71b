"""Has connections counted afresh while some service is balanced by them (bpf/recount.h)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from blixt_backend.model import Algorithm, ChangeSet
from blixt_backend.planes.base import PlaneError

log = logging.getLogger(__name__)

#: From the end of one to the beginning of the next: at least so long, and so many times what it took (6 ms
#: where there are few connections, 100 ms for 200,000).
SECONDS, TIMES_AS_LONG = 5.0, 100


class Recounting:
    """Knows which services ask for it."""

    def __init__(self, recount: Callable[[], Awaitable[None]]) -> None:
        """`recount` counts once; it may raise PlaneError."""
        self._recount = recount
        self._paths: set[str] = set()
        self._wanted = asyncio.Event()

    def follow(self, change: ChangeSet) -> None:
        """What was applied."""
        least = Algorithm.LEAST_CONNECTIONS
        asking = {path for path, view in change.changed.items() if view.service.algorithm is least}
        if change.resync:
            self._paths = asking
        else:
            self._paths -= change.changed.keys() | change.removed
            self._paths |= asking
        if self._paths:
            self._wanted.set()
        else:
            self._wanted.clear()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wanted.wait()
            started = time.monotonic()
            try:
                await self._recount()
            except PlaneError as error:
                log.error("counting connections failed: %s", error)
            await asyncio.sleep(max(SECONDS, (time.monotonic() - started) * TIMES_AS_LONG))
