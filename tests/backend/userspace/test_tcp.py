"""TCP by the userspace plane: what clients and endpoints see of each other, above all when one fails."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket

import pytest

from blixt_backend.model import Origin, Scope
from blixt_backend.planes.userspace.halves import _READ, Half
from blixt_backend.planes.userspace.tcp import MOST_TRIES, Connection
from blixt_fakes.until import until
from blixt_proxied import (
    Proxied,
    ask,
    closed_port,
    endpoint,
    full_port,
    proxied,
    reset,
    saying,
    service,
    serving,
)

BIG = 32 << 20
#: asyncio's high-water mark.
HIGH = 64 << 10


def only(node: Proxied) -> Connection:
    (connection,) = node.plane._connections.members
    return connection


def waiting(connection: Connection) -> int:
    """Bytes that the client has not taken yet."""
    transport = connection.client.transport
    return transport.get_write_buffer_size() if transport is not None else 0


def reads(half: Half) -> bool:
    return half.transport is not None and half.transport.is_reading()


async def test_a_client_that_half_closes_gets_every_answer_and_the_end() -> None:
    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = await reader.read()
        writer.write(str(len(heard)).encode() * 1000)
        writer.close()

    async with proxied() as node, serving(count) as port:
        await node.apply(service(endpoint(port)))
        reader, writer = await node.connect()
        writer.write(b"x" * 1_000_000)
        writer.write_eof()
        assert await reader.read() == b"1000000" * 1000
        writer.close()
        await until(lambda: not node.plane._connections.members)


async def test_an_endpoint_that_half_closes_still_hears_the_client() -> None:
    heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"welcome")
        writer.write_eof()
        heard.set_result(await reader.read())
        writer.close()

    async with proxied() as node, serving(greet) as port:
        await node.apply(service(endpoint(port)))
        reader, writer = await node.connect()
        assert await reader.read() == b"welcome"
        writer.write(b"y" * 1_000_000)
        writer.write_eof()
        assert await heard == b"y" * 1_000_000
        writer.close()


async def test_an_endpoints_reset_is_the_clients() -> None:
    async def slam(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        reset(writer)

    async with proxied() as node, serving(slam) as port:
        await node.apply(service(endpoint(port)))
        reader, writer = await node.connect()
        writer.write(b"hello\n")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        await until(lambda: not node.plane._connections.members)


async def test_a_clients_reset_is_the_endpoints() -> None:
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"welcome\n")
        try:
            ended.set_result(f"closed after {await reader.read()!r}")
        except ConnectionResetError:
            ended.set_result("reset")

    async with proxied() as node, serving(listen) as port:
        await node.apply(service(endpoint(port)))
        reader, writer = await node.connect()
        assert await reader.readline() == b"welcome\n"
        reset(writer)
        assert await ended == "reset"


async def test_a_reader_that_is_slow_holds_up_its_writer_and_loses_nothing() -> None:
    said = os.urandom(BIG)

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        writer.write_eof()

    async with proxied() as node, serving(pour) as port:
        await node.apply(service(endpoint(port)))
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            client.connect(node.place())
            client.setblocking(False)
            await until(lambda: bool(node.plane._connections.members))
            pair = only(node)
            await until(lambda: waiting(pair) > HIGH)
            await until(lambda: pair._endpoint is not None and not reads(pair._endpoint))
            heard, size, most = hashlib.sha256(), 0, 0
            while part := await asyncio.get_running_loop().sock_recv(client, 1 << 18):
                heard.update(part)
                size += len(part)
                most = max(most, waiting(pair))
            assert (size, heard.digest()) == (BIG, hashlib.sha256(said).digest())
            assert HIGH < most <= HIGH + _READ


async def test_a_connection_that_an_endpoint_does_not_take_goes_to_another() -> None:
    async with proxied() as node, serving(saying("alive")) as port:
        with closed_port() as dead:
            await node.apply(service(endpoint(dead, group=1, weight=10**9), endpoint(port, group=2)))
            for _ in range(20):
                reader, writer = await node.connect()
                assert await ask(reader, writer) == "alive hello"
                writer.close()
        assert node.status("tcp")["endpoint not reached"] == 20


async def test_so_does_one_that_an_endpoint_leaves_unanswered() -> None:
    async with proxied(connect_seconds=0.2) as node, serving(saying("alive")) as port:
        with full_port() as (_, deaf):
            await node.apply(service(endpoint(deaf, group=1, weight=10**9), endpoint(port, group=2)))
            reader, writer = await node.connect()
            assert await ask(reader, writer) == "alive hello"
            writer.close()
            assert node.status("tcp")["endpoint not reached"] == 1


async def test_a_client_whom_no_endpoint_takes_is_reset_after_some_tries() -> None:
    async with proxied() as node:
        with closed_port() as one, closed_port() as two, closed_port() as three, closed_port() as four:
            await node.apply(service(*map(endpoint, (one, two, three, four))))
            reader, _ = await node.connect()
            with pytest.raises(ConnectionResetError):
                await reader.read()
        assert node.status("tcp")["endpoint not reached"] == MOST_TRIES
        await until(lambda: not node.plane._connections.members)


async def test_what_a_client_says_before_an_endpoint_has_its_connection_is_not_lost() -> None:
    async with proxied(connect_seconds=30.0) as node:
        with full_port() as (listening, port):
            await node.apply(service(endpoint(port)))
            reader, writer = await node.connect()
            writer.write(b"first words")
            writer.write_eof()
            await until(lambda: bool(node.plane._connections.members))
            loop = asyncio.get_running_loop()
            (await loop.sock_accept(listening))[0].close()  # what filled the queue
            taken, _ = await loop.sock_accept(listening)
            with taken:
                heard = b""
                while part := await loop.sock_recv(taken, 100):
                    heard += part
                assert heard == b"first words"
                await loop.sock_sendall(taken, b"last words")
            assert await reader.read() == b"last words"
            writer.close()


async def test_an_endpoint_that_leaves_while_it_takes_a_connection_does_not_get_it() -> None:
    async with proxied(connect_seconds=30.0) as node, serving(saying("stays")) as port:
        with full_port() as (listening, leaves):
            await node.apply(service(endpoint(leaves)))
            reader, writer = await node.connect()
            await until(lambda: bool(node.plane._connections.members))
            await node.apply(service(endpoint(port)))
            loop = asyncio.get_running_loop()
            (await loop.sock_accept(listening))[0].close()  # what filled the queue
            (await loop.sock_accept(listening))[0].close()
            assert await ask(reader, writer) == "stays hello"
            writer.close()


async def test_a_client_that_goes_before_an_endpoint_has_its_connection_leaves_nothing() -> None:
    async with proxied(connect_seconds=0.5) as node:
        with full_port() as (_, port):
            await node.apply(service(endpoint(port)))
            _, writer = await node.connect()
            await until(lambda: bool(node.plane._connections.members))
            reset(writer)
            await until(lambda: not node.plane._connections.members)


async def test_endpoints_that_leave_reset_their_connections_and_no_others() -> None:
    async with proxied() as node, serving(saying("one")) as one, serving(saying("two")) as two:
        await node.apply(service(endpoint(one)))
        old = await node.connect()
        assert await ask(*old) == "one hello"
        await node.apply(service(endpoint(one), endpoint(two)))
        await node.apply(service(endpoint(one, scopes=Scope.NONE, terminating=True), endpoint(two)))
        new = await node.connect()
        assert await ask(*new) == "two hello"
        assert await ask(*old) == "one hello", "a terminating endpoint keeps its connections"
        await node.apply(service(endpoint(two)))
        with pytest.raises(ConnectionResetError):
            await ask(*old)
        assert await ask(*new) == "two hello"
        new[1].close()


async def test_a_service_that_is_gone_takes_no_connections_and_ends_none() -> None:
    async with proxied() as node, serving(saying("one")) as port:
        await node.apply(service(endpoint(port)))
        place = node.place()
        opened = await node.connect()
        assert await ask(*opened) == "one hello"
        await node.apply()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*place)
        assert await ask(*opened) == "one hello"
        opened[1].close()


async def test_without_endpoints_the_system_refuses_and_the_place_stays_the_same() -> None:
    async with proxied() as node, serving(saying("one")) as port:
        await node.apply(service(endpoint(port)))
        place = node.place()
        await node.apply(service())
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*place)
        await node.apply(service(endpoint(port)))
        assert node.place() == place


async def test_a_refused_share_is_reset() -> None:
    async with proxied() as node, serving(saying("one")) as port:
        refused = service(
            endpoint(port, group=1, weight=1),
            endpoint(1, group=2, weight=10**9, reject=True),
            origin=Origin.GATEWAY_LISTENER,
        )
        await node.apply(refused)
        reader, _ = await node.connect()
        with pytest.raises(ConnectionResetError):
            await reader.read()


async def test_there_is_room_for_so_many_and_again_when_one_has_ended() -> None:
    async with proxied(max_connections=1) as node, serving(saying("one")) as port:
        await node.apply(service(endpoint(port)))
        first = await node.connect()
        assert await ask(*first) == "one hello"
        reader, _ = await node.connect()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        assert node.status("tcp")["no room"] == 1
        assert await ask(*first) == "one hello"
        first[1].close()
        await until(lambda: not node.plane._connections.members)
        again = await node.connect()
        assert await ask(*again) == "one hello"
        again[1].close()


async def test_a_silent_connection_is_reset_and_one_that_talks_is_not() -> None:
    async with proxied(tcp_idle_seconds=1.0) as node, serving(saying("one")) as port:
        await node.apply(service(endpoint(port)))
        silent, talking = await node.connect(), await node.connect()
        waiting = asyncio.create_task(silent[0].read())
        while not waiting.done():
            assert await ask(*talking) == "one hello"
            await asyncio.sleep(0.05)
        with pytest.raises(ConnectionResetError):
            await waiting
        talking[1].close()


async def test_stopping_waits_for_connections_to_end_and_takes_no_more() -> None:
    async with proxied(drain_seconds=60.0) as node, serving(saying("one")) as port:
        await node.apply(service(endpoint(port)))
        place, opened = node.place(), await node.connect()
        assert await ask(*opened) == "one hello"
        stopping = asyncio.create_task(node.plane.stop())
        await until(lambda: not node.plane._listeners.places())
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*place)
        assert await ask(*opened) == "one hello"
        assert not stopping.done()
        opened[1].close()
        await stopping


async def test_stopping_resets_what_does_not_end() -> None:
    async with proxied(drain_seconds=0.1) as node, serving(saying("one")) as port:
        await node.apply(service(endpoint(port)))
        opened = await node.connect()
        assert await ask(*opened) == "one hello"
        await node.plane.stop()
        with pytest.raises(ConnectionResetError):
            await opened[0].read()
