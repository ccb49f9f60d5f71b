"""Two TCP connections as one: what one side says the other hears, its end and its reset included."""

from __future__ import annotations

import asyncio
import socket
import struct
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Final

#: Bytes that are read at once. A side that doesn't read costs this and asyncio's high-water mark (64 KiB).
_READ: Final = 1 << 16
#: For all connections: what was read is passed on before anything else is read.
_BUFFER: Final = memoryview(bytearray(_READ))
#: struct linger: on, and for 0 seconds. Then close sends RST, and throws away what was not sent.
_RESETS: Final = struct.pack("ii", 1, 0)


class Half(asyncio.BufferedProtocol):
    """One of the two connections."""

    def __init__(self, pair: Pair) -> None:
        self.transport: asyncio.Transport | None = None
        self.ended = False
        self._pair = pair

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._pair.made(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        self._pair.said(self, bytes(_BUFFER[:nbytes]))

    def eof_received(self) -> bool:
        self.ended = True
        self._pair.ended(self)
        return True

    def pause_writing(self) -> None:
        self._pair.full(self)

    def resume_writing(self) -> None:
        self._pair.drained(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._pair.lost(self, exc)

    def pause(self) -> None:
        # After its end, asyncio would begin to read again, and find the end again.
        if self.transport is not None and not self.ended:
            self.transport.pause_reading()

    def resume(self) -> None:
        if self.transport is not None and not self.ended:
            self.transport.resume_reading()

    def reset(self) -> None:
        """End it by RST."""
        if self.transport is not None:
            with suppress(OSError):
                made = self.transport.get_extra_info("socket")
                made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESETS)
            self.transport.abort()


class Pair(ABC):
    """A client's half, and an endpoint's once it is joined."""

    def __init__(self, idle_seconds: float) -> None:
        self.client = Half(self)
        self._endpoint: Half | None = None
        self._joined = self._aborted = self._over = False
        self._loop = asyncio.get_running_loop()
        self._idle_seconds = idle_seconds
        self._last = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    @abstractmethod
    def begun(self) -> None:
        """The client is there, and waits."""

    @abstractmethod
    def over(self) -> None:
        """Nothing is left of it. Called once."""

    def new_endpoint(self) -> Half:
        """The half of the next endpoint that is tried; an earlier one has no part in this any more."""
        if self._endpoint is not None:
            earlier, self._endpoint = self._endpoint, None
            earlier.reset()
        self._endpoint = Half(self)
        return self._endpoint

    def join(self) -> None:
        """Let both talk."""
        assert self._endpoint is not None
        self._joined = True
        self._last = self._loop.time()
        self._timer = self._loop.call_later(self._idle_seconds, self._look_if_idle)
        self.client.resume()
        self._endpoint.resume()
        if self.client.transport is None or self._endpoint.transport is None:
            self.abort()

    def abort(self) -> None:
        """End both by RST."""
        self._aborted = True
        self.client.reset()
        if self._endpoint is not None:
            self._endpoint.reset()

    # -- told by the halves -----------------------------------------------------------------------------

    def made(self, half: Half) -> None:
        if self._aborted:
            half.reset()
            return
        # Not at once: some versions of asyncio begin to read after this call, paused or not.
        self._loop.call_soon(half.pause)
        if half is self.client:
            self.begun()

    def said(self, half: Half, data: bytes) -> None:
        self._last = self._loop.time()
        other = self._other(half)
        if not self._joined:
            self.abort()  # rather than to lose what was said
        elif other is not None and other.transport is not None:
            other.transport.write(data)

    def ended(self, half: Half) -> None:
        """One direction is closed; with both, so is the connection, once all that was said has been sent."""
        self._last = self._loop.time()
        other = self._other(half)
        if other is None or other.transport is None:
            self.abort()
        elif not other.ended:
            try:
                other.transport.write_eof()
            except OSError:  # it has been reset, which asyncio doesn't know yet
                self.abort()
        else:
            other.transport.close()
            if half.transport is not None:
                half.transport.close()

    def full(self, half: Half) -> None:
        if (other := self._other(half)) is not None:
            other.pause()

    def drained(self, half: Half) -> None:
        if (other := self._other(half)) is not None and self._joined:
            other.resume()

    def lost(self, half: Half, error: Exception | None) -> None:
        if half is not self.client and half is not self._endpoint:
            return
        other = self._other(half)
        if (error is not None or not (half.ended and other is not None and other.ended)) and (
            half is self.client or self._joined
        ):
            self.abort()
        endpoint = self._endpoint
        if self.client.transport is None and (endpoint is None or endpoint.transport is None):
            self._finish()

    def _finish(self) -> None:
        if not self._over:
            self._over = True
            if self._timer is not None:
                self._timer.cancel()
            self.over()

    def _other(self, half: Half) -> Half | None:
        return self._endpoint if half is self.client else self.client

    def _look_if_idle(self) -> None:
        left = self._last + self._idle_seconds - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look_if_idle)
        else:
            self.abort()
