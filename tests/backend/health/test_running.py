"""Real sockets in a namespace of the test's own: who is answered, who is cut off, and what can't be had."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager

import pytest

from blixt_backend.health import connections, listeners, running
from blixt_backend.health.places import Place
from blixt_backend.health.running import Health, Settings
from blixt_backend.model import PackedAddress, ServiceView
from blixt_fakes.health import here, watched
from blixt_fakes.segment import change, ip
from blixt_fakes.until import until

pytestmark = pytest.mark.bpf

GET = b"GET / HTTP/1.1\r\nHost: node\r\n\r\n"


@pytest.fixture(autouse=True)
def alone(namespace: Callable[[str], None]) -> None:
    """Nobody else has a port here."""
    namespace("link set lo up")


@asynccontextmanager
async def answering(
    *views: ServiceView,
    places: tuple[Place, ...] = (),
    addresses: Callable[[], Collection[PackedAddress] | None] = lambda: None,
) -> AsyncIterator[Health]:
    health = Health(Settings(places), addresses)
    health.applied(change(*views, resync=True))
    task = asyncio.create_task(health.run())
    try:
        yield health
    finally:
        task.cancel()
        await asyncio.wait([task])


async def send(what: bytes, port: int = 30100, host: str = "127.0.0.1") -> bytes:
    """All that is answered, until the other side ends it; nothing for a port that is closed."""
    async with asyncio.timeout(20):
        try:
            reader, writer = await asyncio.open_connection(host, port)
        except ConnectionError:  # reset: it was closed in between
            return b""
        try:
            writer.write(what)
            return await reader.read()
        finally:
            writer.close()


async def status(port: int = 30100, host: str = "127.0.0.1", path: str = "/") -> int:
    """0 for a port that is closed."""
    answer = await send(GET.replace(b"/ ", path.encode() + b" ", 1), port, host)
    return int(answer.split()[1]) if answer else 0


async def is_answered(expected: int, port: int = 30100, host: str = "127.0.0.1") -> None:
    """Wait until it is."""
    async with asyncio.timeout(20):
        while await status(port, host) != expected:  # each try gives the other side its turn
            pass


async def send_on(what: bytes, *, then: bytes, pause: float = 0.0) -> float:
    """Send without an end; the seconds until the other side cut it off."""
    clock = asyncio.get_running_loop().time
    _, writer = await asyncio.open_connection("127.0.0.1", 30100)
    began = clock()
    try:
        writer.write(what)
        while clock() < began + 20:
            await asyncio.sleep(pause)
            writer.write(then)
            await writer.drain()
    except ConnectionError:
        return clock() - began
    finally:
        writer.close()
    raise TimeoutError


async def test_both_families_are_answered_with_their_own_counts() -> None:
    view = watched("a", 30100, here("x", "10.0.0.1", "fd00::1"), here("y", "fd00::2"))
    async with answering(view):
        await is_answered(200)
        await is_answered(200, host="::1")
        for host, count in (("127.0.0.1", 1), ("::1", 2)):
            head, _, body = (await send(GET, host=host)).partition(b"\r\n\r\n")
            assert f"X-Load-Balancing-Endpoint-Weight: {count}".encode() in head
            assert json.loads(body)["localEndpoints"] == count
        assert (await send(GET.replace(b"GET", b"HEAD"))).endswith(b"\r\n\r\n")


async def test_what_is_applied_is_told_at_once_and_ports_come_and_go() -> None:
    async with answering(watched("a", 30100)) as health:
        await is_answered(503)
        health.applied(change(watched("a", 30100, here("x"))))
        assert await status() == 200
        health.applied(change(watched("a", 30101, here("x"))))
        await is_answered(0)
        await is_answered(200, 30101)
        health.applied(change(watched("a", 30101, here("x"), local=False)))
        await is_answered(0, 30101)
        health.applied(change(watched("b", 30102), resync=True))
        await is_answered(503, 30102)


async def test_a_node_that_is_behind_says_so_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(running, "_now", lambda: now[0])
    async with answering(watched("a", 30100, here("x")), places=(Place("127.0.0.1", 10256),)) as health:
        health.trying()
        health.failed("no room")
        await is_answered(200)
        assert await status(10256, path="/healthz") == 200
        now[0] += 16
        assert await status() == 503
        assert b'"serviceProxyHealthy":false' in await send(GET)
        assert [await status(10256, path=path) for path in ("/healthz", "/livez")] == [503, 200]
        health.applied(change())
        assert await status() == 200
    assert await status(10256, path="/healthz") == 0


async def test_of_two_services_with_one_port_the_first_is_answered_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with answering(watched("a", 30100)) as health:
        await is_answered(503)
        for _ in range(2):
            health.applied(change(watched("b", 30100, here("x"))))
        await until(lambda: "ns/b: its health check node port 30100 is answered for ns/a" in caplog.text)
        assert await status() == 503
        health.applied(change(removed=["ns/a"]))
        await is_answered(200)
        assert b'"name":"b"' in await send(GET)
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) == 1


async def test_a_port_that_somebody_has_is_told_once_and_had_later(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "_FIRST_SECONDS", 0.01)
    monkeypatch.setattr(listeners, "_MOST_SECONDS", 0.02)
    caplog.set_level(logging.INFO)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 30100))
        other.listen()
        async with answering(watched("a", 30100), watched("b", 30101)):
            await is_answered(503, 30101)
            await is_answered(503, host="::1")
            await asyncio.sleep(0.1)
            other.close()
            await is_answered(503)
            told = [r.getMessage() for r in caplog.records]
    assert told == [
        "ns/a: health check node port: can't listen on 0.0.0.0:30100: Address already in use; trying again",
        "ns/a: health check node port: listening on 0.0.0.0:30100 now",
    ]


async def test_only_the_addresses_of_node_ports_are_answered_on(
    namespace: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_LOOK_SECONDS", 0.01)
    await asyncio.to_thread(namespace, "address add 192.0.2.1/32 dev lo")
    chosen = [ip("192.0.2.1")]
    async with answering(watched("a", 30100, here("x")), addresses=lambda: chosen):
        await is_answered(200, host="192.0.2.1")
        assert (await status(), await status(host="::1")) == (0, 0)
        await asyncio.to_thread(namespace, "address del 192.0.2.1/32 dev lo")
        chosen[:] = [ip("127.0.0.1"), ip("::1")]
        await is_answered(200)
        chosen.clear()
        await is_answered(0)


# -- whom it may not trust ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (b"\0\xff garbage \r\n\r\n", b"HTTP/1.1 400 "),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * 60_000, b"HTTP/1.1 431 "),
        (b"GET /" + b"a" * 4000 + b" HTTP/1.1\r\n\r\n", b"HTTP/1.1 414 "),
        (b"POST / HTTP/1.1\r\nContent-Length: 50000\r\n\r\n" + b"a" * 50_000, b"HTTP/1.1 405 "),
        (GET + GET + GET, b"HTTP/1.1 503 "),
    ],
)
async def test_nonsense_is_answered_and_ended(sent: bytes, answered: bytes) -> None:
    async with answering(watched("a", 30100)):
        await is_answered(503)
        got = await send(sent)
        assert got.startswith(answered)
        assert got.count(b"HTTP/1.1 ") == 1
        assert await status() == 503


async def test_one_who_never_ends_its_request_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_REQUEST_SECONDS", 0.2)
    async with answering(watched("a", 30100)):
        await is_answered(503)
        assert 0.2 <= await send_on(b"", then=b"G", pause=0.02) < 10


async def test_one_who_sends_on_and_on_after_its_answer_is_cut_off() -> None:
    async with answering(watched("a", 30100)):
        await is_answered(503)
        await send_on(GET, then=b"a" * 10_000)


async def test_many_who_hold_connections_open_keep_nobody_out() -> None:
    async with answering(watched("a", 30100), places=(Place("127.0.0.1", 10256),)) as health:
        await is_answered(503)
        held = [await asyncio.open_connection("127.0.0.1", 30100) for _ in range(300)]
        for _, writer in held:
            writer.write(b"GET / HT")
        for _ in range(20):
            assert await status() == 503
        assert await status(10256, path="/livez") == 200
        assert len(health._services._pool) <= 128
        for _, writer in held:
            writer.close()
        await until(lambda: len(health._services._pool) == 0)
