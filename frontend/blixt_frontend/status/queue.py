"""Keys that wait for a worker: each at most once, and never with two workers at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    """For one event loop."""

    def __init__(self) -> None:
        self._ready: dict[K, None] = {}  # in order
        self._later: dict[K, asyncio.TimerHandle] = {}
        self._busy: set[K] = set()
        self._again: dict[K, float] = {}  # asked for while busy, with the delay
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        """Keys that wait, for a worker or for their time, or are being worked on."""
        return len(self._ready) + len(self._later) + len(self._busy)

    def add(self, key: K, delay: float = 0.0) -> None:
        """Have a look at the key, `delay` seconds from now at the earliest.

        Without effect if it waits already: a key that backs off isn't hurried by new changes.
        """
        if key in self._busy:
            self._again[key] = max(delay, self._again.get(key, 0.0))
        elif key not in self._ready and key not in self._later:
            if delay > 0:
                self._later[key] = asyncio.get_running_loop().call_later(delay, self._make_ready, key)
            else:
                self._make_ready(key)

    def discard(self, key: K) -> None:
        """Nobody needs to look at it any more."""
        self._ready.pop(key, None)
        self._again.pop(key, None)
        if (timer := self._later.pop(key, None)) is not None:
            timer.cancel()

    async def take(self) -> K:
        """The next key; it is the caller's until `done`."""
        while not self._ready:
            self._filled.clear()
            await self._filled.wait()
        key = next(iter(self._ready))
        del self._ready[key]
        self._busy.add(key)
        return key

    def done(self, key: K) -> None:
        self._busy.discard(key)
        delay = self._again.pop(key, None)
        if delay is not None:
            self.add(key, delay)

    def close(self) -> None:
        for timer in self._later.values():
            timer.cancel()
        self._later.clear()

    def _make_ready(self, key: K) -> None:
        self._later.pop(key, None)
        self._ready[key] = None
        self._filled.set()
