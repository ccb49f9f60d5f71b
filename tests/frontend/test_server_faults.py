"""Clients that misbehave: they get a clear answer, leave nothing behind and disturb nobody else."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blixt_api import blixtv1_pb2, wire
from blixt_api import localv1_pb2 as local
from blixt_frontend.items import Item, ItemKind
from blixt_frontend.listeners import TcpAddress
from blixt_frontend.server import Server, ServerConfig
from blixt_frontend.store import Store
from blixt_frontend.streams import NODE_NAME_LENGTH, Stream
from blixt_watcher import Watcher

TIMEOUT = 30


def service(name: str, size: int = 1) -> Item:
    return Item(ItemKind.SERVICE, f"ns/{name}", bytes(size))


@pytest.fixture
def store() -> Store:
    store = Store()
    store.replace("a", [service("a")])
    store.set_ready()
    return store


@pytest.fixture
async def server(store: Store) -> AsyncIterator[Server]:
    server = Server(store, ServerConfig((TcpAddress("127.0.0.1", 0),), grace=0.5))
    await server.start()
    yield server
    await server.stop()


@asynccontextmanager
async def dialled(server: Server) -> AsyncIterator[grpc.aio.Channel]:
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(server.addresses[0], options=options) as channel:
        yield channel


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(TIMEOUT * 100):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


async def refusal(server: Server, method: str, message: bytes) -> tuple[grpc.StatusCode, str]:
    """How a stream ends whose only request is `message`.

    By gRPC's blocking client: in the one for asyncio a write that a refusal overtakes ends the call as
    INTERNAL, without the server's own word.
    """

    def ask() -> tuple[grpc.StatusCode, str]:
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(server.addresses[0], options=options) as channel:
            watch: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
            call = watch(iter([message]), timeout=TIMEOUT)
            return call.code(), call.details() or ""

    return await asyncio.to_thread(ask)


METHODS = [wire.LOCAL_WATCH, wire.BATCH_WATCH]


@pytest.mark.parametrize("method", METHODS)
async def test_garbage(server: Server, method: str) -> None:
    async with dialled(server) as channel:
        watcher = Watcher(channel, "good")
        await watcher.pull()
        for garbage in (b"\xff", b"\x0a\x05ab", b"\x0a\x01\xff", bytes(1000)):
            code, details = await refusal(server, method, garbage)
            assert code == grpc.StatusCode.INVALID_ARGUMENT
            assert "not a watch request" in details
        await watcher.ask()
        assert server.streams == {"good": 1}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["", "n" * (NODE_NAME_LENGTH + 1)], ids=["empty", "long"])
async def test_a_request_that_names_no_node(server: Server, method: str, name: str) -> None:
    code, details = await refusal(server, method, local.WatchReq(NodeName=name).SerializeToString())
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "must name a node" in details
    assert server.streams == {}


async def test_garbage_after_a_good_start(server: Server) -> None:
    async with dialled(server) as channel:
        watcher = Watcher(channel, "n1")
        await watcher.pull()
        await watcher.call.write(b"\xff\xff")
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await watcher.answer()
        assert ended.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        await until(lambda: server.streams == {})


async def test_a_huge_request(server: Server) -> None:
    request = blixtv1_pb2.WatchRequest(node_name="n" * 1_000_000).SerializeToString()
    code, _ = await refusal(server, wire.BATCH_WATCH, request)
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_an_unknown_method(server: Server) -> None:
    code, _ = await refusal(server, "/blixt.v2.Sets/Watch", b"")
    assert code == grpc.StatusCode.UNIMPLEMENTED


async def test_a_client_that_never_reads_hurts_only_itself(server: Server, store: Store) -> None:
    for number in range(1000):
        store.replace(str(number), [service(str(number), 10_000)])
    async with dialled(server) as channel, dialled(server) as other:
        stuck = [Watcher(channel, f"stuck{number}", kpng=number == 0) for number in range(3)]
        for watcher in stuck:
            await watcher.ask()
        await until(lambda: len(server.streams) == 3)
        good = Watcher(other, "good")
        for number in range(20):
            await asyncio.wait_for(good.pull(), TIMEOUT)
            store.replace("new", [service("new", number)])
        assert len(server.streams) == 4
    await until(lambda: server.streams == {})


@pytest.mark.parametrize("kpng", [False, True])
async def test_a_client_that_leaves_in_mid_round(server: Server, store: Store, kpng: bool) -> None:
    for number in range(1000):
        store.replace(str(number), [service(str(number), 10_000)])
    async with dialled(server) as channel:
        for _ in range(5):
            watcher = Watcher(channel, "n1", kpng=kpng)
            await watcher.ask()
            await watcher.call.read()
            watcher.call.cancel()
    await until(lambda: server.streams == {})


async def test_a_client_that_leaves_while_it_waits(server: Server) -> None:
    async with dialled(server) as channel:
        watcher = Watcher(channel, "n1")
        await watcher.pull()
        await watcher.ask()
        watcher.call.cancel()
        await until(lambda: server.streams == {})


async def test_streams_leave_nothing_behind(
    server: Server, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: weakref.WeakSet[Stream] = weakref.WeakSet()

    serve = Stream.serve

    async def seen_serve(stream: Stream, requests: AsyncIterator[bytes]) -> None:
        seen.add(stream)
        await serve(stream, requests)

    monkeypatch.setattr(Stream, "serve", seen_serve)
    async with dialled(server) as channel:
        for number in range(20):
            watcher = Watcher(channel, f"n{number}")
            await watcher.pull()
            await watcher.ask()
            watcher.call.cancel()
    assert len(seen) > 0

    def gone() -> bool:
        gc.collect()
        return not seen

    await until(gone)
    assert server.streams == {}
    assert server.acknowledged == {}


async def test_requests_sent_ahead_are_answered_one_by_one(server: Server, store: Store) -> None:
    async with dialled(server) as channel:
        watcher = Watcher(channel, "n1")
        for _ in range(10):
            await watcher.ask()
        assert (await watcher.answer()).reset
        for number in range(3):
            store.replace("b", [service("b", number)])
            assert set((await watcher.answer()).sets) == {"ns/b"}


@settings(max_examples=30, deadline=None)
@given(message=st.binary(max_size=40))
def test_any_bytes_get_a_round_or_a_refusal(message: bytes) -> None:
    """Never an internal error."""

    async def scenario() -> None:
        store = Store()
        store.set_ready()
        server = Server(store, ServerConfig((TcpAddress("127.0.0.1", 0),), grace=0.1))
        await server.start()
        try:
            for method in METHODS:
                code, _ = await refusal(server, method, message)
                assert code in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT)
        finally:
            await server.stop()

    asyncio.run(asyncio.wait_for(scenario(), TIMEOUT))
