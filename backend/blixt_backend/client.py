"""Keeps a stream to the frontend and hands over one round at a time.

Pull-paced: the next round is asked for only when the last one was dealt with, so a node that falls behind
gets one merged difference, never a queue. A stream that breaks loses its unfinished round and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import grpc
from google.protobuf.message import DecodeError as ProtobufDecodeError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential, wait_random

from blixt_api import blixtv1_pb2, localv1_pb2
from blixt_api.wire import BATCH_WATCH, LOCAL_WATCH, OLDER_LOCAL_WATCH
from blixt_backend.decode import Dialect
from blixt_backend.kinds import Kinds
from blixt_backend.rounds import Round
from blixt_backend.tls import Api, CertificateError

log = logging.getLogger(__name__)

#: What a server may offer, in the order of trying: our own stream, KPNG's, and what KPNG once called that.
_OFFERS = (
    (Dialect.BLIXT, BATCH_WATCH),
    (Dialect.LOCALV1, LOCAL_WATCH),
    (Dialect.LOCALV1, OLDER_LOCAL_WATCH),
)


class StreamError(Exception):
    """The stream ended, broke or brought what is no message: in one line, for an operator."""


class _NotOfferedError(StreamError):
    """The server has no such stream."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds between attempts to reach the frontend: doubled from `first` up to `most`, jitter on top."""

    first: float = 0.2
    most: float = 10.0
    jitter: float = 0.5


class Client:
    """One node's view of the frontend. Not for concurrent use."""

    def __init__(self, api: Api, node: str, patience: Patience | None = None) -> None:
        self._api = api
        self._node = node
        self._patience = patience or Patience()
        self._stream: _Stream | None = None
        self._kinds = {dialect: Kinds(dialect) for dialect in Dialect}
        #: The revision that the plane is at: told to the server with every request. 0: none, send everything.
        self.applied_revision = 0

    async def next_round(self) -> Round:
        """Ask for the next round and wait for its Sync, over as many streams as that takes.

        Every call starts with fresh patience. Ends only by being cancelled.
        """
        patience = self._patience
        retrying = AsyncRetrying(
            retry=retry_if_exception_type((StreamError, CertificateError)),
            wait=wait_exponential(patience.first, patience.most) + wait_random(0, patience.jitter),
            before_sleep=self._report,
        )
        return await retrying(self._attempt)

    async def close(self) -> None:
        """Let go of the stream. The next round would open another."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _attempt(self) -> Round:
        try:
            if self._stream is None:
                return await self._open()
            return await self._stream.next_round(self.applied_revision)
        except BaseException:
            await self.close()
            raise

    async def _open(self) -> Round:
        """Open the best stream that the server offers, and read its first round."""
        for dialect, method in _OFFERS:
            self._stream = _Stream(self._api, self._node, self._kinds[dialect], dialect, method)
            revision = self.applied_revision if dialect is Dialect.BLIXT else 0
            try:
                received = await self._stream.next_round(revision)
            except _NotOfferedError:
                await self.close()
                continue
            log.info("watching %s as %s over %s", self._api.target, self._node, self._stream.name)
            return received
        names = ", ".join(method for _, method in _OFFERS)
        raise StreamError(f"it has none of the streams {names}: is it a frontend's address?")

    def _report(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        delay = state.next_action.sleep if state.next_action else 0
        log.warning("frontend %s: %s; trying again in %.1f s", self._api.target, error, delay)


class _Stream:
    """One call of Watch on a channel of its own."""

    def __init__(self, api: Api, node: str, kinds: Kinds, dialect: Dialect, method: str) -> None:
        self.dialect = dialect
        self._kinds = kinds
        self.name = method.strip("/").rpartition(".")[0]
        self._node = node
        self._fresh = True
        blixt = dialect is Dialect.BLIXT
        # A Go server that isn't told otherwise, like KPNG's, hangs up on pings less than five minutes apart.
        self._channel = api.channel(keepalive_seconds=30 if blixt else 310)
        # Bytes, since an exception in gRPC's own deserializer would be lost there.
        self._call: grpc.aio.StreamStreamCall[bytes, bytes] = self._channel.stream_stream(method)()

    async def next_round(self, applied_revision: int) -> Round:
        """Raises StreamError."""
        try:
            await self._call.write(self._request(applied_revision))
            return await self._read_round(applied_revision)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, EOFError):
            # Which of them it is depends only on what gRPC was doing when the stream ended.
            raise await self._failure() from None
        except ProtobufDecodeError:
            # Nobody knows which items were in there. To go on would sweep them away at a full set's Sync.
            raise StreamError("it sent a message that can't be decoded") from None

    async def close(self) -> None:
        self._call.cancel()
        await self._channel.close()

    async def _failure(self) -> StreamError:
        """Why the stream, which is over, ended."""
        code, details = await self._call.code(), await self._call.details()
        if code is grpc.StatusCode.OK:
            return StreamError("it ended the stream")
        if code is grpc.StatusCode.UNIMPLEMENTED and self._fresh:
            return _NotOfferedError(f"it has no stream of {self.name}")
        return StreamError(f"{code.name}: {details}")

    def _request(self, applied_revision: int) -> bytes:
        if self.dialect is Dialect.LOCALV1:
            return localv1_pb2.WatchReq(NodeName=self._node).SerializeToString()
        return blixtv1_pb2.WatchRequest(
            node_name=self._node, applied_revision=applied_revision
        ).SerializeToString()

    async def _read_round(self, applied_revision: int) -> Round:
        received = Round(kinds=self._kinds)
        # A server that knows nothing of this node sends all there is, whether it says so or not.
        received.reset = self._fresh and applied_revision == 0
        while True:
            message = await self._call.read()
            if not isinstance(message, bytes):
                raise EOFError
            if self._take(message, received):
                self._fresh = False
                return received

    def _take(self, message: bytes, received: Round) -> bool:
        if self.dialect is Dialect.LOCALV1:
            return received.add((localv1_pb2.OpItem.FromString(message),))
        batch = blixtv1_pb2.Batch.FromString(message)
        received.revision = batch.revision
        return received.add(batch.items)
