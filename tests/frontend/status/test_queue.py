"""Keys wait once, and are with one worker at a time."""

from __future__ import annotations

import asyncio

from blixt_fakes.until import until
from blixt_frontend.status.queue import WorkQueue


async def taken(queue: WorkQueue[str]) -> str:
    async with asyncio.timeout(30):
        return await queue.take()


async def test_each_key_once_in_order() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for key in "abab":
        queue.add(key)
    assert [await taken(queue), await taken(queue)] == ["a", "b"]
    assert len(queue) == 2
    queue.done("a")
    queue.done("b")
    assert len(queue) == 0


async def test_a_key_that_is_worked_on_comes_again_afterwards() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    await taken(queue)
    queue.add("a")
    queue.add("b")
    assert await taken(queue) == "b"
    queue.done("a")
    assert await taken(queue) == "a"


async def test_a_key_that_backs_off_is_not_hurried() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a", 3600)
    queue.add("a")
    queue.add("b")
    assert await taken(queue) == "b"
    assert len(queue) == 2
    queue.close()


async def test_the_longest_pause_that_was_asked_for_during_the_work_counts() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    await taken(queue)
    queue.add("a")
    queue.add("a", 3600)
    queue.add("a")
    queue.done("a")
    queue.add("b")
    assert await taken(queue) == "b"
    queue.close()


async def test_its_time_comes() -> None:
    queue: WorkQueue[str] = WorkQueue()
    waiting = asyncio.ensure_future(queue.take())
    queue.add("a", 0.001)
    await until(waiting.done)
    assert waiting.result() == "a"


async def test_what_nobody_needs_is_left_out() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("working")
    await taken(queue)
    queue.add("ready")
    queue.add("later", 0.001)
    for key in ("working", "ready", "later", "unknown"):
        queue.add("working")
        queue.discard(key)
    queue.discard("working")
    queue.done("working")
    assert len(queue) == 0
