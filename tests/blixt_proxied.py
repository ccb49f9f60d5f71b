"""The userspace plane in this process, on loopback, and endpoints of all sorts for it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from blixt_backend.model import ChangeSet, Endpoint, PortMapping, Protocol, Service, ServiceView
from blixt_backend.planes.userspace.mapping import parse
from blixt_backend.planes.userspace.options import Settings
from blixt_backend.planes.userspace.plane import UserspacePlane
from blixt_views import packed

VIP = "192.0.2.10"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Proxied:
    """A started plane, fed as the driver feeds it."""

    def __init__(self, plane: UserspacePlane) -> None:
        self.plane = plane
        self._desired: dict[str, ServiceView] = {}

    async def apply(self, *views: ServiceView) -> None:
        before, self._desired = self._desired, {view.service.path: view for view in views}
        changed = {path: view for path, view in self._desired.items() if before.get(path) != view}
        gone = frozenset(before.keys() - self._desired.keys())
        await self.plane.apply(ChangeSet(changed, gone, self._desired))

    def place(self, protocol: str = "tcp", vip: str = VIP) -> tuple[str, int]:
        """Where the plane listens for port 80 of an address."""
        listening = self.status("listening")
        host, _, port = str(listening[f"{vip}:80/{protocol}"]).rpartition(":")
        return host, int(port)

    def status(self, part: str) -> Mapping[str, Any]:
        found = self.plane.status()[part]
        assert isinstance(found, Mapping)
        return found

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.place())


@asynccontextmanager
async def proxied(**settings: Any) -> AsyncIterator[Proxied]:
    """Every service address is mapped to a free port of loopback."""
    usual: dict[str, Any] = {"maps": parse([f"{VIP}=127.0.0.1:0"]), "drain_seconds": 0.0}
    plane = UserspacePlane(Settings(**(usual | settings)))
    await plane.start()
    try:
        yield Proxied(plane)
    finally:
        await plane.stop()


def service(*endpoints: Endpoint, name: str = "web", vip: str = VIP, **more: Any) -> ServiceView:
    """Port 80 of TCP and UDP."""
    ports = (PortMapping("http", Protocol.TCP, 80), PortMapping("http", Protocol.UDP, 80))
    return ServiceView(Service("ns", name, cluster_ips=packed(vip), ports=ports, **more), endpoints)


def endpoint(port: int, **more: Any) -> Endpoint:
    return Endpoint(f"pod-{port}", packed("127.0.0.1"), port_overrides=(("http", port),), **more)


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    """A TCP server's port."""
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def saying(name: str) -> Handler:
    """Answers each line by its own name and the line."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(f"{name} ".encode() + line)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    return handle


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: str = "hello") -> str:
    """The answer. Raises ConnectionError, also when the connection is closed."""
    writer.write(f"{text}\n".encode())
    await writer.drain()
    line = await reader.readline()
    if not line:
        raise ConnectionAbortedError("closed")
    return line.decode().rstrip()


def reset(writer: asyncio.StreamWriter) -> None:
    """End by RST."""
    made = writer.get_extra_info("socket")
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextmanager
def closed_port() -> Iterator[int]:
    """A port that nobody listens at, and nobody else gets."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@contextmanager
def full_port() -> Iterator[tuple[socket.socket, int]]:
    """A listening socket whose queue is full: nobody else's connection is taken until it accepts."""
    with socket.socket() as listening, socket.socket() as first:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        listening.setblocking(False)
        first.connect(listening.getsockname())
        yield listening, listening.getsockname()[1]


class Datagrams(asyncio.DatagramProtocol):
    """Answers each datagram by its own name and that; a client's, too, with what it got."""

    def __init__(self, name: str = "") -> None:
        self._name = name
        self.got: asyncio.Queue[str] = asyncio.Queue()
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.got.put_nowait(data.decode())
        if self._name:
            self.transport.sendto(f"{self._name} {data.decode()}".encode(), addr)


@asynccontextmanager
async def datagrams(
    name: str = "", to: tuple[str, int] | None = None
) -> AsyncIterator[tuple[Datagrams, int]]:
    """A UDP server of that name, or a client of `to`; and its port."""
    loop = asyncio.get_running_loop()
    local = None if to else ("127.0.0.1", 0)
    transport, made = await loop.create_datagram_endpoint(
        lambda: Datagrams(name), local_addr=local, remote_addr=to
    )
    try:
        yield made, transport.get_extra_info("sockname")[1]
    finally:
        transport.close()
