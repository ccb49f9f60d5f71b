"""Connections from whoever asks: one request, one answer, and an end to everything in a few seconds.

No task is made for one, and no more is kept of it than a request's head. Where there are too many, the one
that is there longest goes: who holds connections open can't keep probes out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from blixt_backend.health.http import MOST_HEAD, Request, Response, UnfitError, is_whole, parse

Answer = Callable[[Request], Response]

#: How long a request may take to arrive, and its answer to be taken.
_REQUEST_SECONDS, _ANSWER_SECONDS = 5.0, 2.0
#: Bytes that are thrown away after an answer, so that it is not lost to a reset.
_MOST_IGNORED = 1 << 16


class Pool:
    """The connections that are open, the oldest first."""

    def __init__(self, most: int = 128) -> None:
        self._most = most
        self._open: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: Connection) -> None:
        if len(self._open) >= self._most:
            oldest = next(iter(self._open))
            self.forget(oldest)
            oldest.cut()
        self._open[connection] = None

    def forget(self, connection: Connection) -> None:
        self._open.pop(connection, None)

    def close(self) -> None:
        """Cut all of them."""
        for connection in list(self._open):
            connection.cut()


class Connection(asyncio.Protocol):
    """One connection, in its pool while it is open."""

    def __init__(self, pool: Pool, answer: Answer) -> None:
        self._pool = pool
        self._answer = answer
        self._received = bytearray()
        self._answered = False
        self._ignored = 0
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # -- called by the event loop -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._pool.admit(self)
        self._give(_REQUEST_SECONDS)

    def data_received(self, data: bytes) -> None:
        if self._answered:
            self._ignored += len(data)
            if self._ignored > _MOST_IGNORED:
                self.cut()
            return
        before = len(self._received)
        self._received += data
        if len(self._received) <= MOST_HEAD and not is_whole(self._received, before):
            return
        self._respond()

    def eof_received(self) -> bool:
        return False  # close: what was not asked by now never will be

    def connection_lost(self, error: Exception | None) -> None:
        self._pool.forget(self)
        if self._timer is not None:
            self._timer.cancel()
        self._transport = None

    # ---------------------------------------------------------------------------------------------------

    def _respond(self) -> None:
        assert self._transport is not None
        self._answered = True
        method = ""
        try:
            request = parse(self._received)
            method, response = request.method, self._answer(request)
        except UnfitError as error:
            response = error.response
        self._received.clear()
        self._transport.write(response.encode(with_body=method != "HEAD"))
        self._transport.write_eof()
        self._give(_ANSWER_SECONDS)

    def _give(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.cut)
