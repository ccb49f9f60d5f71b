"""A plane in a process of its own, as a backend would run it, told what to do by a pipe."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
from collections.abc import Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Literal

import click

from blixt_backend.model import ChangeSet
from blixt_backend.planes import registry
from blixt_backend.planes.base import NodeIdentity, Plane, PlaneError
from blixt_backend.testing.host import Host

#: What can be told: the names of Plane's methods, and what they take.
Order = tuple[Literal["start", "stop", "cleanup"]] | tuple[Literal["apply"], ChangeSet]

_LONGEST_SECONDS = 60.0
_NODE_NAME = "node1"


class PlaneProcess:
    """One life of a plane on a host. Its log is this process's standard error."""

    def __init__(self, host: Host, plane: str, options: Sequence[str]) -> None:
        """`options`: the plane's own command-line options."""
        context = multiprocessing.get_context("spawn")
        # Else it would be started now, and keep the host's namespace.
        resource_tracker.ensure_running()
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_run, args=(theirs, plane, tuple(options)), daemon=True)
        host.call(self._process.start)
        theirs.close()

    @property
    def running(self) -> bool:
        return self._process.is_alive()

    async def start(self) -> None:
        """Raises PlaneError, as all of these do, and AssertionError if the process has ended."""
        await self._tell(("start",))

    async def apply(self, change: ChangeSet) -> None:
        await self._tell(("apply", change))

    async def stop(self) -> None:
        """Stop the plane and end its process."""
        await self._tell(("stop",))
        self._end()

    async def cleanup(self) -> None:
        """Clean up, which needs no start, and end the process."""
        await self._tell(("cleanup",))
        self._end()

    def kill(self) -> None:
        """SIGKILL: no chance to put anything in order."""
        self._process.kill()
        self._end()

    def _end(self) -> None:
        self._pipe.close()
        self._process.join(_LONGEST_SECONDS)

    async def _tell(self, order: Order) -> None:
        try:
            self._pipe.send(order)
            if not await asyncio.to_thread(self._pipe.poll, _LONGEST_SECONDS):
                raise AssertionError(f"the plane took longer than {_LONGEST_SECONDS:g} s for {order[0]}")
            trouble: str | None = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join(_LONGEST_SECONDS)
            code = self._process.exitcode
            raise AssertionError(f"the plane's process ended with {code} during {order[0]}") from error
        if trouble is not None:
            raise PlaneError(trouble)


def _run(pipe: Connection, name: str, options: tuple[str, ...]) -> None:
    """The process: its answers are what went wrong, or None."""
    logging.basicConfig(level="INFO", format=f"%(asctime)s {name} %(levelname)s %(message)s")
    asyncio.run(_obey(pipe, _made(registry.load(name), options)))


def _made(plane: type[Plane], options: tuple[str, ...]) -> Plane:
    """The plane as the command line would make it."""
    command = click.Command(plane.__name__, params=list(plane.options()))
    with command.make_context(plane.__name__, list(options)) as context:
        return plane.from_options(NodeIdentity(_NODE_NAME), **context.params)


async def _obey(pipe: Connection, plane: Plane) -> None:
    while True:
        try:
            order: Order = await asyncio.to_thread(pipe.recv)
        except EOFError:
            return
        try:
            method, *arguments = order
            await getattr(plane, method)(*arguments)
        except PlaneError as error:
            pipe.send(str(error))
        else:
            pipe.send(None)
