"""Adds up what a source tells, and checks what every batch promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager

from blixt_frontend.source import Batch, KubernetesObject, ObjectKey, Source

PATIENCE = 30.0


class Follower:
    def __init__(self) -> None:
        self.objects: dict[ObjectKey, KubernetesObject] = {}
        self.batches: list[Batch] = []
        self.unread: Mapping[str, str] | None = None
        self._changed = asyncio.Condition()

    @property
    def complete(self) -> bool:
        return bool(self.batches) and self.batches[-1].complete

    @property
    def names(self) -> set[str]:
        """`Kind/name` of all there is."""
        return {f"{key.kind}/{key.name}" for key in self.objects}

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(holds)

    async def has(self, *names: str) -> None:
        """Until everything was told once, and these are all there is."""
        try:
            await self.until(lambda: self.complete and self.names == set(names))
        except TimeoutError as error:
            raise AssertionError(f"expected {sorted(names)}, got {sorted(self.names)}") from error

    async def follow(self, source: Source) -> None:
        async with aclosing(source.events()) as events:  # type: ignore[type-var]  # an async generator
            async for batch in events:
                await self._take(batch)

    async def _take(self, batch: Batch) -> None:
        assert batch.complete or not self.complete
        tells = (batch.complete, batch.unread) != (self.complete, self.unread)
        assert batch.upserts or batch.deletions or tells
        for key in batch.deletions:
            del self.objects[key]
        for one in batch.upserts:
            assert self.objects.get(one.key) != one
            self.objects[one.key] = one
        assert len({*batch.deletions, *(one.key for one in batch.upserts)}) == len(batch.deletions) + len(
            batch.upserts
        )
        async with self._changed:
            self.batches.append(batch)
            self.unread = batch.unread
            self._changed.notify_all()


@asynccontextmanager
async def following(source: Source) -> AsyncIterator[Follower]:
    follower = Follower()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(follower.follow(source))
        yield follower
        task.cancel()
