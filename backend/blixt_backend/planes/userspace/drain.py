"""The end of a process whose connections end with it: those that are open get some time."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from blixt_backend.planes.userspace.room import Room
from blixt_backend.planes.userspace.tcp import Connection

log = logging.getLogger(__name__)


async def drain(connections: Room[Connection], seconds: float) -> None:
    """Return when all have ended, or after so many seconds, and then end the rest."""
    if connections.members and seconds > 0:
        log.info("waiting %g s for %d connections to end", seconds, len(connections.members))
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await connections.empty()
    if connections.members:
        log.warning("%d connections are ended before their time", len(connections.members))
    connections.abort_all()
