"""A plane that only remembers, for tests of whatever drives planes."""

from __future__ import annotations

from collections.abc import Mapping

from blixt_backend.model import ChangeSet, ServiceView
from blixt_backend.planes.base import Plane, PlaneError


class RecordingPlane(Plane):
    """Holds services in a dictionary as a real plane would in the kernel, and records what it was told.

    Pass one `held` to several planes in turn to play a daemon that is restarted. Of a change it uses only
    what the contract lets a plane rely on: `desired` in a resync, `changed` and `removed` otherwise.
    """

    def __init__(self, held: dict[str, ServiceView] | None = None) -> None:
        #: What "the kernel" holds, by service path.
        self.held: dict[str, ServiceView] = {} if held is None else held
        #: Every change that was applied whole, in order.
        self.applied: list[ChangeSet] = []
        #: How often apply was called, failures and all.
        self.attempts = 0
        self.running = False
        self._failures = 0
        self._halfway = False

    def fail(self, times: int = 1, *, halfway: bool = False) -> None:
        """Let the next `times` applies fail: at once, or after half of their services were written."""
        self._failures, self._halfway = times, halfway

    async def start(self) -> None:
        self.running = True

    async def apply(self, change: ChangeSet) -> None:
        if not self.running:
            raise PlaneError("apply was called on a plane that isn't started")
        self.attempts += 1
        if self._failures:
            self._failures -= 1
            if self._halfway:
                self._write_half(change)
            raise PlaneError("told to fail")
        self._write(change)
        self.applied.append(change)

    async def stop(self) -> None:
        self.running = False

    async def cleanup(self) -> None:
        self.held.clear()

    def status(self) -> Mapping[str, object]:
        return {"services": len(self.held), "applied": len(self.applied)}

    def _write(self, change: ChangeSet) -> None:
        if change.resync:
            for path in self.held.keys() - change.desired.keys():
                del self.held[path]
        self.held.update(change.changed)
        for path in change.removed:
            self.held.pop(path, None)

    def _write_half(self, change: ChangeSet) -> None:
        paths = sorted(change.changed)
        self.held.update({path: change.changed[path] for path in paths[: len(paths) // 2]})
