"""Sockets that listen where they should, as far as they can: what can't be had is tried again, ever later."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from dataclasses import dataclass
from math import inf

from blixt_backend.health.connections import Answer, Connection, Pool
from blixt_backend.health.places import Place

log = logging.getLogger(__name__)

_BACKLOG = 64
_FIRST_SECONDS, _MOST_SECONDS = 1.0, 60.0


@dataclass(slots=True)
class _Listener:
    """`what` is for whom it listens, in the log. A server is there once it could be bound."""

    what: str
    answer: Answer
    server: asyncio.Server | None = None
    due: float = 0.0
    delay: float = _FIRST_SECONDS
    told: str = ""


class Listeners:
    """What should listen, and what does. No place takes another one down with it."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._wanted: dict[Place, _Listener] = {}
        #: Those without a server.
        self._missing: dict[Place, _Listener] = {}

    @property
    def places(self) -> list[Place]:
        """Where connections are taken."""
        return [place for place, listener in self._wanted.items() if listener.server]

    @property
    def due(self) -> float:
        """When `settle` has something to do, by the loop's clock."""
        return min((listener.due for listener in self._missing.values()), default=inf)

    def open(self, place: Place, what: str, answer: Answer) -> None:
        """Listen from the next `settle` on; a place that is wanted already goes on, for `what` it is now."""
        listener = self._wanted.get(place)
        if listener is None:
            self._wanted[place] = self._missing[place] = _Listener(what, answer)
        else:
            listener.what = what

    def shut(self, place: Place) -> None:
        """Listen no more; connections that are open are answered."""
        self._missing.pop(place, None)
        listener = self._wanted.pop(place, None)
        if listener is not None and listener.server is not None:
            listener.server.close()

    async def settle(self) -> None:
        """Try all that is due."""
        now = asyncio.get_running_loop().time()
        for place, listener in list(self._missing.items()):
            if listener.due <= now and self._missing.get(place) is listener:
                await self._try(place, listener)

    def close(self) -> None:
        """Listen nowhere, and cut all connections."""
        for place in list(self._wanted):
            self.shut(place)
        self._pool.close()

    async def _try(self, place: Place, listener: _Listener) -> None:
        loop = asyncio.get_running_loop()
        try:
            bound = _bind(place)
        except OSError as error:
            self._postpone(place, listener, error)
            return
        # Not in `server` yet while this waits: whoever shuts the place meanwhile would miss it.
        server = await loop.create_server(lambda: Connection(self._pool, listener.answer), sock=bound)
        if self._wanted.get(place) is not listener:
            server.close()
            return
        listener.server = server
        del self._missing[place]
        if listener.told:
            log.info("%s: listening on %s now", listener.what, place)

    def _postpone(self, place: Place, listener: _Listener, error: OSError) -> None:
        listener.due = asyncio.get_running_loop().time() + listener.delay
        listener.delay = min(2 * listener.delay, _MOST_SECONDS)
        reason = os.strerror(error.errno) if error.errno else str(error)
        if reason == listener.told:
            return
        listener.told = reason
        # A host without a family can't be asked by it: nothing is amiss.
        level = logging.DEBUG if error.errno == errno.EAFNOSUPPORT else logging.WARNING
        log.log(level, "%s: can't listen on %s: %s; trying again", listener.what, place, reason)


def _bind(place: Place) -> socket.socket:
    """A socket that listens. Raises OSError."""
    family = socket.AF_INET6 if place.version == 6 else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        # Connections of the process before may still be in TIME_WAIT.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((place.address, place.port))
        made.listen(_BACKLOG)
    except OSError:
        made.close()
        raise
    return made
