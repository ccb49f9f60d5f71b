"""The server of a pod: TCP and UDP, IPv4 and IPv6, says its name and whom it sees."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable


async def serve(
    name: str, tcp_port: int, udp_port: int, ready: Callable[[], None], stop: asyncio.Event
) -> None:
    """Answer until `stop` is set; call `ready` once both ports are open. Raises OSError if they can't be."""
    with _bind(udp_port) as datagrams:
        server = await asyncio.start_server(
            lambda reader, writer: _serve_stream(name, reader, writer), sock=_listen(tcp_port)
        )
        answering = asyncio.create_task(_serve_datagrams(name, datagrams))
        ready()
        try:
            await stop.wait()
        finally:
            answering.cancel()
            server.close()
            with contextlib.suppress(asyncio.CancelledError):
                await answering


async def _serve_stream(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    peer = writer.get_extra_info("peername")
    try:
        while line := await reader.readline():
            writer.write(_answer(name, peer, line))
            await writer.drain()
    except (ConnectionError, ValueError):  # the client is gone, or sends more than a line may have
        pass
    finally:
        writer.close()


async def _serve_datagrams(name: str, bound: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while True:
        data, peer = await loop.sock_recvfrom(bound, 65536)
        with contextlib.suppress(OSError):  # that client can't be reached; the others can
            await loop.sock_sendto(bound, _answer(name, peer, data), peer)


def _answer(name: str, peer: tuple[str, int], line: bytes) -> bytes:
    address = peer[0].removeprefix("::ffff:")
    return f"{name} {address} {peer[1]} ".encode() + line.rstrip(b"\n") + b"\n"


def _listen(port: int) -> socket.socket:
    return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=4096)


def _bind(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    bound.setblocking(False)
    bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    bound.bind(("::", port))
    return bound
