"""One watching stream: a request asks for a round, a round is sent when there is something to tell."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, Never, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from blixt_api import blixtv1_pb2, localv1_pb2, wire
from blixt_frontend.peers import allowed_nodes, may_watch
from blixt_frontend.rounds import Position, Round, View
from blixt_frontend.store import Store, TooFarBehindError

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

    Context: TypeAlias = ServicerContext[bytes, bytes]

log = logging.getLogger(__name__)

#: A batch is sent when it has this many bytes: far below every reader's 4 MiB, far above a call's cost.
BATCH_BYTES = 256 * 1024
#: Full sets that are sent at a time.
FULL_SETS = 16
#: The longest name that Kubernetes gives an object.
NODE_NAME_LENGTH = 253

_RESET = wire.frame(wire.RESET)
_SYNC = wire.frame(wire.SYNC)


class Request(NamedTuple):
    """What a WatchReq or WatchRequest says."""

    node: str
    #: The revision that the node has applied. None: the last round, as it wouldn't ask for more before.
    applied: int | None


class Dialect(ABC):
    """How requests and rounds look on one of the two streams."""

    service: str
    #: Whether its readers understand what KPNG's don't.
    extensions: bool

    @abstractmethod
    def request(self, message: bytes) -> Request:
        """Raises DecodeError."""

    @abstractmethod
    def messages(self, round_: Round) -> Iterator[bytes]:
        """A round as the stream's messages, with Reset and Sync."""


class LocalDialect(Dialect):
    """localv1.Sets/Watch: KPNG's, one item a message. `service`: what KPNG calls it, or once called it."""

    extensions = False

    def __init__(self, service: str = wire.LOCAL_SERVICE) -> None:
        self.service = service

    def request(self, message: bytes) -> Request:
        return Request(localv1_pb2.WatchReq.FromString(message).NodeName, None)

    def messages(self, round_: Round) -> Iterator[bytes]:
        framed = chain((_RESET,) if round_.first else (), chain.from_iterable(round_.blocks()), (_SYNC,))
        return map(wire.unframe, filter(None, framed))


class BatchDialect(Dialect):
    """blixt.v1.Sets/Watch: many items a message."""

    service = wire.BATCH_SERVICE
    extensions = True

    def request(self, message: bytes) -> Request:
        request = blixtv1_pb2.WatchRequest.FromString(message)
        return Request(request.node_name, request.applied_revision)

    def messages(self, round_: Round) -> Iterator[bytes]:
        # Frames put one after the other are handled as one: there may be a hundred thousand.
        blocks = map(b"".join, round_.blocks())
        parts = chain((_RESET,) if round_.first else (), blocks, (_SYNC,))
        return wire.batches(parts, round_.position.revision, BATCH_BYTES)


class Turns:
    """At most so many full sets are under way at a time: their bytes wait in memory for whoever is slow.

    One that takes longer than `patience` seconds no longer counts, so that a few watchers that do not read
    can't keep the others from theirs.
    """

    def __init__(self, places: int = FULL_SETS, patience: float = 5.0) -> None:
        self._free = asyncio.Semaphore(places)
        self._patience = patience

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        overdue = loop.call_later(self._patience, self._free.release)
        try:
            yield
        finally:
            if overdue.when() > loop.time():
                overdue.cancel()
                self._free.release()


class Watchers:
    """The streams that are open now, by node, and what each node has applied."""

    def __init__(self) -> None:
        #: Of first rounds.
        self.turns = Turns()
        #: No further round is begun: the frontend is shutting down.
        self.closing = False
        self._streams: dict[str, int] = {}
        self._acknowledged: dict[str, int] = {}

    @property
    def streams(self) -> Mapping[str, int]:
        """How many streams each watching node has."""
        return self._streams

    @property
    def acknowledged(self) -> Mapping[str, int]:
        """The revision that each watching node said it has applied; left out: nodes that said nothing."""
        return self._acknowledged

    def enter(self, node: str) -> None:
        self._streams[node] = self._streams.get(node, 0) + 1

    def leave(self, node: str) -> None:
        self._streams[node] -= 1
        if not self._streams[node]:
            del self._streams[node]
            self._acknowledged.pop(node, None)

    def acknowledge(self, node: str, revision: int) -> None:
        self._acknowledged[node] = revision


class Stream:
    """One call of a Watch method, from its first request to its end."""

    def __init__(self, store: Store, watchers: Watchers, dialect: Dialect, context: Context) -> None:
        self._store = store
        self._watchers = watchers
        self._dialect = dialect
        self._context = context
        self._allowed = allowed_nodes(context.auth_context())
        self._position: Position | None = None
        self._node = ""

    async def serve(self, requests: AsyncIterator[bytes]) -> None:
        """Answer requests until the client ends the stream; aborts the call where it can't go on."""
        try:
            async for message in requests:
                await self._admit(await self._parse(message))
                if self._position is None:
                    await self._store_ready()
                    async with self._watchers.turns.one():
                        await self._send(await self._next_round())
                else:
                    await self._send(await self._next_round())
        finally:
            if self._node:
                self._watchers.leave(self._node)
                log.info("%r at %s no longer watches", self._node, self._context.peer())

    async def _parse(self, message: bytes) -> Request:
        try:
            request = self._dialect.request(message)
        except DecodeError as error:
            await self._refuse(grpc.StatusCode.INVALID_ARGUMENT, f"not a watch request: {error}")
        if not 0 < len(request.node) <= NODE_NAME_LENGTH:
            await self._refuse(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"the watch request must name a node, in 1 to {NODE_NAME_LENGTH} characters",
            )
        return request

    async def _admit(self, request: Request) -> None:
        """Check that the peer may watch the node it asks for, which may be another one in every request."""
        node = request.node
        if not may_watch(node, self._allowed):
            held = ", ".join(sorted(self._allowed or ())) or "no name"
            await self._refuse(
                grpc.StatusCode.PERMISSION_DENIED,
                f"node {node!r} was asked for, but the client's certificate allows only: {held}",
            )
        if node != self._node:
            self._watchers.enter(node)
            if self._node:
                self._watchers.leave(self._node)
            self._node = node
            log.info("%r at %s watches %s", node, self._context.peer(), self._dialect.service)
        if self._position is None:
            return  # from before this stream: another frontend's, or what the Reset takes back
        applied = self._position.revision if request.applied is None else request.applied
        if 0 < applied <= self._position.revision:
            self._watchers.acknowledge(node, applied)

    async def _store_ready(self) -> None:
        while not self._store.ready:
            await self._check_open()
            await self._store.changed()

    async def _check_open(self) -> None:
        if self._watchers.closing:
            await self._refuse(grpc.StatusCode.UNAVAILABLE, "the frontend is shutting down: dial again")

    async def _next_round(self) -> Round:
        """Of a store that is ready."""
        store = self._store
        while True:
            await self._check_open()
            view = View(store.topology(self._node), self._dialect.extensions)
            if self._position != Position(view, store.revision):
                try:
                    round_ = store.round(view, self._position)
                except TooFarBehindError:
                    await self._refuse(
                        grpc.StatusCode.UNAVAILABLE, "too far behind for a difference: dial again"
                    )
                if round_.first or round_.frames:
                    return round_
                self._position = round_.position
            await store.changed()

    async def _send(self, round_: Round) -> None:
        for part in self._dialect.messages(round_):
            await self._context.write(part)
        self._position = round_.position
        log.debug("%r: revision %d", self._node, round_.position.revision)

    async def _refuse(self, code: grpc.StatusCode, reason: str) -> Never:
        log.info("%s ends with %s: %s", self._context.peer(), code.name, reason)
        await self._context.abort(code, reason)
