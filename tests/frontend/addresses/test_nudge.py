"""Empty batches in between, and nothing else changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from blixt_frontend.addresses.nudge import Nudged
from blixt_frontend.source import Batch, Source, SourceError
from blixt_objects import service

FIRST, SECOND = Batch(upserts=(service("a"),)), Batch(upserts=(service("b"),), complete=True)
EMPTY = Batch(complete=True)


class Scripted(Source):
    """Yields what is put; None ends it, an exception is raised."""

    def __init__(self) -> None:
        self.steps: asyncio.Queue[Batch | Exception | None] = asyncio.Queue()
        self.closed = False

    async def events(self) -> AsyncIterator[Batch]:
        try:
            while (step := await self.steps.get()) is not None:
                if isinstance(step, Exception):
                    raise step
                yield step
        finally:
            self.closed = True


async def test_batches_pass_and_nudges_are_empty_ones_once_all_is_listed() -> None:
    source = Scripted()
    nudged = Nudged(source)
    events = aiter(nudged.events())
    nudged.nudge()
    source.steps.put_nowait(FIRST)
    assert await anext(events) == FIRST
    source.steps.put_nowait(SECOND)
    assert await anext(events) == SECOND
    nudged.nudge()
    nudged.nudge()
    assert await anext(events) == EMPTY
    waiting = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    nudged.nudge()
    assert await waiting == EMPTY


async def test_the_end_is_the_end() -> None:
    source = Scripted()
    source.steps.put_nowait(SECOND)
    source.steps.put_nowait(None)
    assert [batch async for batch in Nudged(source).events()] == [SECOND]


async def test_a_failure_passes() -> None:
    source = Scripted()
    source.steps.put_nowait(SourceError("gone"))
    with pytest.raises(SourceError, match="gone"):
        await anext(aiter(Nudged(source).events()))


async def test_who_stops_listening_stops_the_source() -> None:
    source = Scripted()

    async def listen() -> None:
        async for _ in Nudged(source).events():
            pass

    task = asyncio.create_task(listen())
    source.steps.put_nowait(SECOND)
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait({task})
    assert source.closed
