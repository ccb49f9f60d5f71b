"""Changes of one endpoint each, with a stopwatch: when each was written, and when a plain watch saw it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import msgspec

from bench.cluster_load import JSON_PATCH, Load
from bench.cluster_objects import NAMESPACE, moved_address, service_name, slice_name, slices_path
from bench.follow import Applied

_PATIENCE = 120.0


@dataclass(slots=True)
class Change:
    """Times are in seconds of CLOCK_MONOTONIC, of one clock for all processes."""

    #: `namespace/name`
    service: str
    slice: str
    sent: float
    #: The API server's answer was there.
    acknowledged: float = 0.0
    #: A watch of the slices, which does nothing else, had it.
    seen: float = 0.0


@dataclass(slots=True)
class Editor:
    """Changes one endpoint of a random Service at a time: its address, or whether it is ready, by turns.

    No change is made twice, so that each makes a difference: one editor is for the whole run.
    """

    endpoints: int
    _random: random.Random = field(default_factory=lambda: random.Random(1))
    _moves: int = 0
    _unready: set[tuple[int, int]] = field(default_factory=set)

    async def make(self, load: Load, services: int, count: int, interval: float) -> list[Change]:
        """So many changes, about that many seconds apart; returns once a watch has seen them all."""
        waiting: dict[str, Change] = {}
        news = asyncio.Event()
        watching = asyncio.create_task(_note(load, waiting, news))
        await asyncio.sleep(0.5)  # until the watch is open
        changes = []
        try:
            for _ in range(count):
                change = await self._one(load, services, waiting)
                changes.append(change)
                await asyncio.sleep(interval * self._random.uniform(0.5, 1.5))
            async with asyncio.timeout(_PATIENCE):
                while waiting:
                    await news.wait()
                    news.clear()
        finally:
            watching.cancel()
            await asyncio.wait({watching})
        return changes

    async def _one(self, load: Load, services: int, waiting: dict[str, Change]) -> Change:
        number = self._random.randrange(services)
        name = slice_name(number)
        patch = [self._operation(number, self._random.randrange(self.endpoints))]
        change = Change(f"{NAMESPACE}/{service_name(number)}", name, time.monotonic())
        waiting[name] = change
        await load.request("PATCH", f"{slices_path()}/{name}", patch, JSON_PATCH)
        change.acknowledged = time.monotonic()
        return change

    def _operation(self, service: int, endpoint: int) -> dict[str, object]:
        path = f"/endpoints/{endpoint}"
        self._moves += 1
        if self._moves % 2:
            value = moved_address(self._moves)
            return {"op": "replace", "path": f"{path}/addresses/0", "value": value}
        self._unready ^= {(service, endpoint)}
        ready = (service, endpoint) not in self._unready
        return {"op": "replace", "path": f"{path}/conditions/ready", "value": ready}


class _Metadata(msgspec.Struct, frozen=True):
    name: str = ""


class _Object(msgspec.Struct, frozen=True):
    metadata: _Metadata = _Metadata()


class _Event(msgspec.Struct, frozen=True):
    object: _Object


async def _note(load: Load, waiting: dict[str, Change], news: asyncio.Event) -> None:
    async with aclosing(load.watch(slices_path())) as lines:
        async for came, line in lines:
            change = waiting.pop(msgspec.json.decode(line, type=_Event).object.metadata.name, None)
            if change is not None:
                change.seen = came
                news.set()


def applied(changes: Sequence[Change], told: Sequence[Applied]) -> list[float | None]:
    """When a backend's plane was called with each change; None: not yet."""
    found: list[float | None] = []
    position = 0
    for change in changes:
        later = (
            number
            for number in range(position, len(told))
            if told[number].begun > change.sent and change.service in told[number].names
        )
        number = next(later, None)
        found.append(None if number is None else told[number].begun)
        position = position if number is None else number
    return found
