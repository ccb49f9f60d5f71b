"""When to look at a path again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from pathlib import Path

from watchfiles import awatch

log = logging.getLogger(__name__)


async def wakeups(path: Path, interval: float) -> AsyncGenerator[None, None]:
    """At once; then soon after something may have changed at or below `path`, and every `interval` seconds.

    The kernel tells of changes at once but not of all: not of a folder that was moved away and came back, of
    a link's target elsewhere, or of network file systems. So it is only what makes the look early.
    """
    complained = False
    yield
    while True:
        watched = await asyncio.to_thread(_watchable, path)
        if watched is None:
            await asyncio.sleep(interval)
            yield
            continue
        folder, identity = watched
        try:
            async for _ in awatch(
                folder,
                watch_filter=None,
                recursive=folder == path,
                debounce=400,
                rust_timeout=int(interval * 1000),
                yield_on_timeout=True,
            ):
                yield
                # A watch follows the folder that it was set on, not the path.
                if await asyncio.to_thread(_watchable, path) != (folder, identity):
                    break
        except (OSError, RuntimeError) as error:  # watchfiles raises RuntimeErrors of its own
            if not complained:
                complained = True
                log.warning("%s: %s; looking every %g s instead", folder, error, interval)
            await asyncio.sleep(interval)
            yield


def _watchable(path: Path) -> tuple[Path, tuple[int, int]] | None:
    """The folder to watch and its identity. A file's folder sees the file replaced, a file does not."""
    folder = path if path.is_dir() else path.parent
    try:
        status = folder.stat()
    except OSError:
        return None
    return folder, (status.st_dev, status.st_ino)
