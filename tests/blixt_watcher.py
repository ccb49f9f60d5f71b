"""A client of either Watch stream that does what KPNG's rules say, for tests of whatever serves one."""

from __future__ import annotations

from dataclasses import dataclass, field

import grpc

from blixt_api import blixtv1_pb2, wire
from blixt_api import localv1_pb2 as local


@dataclass
class Pulled:
    """One round as it came."""

    reset: bool = False
    sets: dict[str, bytes] = field(default_factory=dict)
    deletes: list[str] = field(default_factory=list)
    #: Sizes of its messages.
    messages: list[int] = field(default_factory=list)
    revision: int = 0


class Watcher:
    """One stream. `held` is what a backend would have applied: path -> serialized Service or Endpoint."""

    def __init__(self, channel: grpc.aio.Channel, node: str, *, kpng: bool = False) -> None:
        self.node = node
        self.held: dict[str, bytes] = {}
        self.revision = 0
        self._kpng = kpng
        watch: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
            wire.LOCAL_WATCH if kpng else wire.BATCH_WATCH
        )
        self.call: grpc.aio.StreamStreamCall[bytes, bytes] = watch()

    async def ask(self, applied: int = 0) -> None:
        """Ask for a round without waiting for it."""
        request = (
            local.WatchReq(NodeName=self.node)
            if self._kpng
            else blixtv1_pb2.WatchRequest(node_name=self.node, applied_revision=applied)
        )
        await self.call.write(request.SerializeToString())

    async def answer(self) -> Pulled:
        """The round that was asked for, applied. Raises grpc.aio.AioRpcError when the stream ends."""
        pulled = Pulled()
        while True:
            message = await self.call.read()
            if not isinstance(message, bytes):
                raise await self._end()
            pulled.messages.append(len(message))
            if self._kpng:
                items = [local.OpItem.FromString(message)]
            else:
                batch = blixtv1_pb2.Batch.FromString(message)
                items = list(batch.items)
                pulled.revision = batch.revision
            if self._take(items, pulled):
                break
        self.held = {} if pulled.reset else self.held
        for path in pulled.deletes:
            self.held.pop(path, None)
        self.held |= pulled.sets
        self.revision = pulled.revision
        return pulled

    async def pull(self) -> Pulled:
        """Ask for a round, wait for it and apply it, telling what the last one brought us to."""
        await self.ask(self.revision)
        return await self.answer()

    def _take(self, items: list[local.OpItem], pulled: Pulled) -> bool:
        for number, item in enumerate(items):
            match item.WhichOneof("Op"):
                case "Sync":
                    assert number == len(items) - 1, "items after Sync"
                    return True
                case "Reset":
                    assert number == 0, "Reset is not the first item"
                    assert len(pulled.messages) == 1, "Reset in mid-round"
                    pulled.reset = True
                case "Set":
                    pulled.sets[item.Set.Ref.Path] = item.Set.Bytes
                case "Delete":
                    pulled.deletes.append(item.Delete.Path)
                case other:
                    raise AssertionError(f"an item with the op {other}")
        return False

    async def _end(self) -> grpc.aio.AioRpcError:
        return grpc.aio.AioRpcError(
            await self.call.code(),
            await self.call.initial_metadata(),
            await self.call.trailing_metadata(),
            details=await self.call.details(),
        )
