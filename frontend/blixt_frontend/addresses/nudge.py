"""A source that can be made to speak up, so that what depends on more than objects is looked at again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from blixt_frontend.source import Batch, Source


class Nudged(Source):
    """Another source's batches, and an empty one after each `nudge`: leadership has changed, for example."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._nudge = asyncio.Event()

    def nudge(self) -> None:
        """Several before the next batch count as one; those before everything was listed need none of their
        own."""
        self._nudge.set()

    async def events(self) -> AsyncIterator[Batch]:
        complete = False
        batches = aiter(self._source.events())
        coming = asyncio.ensure_future(_next(batches))
        nudged = asyncio.ensure_future(self._nudge.wait())
        try:
            while True:
                await asyncio.wait({coming, nudged}, return_when=asyncio.FIRST_COMPLETED)
                if coming.done():
                    if (batch := coming.result()) is None:
                        return
                    coming = asyncio.ensure_future(_next(batches))
                    complete = batch.complete
                    yield batch
                if nudged.done():
                    self._nudge.clear()
                    nudged = asyncio.ensure_future(self._nudge.wait())
                    if complete:
                        yield Batch(complete=True)
        finally:
            coming.cancel()
            nudged.cancel()
            await asyncio.wait({coming, nudged})


async def _next(batches: AsyncIterator[Batch]) -> Batch | None:
    """None at the end: StopAsyncIteration can't leave a task."""
    return await anext(batches, None)
