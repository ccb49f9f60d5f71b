"""SCTP associations (RFC 9260) over raw sockets, for hosts whose kernels have no SCTP: a server and a client.

They say as little as an association takes: INIT, COOKIE ECHO, one DATA each way, SHUTDOWN, in a packet
each. Both check the CRC32c of what they get. The text of DATA is as over UDP. Sockets need CAP_NET_RAW.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from blixt_backend.testing.traffic.talk import Answer, TalkError, Target

IPPROTO_SCTP: Final = 132
_HEADER, _CHUNK, _DATA = struct.Struct("!HHI4s"), struct.Struct("!BBH"), struct.Struct("!IHHI")
_INIT = struct.Struct("!IIHHI")
_COOKIE = struct.Struct("!HHI")
_TEXT_AT = _DATA.size
_tags = itertools.count(0x5C7B0001)


class Chunk(IntEnum):
    DATA = 0
    INIT = 1
    INIT_ACK = 2
    ABORT = 6
    SHUTDOWN = 7
    SHUTDOWN_ACK = 8
    COOKIE_ECHO = 10
    COOKIE_ACK = 11
    SHUTDOWN_COMPLETE = 14


_ANSWERS = {
    Chunk.INIT: Chunk.INIT_ACK,
    Chunk.COOKIE_ECHO: Chunk.COOKIE_ACK,
    Chunk.DATA: Chunk.DATA,
    Chunk.SHUTDOWN: Chunk.SHUTDOWN_ACK,
}


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet of one chunk; `tag` is the verification tag."""

    source_port: int
    destination_port: int
    tag: int
    chunk: int
    value: bytes = b""

    def encode(self) -> bytes:
        chunk = _CHUNK.pack(self.chunk, 3 * (self.chunk == Chunk.DATA), _CHUNK.size + len(self.value))
        body = chunk + self.value + bytes(-len(self.value) % 4)
        ends = self.source_port, self.destination_port, self.tag
        checksum = crc32c(_HEADER.pack(*ends, bytes(4)) + body).to_bytes(4, "little")
        return _HEADER.pack(*ends, checksum) + body

    @staticmethod
    def decode(raw: bytes) -> Packet:
        """Raises ValueError for a wrong checksum, and for what is too short."""
        if len(raw) < _HEADER.size + _CHUNK.size:
            raise ValueError(f"{len(raw)} bytes are no SCTP packet")
        source, destination, tag, checksum = _HEADER.unpack_from(raw)
        if crc32c(raw[:8] + bytes(4) + raw[12:]).to_bytes(4, "little") != checksum:
            raise ValueError("a wrong CRC32c")
        kind, _, length = _CHUNK.unpack_from(raw, _HEADER.size)
        value = raw[_HEADER.size + _CHUNK.size : _HEADER.size + length]
        return Packet(source, destination, tag, kind, value)


def open_socket(version: int) -> socket.socket:
    """Raw, not blocking. Raises OSError."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    opened = socket.socket(family, socket.SOCK_RAW, IPPROTO_SCTP)
    opened.setblocking(False)
    return opened


async def serve(name: str, port: int, link: socket.socket) -> None:
    """Answer on this port until cancelled."""
    tags: dict[tuple[str, int], int] = {}
    loop = asyncio.get_running_loop()
    while True:
        raw, sender = await loop.sock_recvfrom(link, 65536)
        packet = _wanted(raw, link, port)
        if packet is None or packet.chunk not in _ANSWERS:
            continue
        client = (sender[0], packet.source_port)
        if packet.chunk == Chunk.INIT:
            (tags[client],) = struct.unpack_from("!I", packet.value)
        answer = Packet(
            port,
            packet.source_port,
            tags.get(client, 0),
            _ANSWERS[Chunk(packet.chunk)],
            _said(name, packet, client),
        )
        await loop.sock_sendto(link, answer.encode(), (sender[0], 0))


@contextlib.asynccontextmanager
async def serving(name: str, port: int, link: socket.socket) -> AsyncIterator[None]:
    """The same until the context ends, when the socket is closed."""
    with contextlib.closing(link):
        answering = asyncio.create_task(serve(name, port, link))
        try:
            yield
        finally:
            answering.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await answering


def _said(name: str, packet: Packet, client: tuple[str, int]) -> bytes:
    match packet.chunk:
        case Chunk.INIT:
            tag = next(_tags)
            return _INIT.pack(tag, 65536, 1, 1, 1) + _COOKIE.pack(7, _COOKIE.size, tag)
        case Chunk.DATA:
            text = f"{name} {client[0]} {client[1]} ".encode() + packet.value[_TEXT_AT:]
            return packet.value[:_TEXT_AT] + text
    return b""


class Association:
    """A client's. The socket is its own from now on: nobody else's packets come there."""

    def __init__(self, target: Target, port: int, link: socket.socket) -> None:
        """Raises OSError."""
        self.target, self.port = target, port
        self._link = link
        self._link.connect((target.address, 0))
        self._tag = next(_tags)
        self._peer_tag = 0

    async def open(self, patience: float) -> None:
        """Raises TalkError."""
        begin = _INIT.pack(self._tag, 65536, 1, 1, 1)
        told = await self._exchange(Chunk.INIT, begin, Chunk.INIT_ACK, patience)
        (self._peer_tag,) = struct.unpack_from("!I", told)
        cookie = told[_INIT.size + 4 :]
        await self._exchange(Chunk.COOKIE_ECHO, cookie, Chunk.COOKIE_ACK, patience)

    async def ask(self, text: str, patience: float) -> Answer:
        """Raises TalkError."""
        data = _DATA.pack(1, 0, 0, 0) + text.encode()
        told = await self._exchange(Chunk.DATA, data, Chunk.DATA, patience)
        server, client, port, said = told[_TEXT_AT:].decode().split(" ", 3)
        return Answer(server, client, int(port), said)

    async def close(self, patience: float) -> None:
        """Raises TalkError."""
        await self._exchange(Chunk.SHUTDOWN, bytes(4), Chunk.SHUTDOWN_ACK, patience)
        await self._send(Chunk.SHUTDOWN_COMPLETE, b"")

    async def abort(self) -> None:
        await self._send(Chunk.ABORT, b"")

    async def _exchange(self, chunk: Chunk, value: bytes, wanted: Chunk, patience: float) -> bytes:
        """The value of the chunk that answers."""
        try:
            async with asyncio.timeout(patience):
                await self._send(chunk, value)
                return await self._receive(wanted)
        except TimeoutError:
            raise TalkError("patience") from None
        except ConnectionRefusedError:
            raise TalkError("refused") from None

    async def _send(self, chunk: Chunk, value: bytes) -> None:
        packet = Packet(self.port, self.target.port, self._peer_tag, chunk, value)
        await asyncio.get_running_loop().sock_sendall(self._link, packet.encode())

    async def _receive(self, wanted: Chunk) -> bytes:
        while True:
            raw = await asyncio.get_running_loop().sock_recv(self._link, 65536)
            packet = _wanted(raw, self._link, self.port)
            if packet and (packet.source_port, packet.tag, packet.chunk) == (
                self.target.port,
                self._tag,
                wanted,
            ):
                return packet.value


async def ask(target: Target, port: int, link: socket.socket, patience: float) -> Answer:
    """One association, from its begin to its end. Raises TalkError."""
    association = Association(target, port, link)
    await association.open(patience)
    answer = await association.ask("hello", patience)
    await association.close(patience)
    return answer


def _wanted(raw: bytes, link: socket.socket, port: int) -> Packet | None:
    """A packet to the port, if its checksum is right."""
    if link.family == socket.AF_INET:  # a raw socket has the header, too
        raw = raw[4 * (raw[0] & 15) :]
    try:
        packet = Packet.decode(raw)
    except ValueError:
        return None
    return packet if packet.destination_port == port else None


def _entries() -> Iterable[int]:
    for entry in range(256):
        for _ in range(8):
            entry = entry >> 1 ^ (0x82F63B78 if entry & 1 else 0)
        yield entry


_TABLE: Final = tuple(_entries())


def crc32c(message: bytes) -> int:
    """RFC 9260, appendix A. In packets its lowest byte is the first."""
    remainder = 0xFFFFFFFF
    for byte in message:
        remainder = remainder >> 8 ^ _TABLE[(remainder ^ byte) & 0xFF]
    return remainder ^ 0xFFFFFFFF
