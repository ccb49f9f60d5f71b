"""What TCP and UDP listeners share: a frontend, what it does, and a socket while it should have one."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod

from blixt_backend.planes.userspace.compile import Entry, Frontend
from blixt_backend.planes.userspace.mapping import Place


class Listener(ABC):
    """One frontend's. It listens only while somebody may be answered: else the system refuses by itself."""

    kind: socket.SocketKind

    def __init__(self, frontend: Frontend, entry: Entry) -> None:
        self.frontend, self.entry = frontend, entry
        #: Where it listens; None: it doesn't.
        self.bound: Place | None = None

    @property
    @abstractmethod
    def wanted(self) -> bool:
        """Whether it should listen."""

    async def open(self, place: Place) -> None:
        """Listen there. Raises OSError."""
        bound = _bound(self.kind, place)
        try:
            await self._serve(bound)
        except BaseException:
            bound.close()
            raise
        self.bound = Place(place.address, bound.getsockname()[1])

    def shut(self) -> None:
        """Listen no more; connections that are open go on."""
        if self.bound is not None:
            self.bound = None
            self._unserve()

    @abstractmethod
    def update(self, entry: Entry) -> None:
        """Do this from now on: connections to endpoints that are gone end."""

    @abstractmethod
    async def _serve(self, bound: socket.socket) -> None:
        """Take what comes in by this socket. Raises OSError."""

    @abstractmethod
    def _unserve(self) -> None:
        """Close that socket."""


def _bound(kind: socket.SocketKind, place: Place) -> socket.socket:
    """Raises OSError."""
    family = socket.AF_INET6 if ":" in place.address else socket.AF_INET
    made = socket.socket(family, kind)
    try:
        made.setblocking(False)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            # An earlier process' connections that linger don't keep its successor from listening. For UDP the
            # same option would let two programs share the port.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((place.address, place.port))
    except BaseException:
        made.close()
        raise
    return made
