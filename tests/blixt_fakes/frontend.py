"""A small frontend of real gRPC that misbehaves on request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple, Self

import grpc

from blixt_api import blixtv1_pb2
from blixt_api import localv1_pb2 as pb
from blixt_fakes.items import RESET, SYNC, Key, delete_op, set_op

Context = grpc.aio.ServicerContext


class Request(NamedTuple):
    method: str
    node: str
    applied: int


@dataclass
class Faults:
    """What goes wrong, until it is unset."""

    #: The stream breaks in the middle of a round; counts down.
    broken_rounds: int = 0
    #: Rounds never end.
    no_sync: bool = False
    #: Sent as a message in the middle of the next round.
    garbage: bytes | None = None
    #: KPNG always sends Reset; a server that doesn't.
    no_reset: bool = False


@dataclass
class Frontend:
    """Holds items; tells each stream how they differ from what it was told. `methods` are what it offers."""

    methods: tuple[str, ...] = ("blixt.v1", "localv1")
    batch: int = 3
    items: dict[Key, bytes] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    requests: list[Request] = field(default_factory=list)
    streams: int = 0
    credentials: grpc.ServerCredentials | None = None
    address: str = "127.0.0.1:0"
    _revision: int = 1
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _server: grpc.aio.Server | None = None

    def set(self, *items: tuple[Key, bytes]) -> None:
        self.items.update(items)
        self._changed()

    def delete(self, *keys: Key) -> None:
        for key in keys:
            del self.items[key]
        self._changed()

    @property
    def revision(self) -> int:
        return self._revision

    async def start(self) -> None:
        """Listen; again on the same port after a stop."""
        server = self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler(f"{method}.Sets", {"Watch": self._watcher(method)})
                for method in self.methods
            ]
        )
        if self.credentials:
            port = server.add_secure_port(self.address, self.credentials)
        else:
            port = server.add_insecure_port(self.address)
        if not self.address.startswith("unix:"):
            self.address = f"{self.address.rpartition(':')[0]}:{port}"
        await server.start()

    async def stop(self) -> None:
        """Cut every stream."""
        if self._server:
            await self._server.stop(0)
            self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _changed(self) -> None:
        self._revision += 1
        self._news.set()
        self._news = asyncio.Event()

    def _watcher(self, method: str) -> grpc.RpcMethodHandler[bytes, bytes]:
        async def watch(requests: AsyncIterator[bytes], context: Context[bytes, bytes]) -> None:
            self.streams += 1
            told: dict[Key, bytes] | None = None
            async for request in requests:
                self.requests.append(_request(method, request))
                while told == self.items:
                    await self._news.wait()
                now = dict(self.items)
                await self._send(method, told, now, context)
                told = now

        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(watch)
        return handler

    async def _send(
        self,
        method: str,
        told: dict[Key, bytes] | None,
        now: dict[Key, bytes],
        context: Context[bytes, bytes],
    ) -> None:
        ops, revision = list(_difference(told or {}, now)), self._revision
        if told is None and not self.faults.no_reset:
            ops.insert(0, RESET)
        half = len(ops) // 2 + 1
        await self._write(method, ops[:half], 0, context)
        if self.faults.broken_rounds:
            self.faults.broken_rounds -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "told to break")
        if self.faults.garbage is not None:
            garbage, self.faults.garbage = self.faults.garbage, None
            await context.write(garbage)
        end = [] if self.faults.no_sync else [SYNC]
        await self._write(method, [*ops[half:], *end], revision, context)

    async def _write(
        self, method: str, ops: list[pb.OpItem], revision: int, context: Context[bytes, bytes]
    ) -> None:
        if method == "localv1":
            for op in ops:
                await context.write(op.SerializeToString())
            return
        for start in range(0, len(ops), self.batch):
            last = start + self.batch >= len(ops)
            batch = blixtv1_pb2.Batch(items=ops[start : start + self.batch], revision=revision if last else 0)
            await context.write(batch.SerializeToString())


def _request(method: str, message: bytes) -> Request:
    if method == "localv1":
        return Request(method, pb.WatchReq.FromString(message).NodeName, 0)
    request = blixtv1_pb2.WatchRequest.FromString(message)
    return Request(method, request.node_name, request.applied_revision)


def _difference(before: dict[Key, bytes], now: dict[Key, bytes]) -> Iterator[pb.OpItem]:
    # Endpoints first: a client must not rely on an order.
    changed: Iterable[Key] = sorted(now.keys() | before.keys(), key=lambda key: (-key[0], key[1]))
    for key in changed:
        if key not in now:
            yield delete_op(key)
        elif before.get(key) != now[key]:
            yield set_op(key, now[key])
