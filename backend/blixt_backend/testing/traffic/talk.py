"""A client's end of one conversation: connect, ask, be answered or know why not."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

#: Makes a socket of a family and type.
MakeSocket = Callable[[int, int], socket.socket]
#: More than any answer of a server's.
_READ = 65536
_IP_MTU_DISCOVER, _IP_MTU, _PMTUDISC_DONT = 10, 14, 0  # linux/in.h


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send: `protocol` is tcp or udp, `port` in host order."""

    protocol: str
    address: str
    port: int

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self.address else socket.AF_INET

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.protocol} {host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Answer:
    """Which server answered, and the client's address and port as that server saw them."""

    server: str
    client: str
    client_port: int
    text: str


class TalkError(Exception):
    """No answer. `reason`: refused, reset, closed, patience, garbled, or an errno's name."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


_REASONS = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.ETIMEDOUT: "timeout",
}


class Conversation:
    """An open connection (TCP), or a connected socket (UDP)."""

    def __init__(self, target: Target, link: socket.socket) -> None:
        self.target = target
        self._link = link

    def end_by_reset(self) -> None:
        """Leave nothing behind at its end, so that the same port can be used again at once."""
        if self.target.protocol == "tcp":
            self._link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def allow_fragments(self) -> None:
        """IPv4 packets may be cut to pieces on their way from now on, as long as that family has such."""
        if self.target.family == socket.AF_INET:
            self._link.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DONT)

    def path_mtu(self) -> int:
        """As the client's host knows it by now. IPv4."""
        return self._link.getsockopt(socket.IPPROTO_IP, _IP_MTU)

    async def ask(self, text: str, patience: float) -> Answer:
        """Send `text`, and wait for its answer. Raises TalkError."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(patience):
                await loop.sock_sendall(self._link, f"{text}\n".encode())
                return await self._answer(text)
        except TimeoutError as error:
            raise TalkError("timeout") from error
        except OSError as error:
            raise _trouble(error) from error

    async def ask_all(self, texts: Sequence[str], patience: float) -> list[Answer]:
        """TCP: send all, close that direction, and read answers until the server closes. Raises TalkError."""
        loop = asyncio.get_running_loop()
        received = b""

        async def send() -> None:
            await loop.sock_sendall(self._link, b"".join(f"{text}\n".encode() for text in texts))
            self._link.shutdown(socket.SHUT_WR)

        sending = asyncio.create_task(send())
        try:
            async with asyncio.timeout(patience):
                while part := await loop.sock_recv(self._link, _READ):
                    received += part
                await sending
        except TimeoutError as error:
            raise TalkError("timeout") from error
        except OSError as error:
            raise _trouble(error) from error
        finally:
            sending.cancel()
        return [_parsed(line) for line in received.splitlines()]

    async def _answer(self, text: str) -> Answer:
        loop = asyncio.get_running_loop()
        line = b""
        while not line.endswith(b"\n"):
            part = await loop.sock_recv(self._link, _READ)
            if not part:
                raise TalkError("closed")
            line = line + part if self.target.protocol == "tcp" else part
            if self.target.protocol == "udp" and not line.rstrip().endswith(f" {text}".encode()):
                line = b""  # a late answer to an earlier question
        answer = _parsed(line)
        if answer.text != text:
            raise TalkError("garbled")
        return answer


@contextlib.asynccontextmanager
async def converse(
    target: Target,
    patience: float = 3.0,
    source: tuple[str, int] | None = None,
    make: MakeSocket = socket.socket,
) -> AsyncIterator[Conversation]:
    """Connect, from an address and port if given (port 0: any), by a socket that `make` makes of family and
    type. Raises TalkError."""
    kind = socket.SOCK_STREAM if target.protocol == "tcp" else socket.SOCK_DGRAM
    with make(target.family, kind) as link:
        link.setblocking(False)
        try:
            if source:
                link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                link.bind(source)
            if target.protocol == "tcp":
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(patience):
                await asyncio.get_running_loop().sock_connect(link, (target.address, target.port))
        except TimeoutError as error:
            raise TalkError("timeout") from error
        except OSError as error:
            raise _trouble(error) from error
        yield Conversation(target, link)


async def ask(
    target: Target,
    text: str = "hello",
    patience: float = 3.0,
    source: tuple[str, int] | None = None,
    make: MakeSocket = socket.socket,
) -> Answer:
    """One question over a connection of its own. Raises TalkError."""
    async with converse(target, patience, source, make) as conversation:
        return await conversation.ask(text, patience)


def _parsed(line: bytes) -> Answer:
    fields = line.decode(errors="replace").split()
    if len(fields) != 4:
        raise TalkError("garbled")
    return Answer(fields[0], fields[1], int(fields[2]), fields[3])


def _trouble(error: OSError) -> TalkError:
    number = error.errno or 0
    return TalkError(_REASONS.get(number) or errno.errorcode.get(number, str(error)))
