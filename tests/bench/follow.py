"""The backend with a clock in it: the daemon's client, driver and plane; a line of JSON after every apply.

Run as `python -m bench.follow PLANE API NODE [the plane's options]`. The plane "none" does nothing.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from blixt_backend import app, memory
from blixt_backend.client import Client
from blixt_backend.driver import Driver
from blixt_backend.model import ChangeSet
from blixt_backend.planes import registry
from blixt_backend.planes.base import NodeIdentity, Plane
from blixt_backend.rounds import Round
from blixt_backend.tls import TlsFiles

#: Services of one change whose names are told.
_NAMED = 16


@dataclass(frozen=True, slots=True)
class Applied:
    """One round; times are in seconds of CLOCK_MONOTONIC: it was asked for, it was there, the plane was
    called, it was done.
    """

    services: int
    names: list[str]
    asked: float
    synced: float
    begun: float
    applied: float

    @property
    def plane_seconds(self) -> float:
        return self.applied - self.begun


def read(log: Path) -> list[Applied]:
    """What a follower has told so far."""
    lines = log.read_text().splitlines()
    return [Applied(**json.loads(line)) for line in lines if line.startswith("{") and line.endswith("}")]


class StampedClient(Client):
    """Remembers when the last round was asked for, and when its Sync had come, in seconds of
    CLOCK_MONOTONIC.
    """

    asked = 0.0
    synced = 0.0

    async def next_round(self) -> Round:
        self.asked = time.monotonic()
        received = await super().next_round()
        self.synced = time.monotonic()
        return received


class NoPlane(Plane):
    """Carries nothing: what is measured ends where a plane begins."""

    async def start(self) -> None:
        pass

    async def apply(self, change: ChangeSet) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def cleanup(self) -> None:
        pass


class TimedPlane(Plane):
    """Hands everything on to the plane that does the work."""

    def __init__(self, plane: Plane, client: StampedClient) -> None:
        self._plane = plane
        self._client = client

    async def start(self) -> None:
        await self._plane.start()

    async def apply(self, change: ChangeSet) -> None:
        begun = time.monotonic()
        await self._plane.apply(change)
        count = len(change.changed)
        names = list(change.changed) if count <= _NAMED else []
        told = Applied(count, names, self._client.asked, self._client.synced, begun, time.monotonic())
        sys.stdout.write(json.dumps(asdict(told)) + "\n")
        sys.stdout.flush()

    async def stop(self) -> None:
        await self._plane.stop()

    async def cleanup(self) -> None:
        await self._plane.cleanup()


def chosen(plane: str, node: str, arguments: Sequence[str]) -> Plane:
    if plane == "none":
        return NoPlane()
    plane_class = registry.load(plane)
    options = click.Command(plane, params=list(plane_class.options())).make_context(plane, list(arguments))
    return plane_class.from_options(NodeIdentity(node), **options.params)


def main(plane: str, api: str, node: str, arguments: Sequence[str]) -> None:
    """Follow until killed."""
    worker = chosen(plane, node, arguments)
    settings = app.settings(api, node, TlsFiles())
    app.configure_logging("info")

    memory.begin()

    def on_applied(change: ChangeSet) -> None:
        if change.resync:
            asyncio.get_running_loop().call_later(memory.CLEAR_UP_SECONDS, memory.clear_up)

    async def follow() -> None:
        async with StampedClient(settings.api, settings.node) as client:
            await Driver(client, TimedPlane(worker, client), None, on_applied).run(asyncio.Event())

    asyncio.run(follow())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
