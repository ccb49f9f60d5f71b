"""A TCP listener, and the connections that it took: each is two, the client's and one to an endpoint."""

from __future__ import annotations

import asyncio
import socket
from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from blixt_backend.planes.userspace.choice import Target
from blixt_backend.planes.userspace.compile import Entry, Frontend
from blixt_backend.planes.userspace.halves import Pair
from blixt_backend.planes.userspace.listener import Listener
from blixt_backend.planes.userspace.picking import Picker
from blixt_backend.planes.userspace.room import Room

#: Endpoints that are tried for one connection, one after the other.
MOST_TRIES: Final = 3
_BACKLOG: Final = 1024


@dataclass(frozen=True, slots=True)
class TcpContext:
    """What all TCP listeners share. Times in seconds."""

    picker: Picker
    room: Room[Connection]
    connect_seconds: float
    idle_seconds: float


class TcpListener(Listener):
    """Connections know it, not the other way round, but by the endpoints that they have."""

    kind = socket.SOCK_STREAM

    def __init__(self, frontend: Frontend, entry: Entry, context: TcpContext) -> None:
        super().__init__(frontend, entry)
        self.context = context
        self.by_target: defaultdict[Target, set[Connection]] = defaultdict(set)
        self._server: asyncio.Server | None = None

    @property
    def wanted(self) -> bool:
        return self.entry.answers

    def update(self, entry: Entry) -> None:
        self.entry = entry
        for target in self.by_target.keys() - entry.keeps:
            for connection in list(self.by_target[target]):
                self.context.room.counts["endpoint gone"] += 1
                connection.abort()

    async def _serve(self, bound: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self).client, sock=bound, backlog=_BACKLOG)

    def _unserve(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None


class Connection(Pair):
    """A client that was accepted. It is not read from before an endpoint has taken its connection."""

    def __init__(self, listener: TcpListener) -> None:
        super().__init__(listener.context.idle_seconds)
        self._listener = listener
        self._room = listener.context.room
        self._connecting: asyncio.Task[None] | None = None
        self._target: Target | None = None

    def begun(self) -> None:
        assert self.client.transport is not None
        peer = self.client.transport.get_extra_info("peername")
        address: str = peer[0] if peer else ""  # it is gone again
        if not address:
            self.abort()
        elif not self._listener.context.picker.admits(self._listener.entry, address):
            self._room.counts["not let in"] += 1
            self.abort()
        elif not self._room.enter(self):
            self.abort()
        else:
            self._connecting = asyncio.create_task(self._connect(address), name="connecting")

    def over(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        if self._target is not None:
            self._leave(self._target)
        self._room.leave(self)

    async def _connect(self, client: str) -> None:
        """Find an endpoint that takes the connection. One that doesn't is not tried again for this client."""
        tried: set[Target] = set()
        for _ in range(MOST_TRIES):
            target = self._listener.context.picker.pick(self._listener.entry, client, tried)
            if target is None:
                break
            tried.add(target)
            # It may have left meanwhile.
            if await self._reach(target) and target in self._listener.entry.keeps:
                self._target = target
                self._listener.by_target[target].add(self)
                self._room.load(target)
                self.join()
                return
        self._room.counts["no endpoint"] += 1
        self.abort()

    async def _reach(self, target: Target) -> bool:
        loop = asyncio.get_running_loop()
        endpoint = self.new_endpoint()
        try:
            async with asyncio.timeout(self._listener.context.connect_seconds):
                await loop.create_connection(lambda: endpoint, target.address, target.port)
        except (OSError, TimeoutError):
            self._room.counts["endpoint not reached"] += 1
            return False
        return True

    def _leave(self, target: Target) -> None:
        self._room.unload(target)
        there = self._listener.by_target[target]
        there.discard(self)
        if not there:
            del self._listener.by_target[target]
