"""The backend with a clock in it: the daemon's client, driver and plane; a line of JSON after every apply.

Run as `python -m bench.follow PLANE API NODE [the plane's options]`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence

import click

from blixt_backend import app
from blixt_backend.client import Client
from blixt_backend.driver import Driver
from blixt_backend.model import ChangeSet
from blixt_backend.planes import registry
from blixt_backend.planes.base import NodeIdentity, Plane
from blixt_backend.rounds import Round
from blixt_backend.tls import TlsFiles


class StampedClient(Client):
    """Remembers when the last round's Sync had come, in seconds of CLOCK_MONOTONIC."""

    synced = 0.0

    async def next_round(self) -> Round:
        received = await super().next_round()
        self.synced = time.monotonic()
        return received


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
        ended = time.monotonic()
        applied = {
            "services": len(change.changed),
            "synced": self._client.synced,
            "applied": ended,
            "plane_seconds": ended - begun,
        }
        sys.stdout.write(json.dumps(applied) + "\n")
        sys.stdout.flush()

    async def stop(self) -> None:
        await self._plane.stop()

    async def cleanup(self) -> None:
        await self._plane.cleanup()


def main(plane: str, api: str, node: str, arguments: Sequence[str]) -> None:
    """Follow until killed."""
    plane_class = registry.load(plane)
    options = click.Command(plane, params=list(plane_class.options())).make_context(plane, list(arguments))
    chosen = plane_class.from_options(NodeIdentity(node), **options.params)
    settings = app.settings(api, node, TlsFiles())
    app.configure_logging("info")

    async def follow() -> None:
        async with StampedClient(settings.api, settings.node) as client:
            await Driver(client, TimedPlane(chosen, client)).run(asyncio.Event())

    asyncio.run(follow())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
