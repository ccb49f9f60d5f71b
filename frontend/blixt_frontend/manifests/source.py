"""The source behind `--manifests PATH`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path

from blixt_frontend.manifests.folder import ManifestFolder
from blixt_frontend.manifests.merging import Changes
from blixt_frontend.manifests.watching import wakeups
from blixt_frontend.source import Batch, Source


class ManifestSource(Source):
    """Objects of a file, or of the *.yaml, *.yml and *.json files below a folder, kept up to date.

    - A broken file is logged with document, line and field; its last good version stays in force.
    - Of an object in two files (by path, alphabetically) or twice in one, the first definition counts.
    - A file that is removed takes its objects with it. If `path` itself can't be read any more, what it held
      stays in force: an unmounted volume is no order to delete everything.
    - Reading waits until a file has not changed for `settle` seconds, so that half a file that is just being
      written is not taken for a whole one.
    """

    def __init__(self, path: Path, *, interval: float = 1.0, settle: float = 0.1) -> None:
        self._path = path
        self._interval = interval
        self._settle = settle
        self._folder = ManifestFolder(path)

    @property
    def problems(self) -> Mapping[str, str]:
        """What is wrong now, by file (relative to a folder; "." is a single file)."""
        return self._folder.problems

    async def events(self) -> AsyncIterator[Batch]:
        """The first batch is everything, and comes as soon as `path` can be read."""
        self._folder = folder = ManifestFolder(self._path)
        complete = False
        async with aclosing(wakeups(self._path, self._interval)) as moments:
            async for _ in moments:
                changes = await self._changes(folder, settle=self._settle if complete else 0)
                if changes is not None and (changes or not complete):
                    complete = True
                    yield Batch(changes.upserts, changes.deletions, complete=True)

    async def _changes(self, folder: ManifestFolder, settle: float) -> Changes | None:
        """What changed, or None if nothing did or it can't be said."""
        seen = await asyncio.to_thread(folder.look)
        if seen is None:
            return None
        names = folder.pending(seen)
        if settle and names:
            await asyncio.sleep(settle)
            later = await asyncio.to_thread(folder.look)
            if later is None:
                return None
            names = {name for name in names if seen.get(name) == later.get(name)}
        return await asyncio.to_thread(folder.load, seen, names)
