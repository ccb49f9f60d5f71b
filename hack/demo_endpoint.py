"""An endpoint of the demo on loopback: python demo_endpoint.py NAME TCP-SOCKET UDP-SOCKET

It serves by the sockets of those numbers, which its parent has bound, and speaks as the public test kit's
server does (`blixt_backend.testing.traffic`).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from typing import Any


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, name: str) -> None:
        self._name = name
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._transport.sendto(answer(self._name, addr, data), addr)


def answer(name: str, peer: tuple[str, int], line: bytes) -> bytes:
    return f"{name} {peer[0]} {peer[1]} ".encode() + line.rstrip(b"\n") + b"\n"


async def serve(name: str, listening: socket.socket, bound: socket.socket) -> None:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                writer.write(answer(name, writer.get_extra_info("peername"), line))
                await writer.drain()
        writer.close()

    await asyncio.get_running_loop().create_datagram_endpoint(lambda: Datagrams(name), sock=bound)
    server = await asyncio.start_server(converse, sock=listening)
    await server.serve_forever()


if __name__ == "__main__":
    streams, datagrams = (socket.socket(fileno=int(number)) for number in sys.argv[2:])
    asyncio.run(serve(sys.argv[1], streams, datagrams))
