"""A watch of the API server that does nothing else: when a change could be known to whoever watches."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing

from bench.cluster_load import Load
from blixt_control_plane import ControlPlane
from blixt_lab import Host, wait_for

_PATIENCE = 60.0


class PlainWatch:
    """Watches one collection until `close`; times are time.monotonic()'s."""

    def __init__(self, host: Host, plane: ControlPlane, path: str) -> None:
        self._plane, self._path = plane, path
        self._lines: list[tuple[float, bytes]] = []
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=lambda: host.call(self._run), daemon=True)
        self._thread.start()

    def forget(self) -> None:
        """What came so far."""
        self._lines = []

    def wait(self, text: str) -> float:
        """When the first event came that has the text. Raises WaitTimeoutError."""
        return wait_for(lambda: self._first(text.encode()), f"a watch to tell of {text}", _PATIENCE, 0.01)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(_PATIENCE)

    def _first(self, text: bytes) -> float:
        return next((came for came, line in self._lines if text in line), 0.0)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._watch())

    async def _watch(self) -> None:
        watching = asyncio.create_task(self._note())
        await self._end.wait()
        watching.cancel()
        await asyncio.wait({watching})

    async def _note(self) -> None:
        async with Load(self._plane) as load, aclosing(load.watch(self._path)) as lines:
            async for came, line in lines:
                self._lines.append((came, line))
