"""The server over real sockets, with well-behaved clients."""

from __future__ import annotations

import asyncio
import socket
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from blixt_api import wire
from blixt_frontend.items import Item, ItemKind
from blixt_frontend.listeners import Address, ListenError, TcpAddress, UnixAddress
from blixt_frontend.server import Server, ServerConfig
from blixt_frontend.store import Store
from blixt_watcher import Watcher

LOOPBACK = TcpAddress("127.0.0.1", 0)
TIMEOUT = 30


def items(name: str, *endpoints: str, content: bytes = b"x") -> list[Item]:
    return [
        Item(ItemKind.SERVICE, f"ns/{name}", content),
        *(Item(ItemKind.POD_ENDPOINT, f"ns/{name}/{endpoint}", content) for endpoint in endpoints),
    ]


@asynccontextmanager
async def serving(store: Store, *listen: Address, grace: float = 0.5) -> AsyncIterator[Server]:
    server = Server(store, ServerConfig(listen or (LOOPBACK,), grace=grace))
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def dialled(server: Server, number: int = 0) -> AsyncIterator[grpc.aio.Channel]:
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(server.addresses[number], options=options) as channel:
        yield channel


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(TIMEOUT * 100):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


async def health(channel: grpc.aio.Channel, service: str) -> int:
    check: grpc.aio.UnaryUnaryMultiCallable[HealthCheckRequest, HealthCheckResponse] = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        HealthCheckRequest.SerializeToString,
        HealthCheckResponse.FromString,
    )
    return int((await check(HealthCheckRequest(service=service))).status)


@pytest.fixture
def store() -> Store:
    store = Store()
    store.replace("a", items("a", "1", "2"))
    store.set_ready()
    return store


@pytest.mark.parametrize("kpng", [False, True])
async def test_first_a_full_set_then_what_changed(store: Store, kpng: bool) -> None:
    async with serving(store) as server, dialled(server) as channel:
        watcher = Watcher(channel, "n1", kpng=kpng)
        first = await watcher.pull()
        assert first.reset
        assert watcher.held == {"ns/a": b"x", "ns/a/1": b"x", "ns/a/2": b"x"}
        store.replace("a", items("a", "2"))
        store.replace("b", items("b"))
        second = await watcher.pull()
        assert not second.reset
        assert (second.sets, second.deletes) == ({"ns/b": b"x"}, ["ns/a/1"])
        assert watcher.held == {"ns/a": b"x", "ns/a/2": b"x", "ns/b": b"x"}


@pytest.mark.parametrize("kpng", [False, True])
async def test_an_empty_model_is_a_round_too(kpng: bool) -> None:
    store = Store()
    store.set_ready()
    async with serving(store) as server, dialled(server) as channel:
        pulled = await Watcher(channel, "n1", kpng=kpng).pull()
        assert pulled.reset
        assert pulled.sets == {}


async def test_a_slow_client_gets_one_merged_difference(store: Store) -> None:
    async with serving(store) as server, dialled(server) as channel:
        watcher = Watcher(channel, "n1")
        await watcher.pull()
        for number in range(50):
            store.replace("b", items("b", str(number)))
        pulled = await watcher.pull()
        assert pulled.sets == {"ns/b": b"x", "ns/b/49": b"x"}
        assert pulled.revision == store.revision
        await watcher.ask()
        store.replace("c", items("c"))
        assert (await watcher.answer()).sets == {"ns/c": b"x"}


async def test_a_change_that_is_taken_back_while_a_client_waits_is_told_once(store: Store) -> None:
    async with serving(store) as server, dialled(server) as channel:
        watcher = Watcher(channel, "n1")
        await watcher.pull()
        await watcher.ask()
        store.replace("b", items("b"))
        store.replace("b", [])
        await watcher.answer()
        assert "ns/b" not in watcher.held


async def test_nothing_is_told_before_everything_was_listed() -> None:
    store = Store()
    store.replace("a", items("a"))
    async with serving(store) as server, dialled(server) as channel:
        watcher = Watcher(channel, "n1")
        await watcher.ask()
        await until(lambda: server.streams == {"n1": 1})
        assert await health(channel, wire.BATCH_SERVICE) == HealthCheckResponse.NOT_SERVING
        answer = asyncio.create_task(watcher.answer())
        store.replace("b", items("b"))
        await health(channel, "")
        assert not answer.done()
        store.set_ready()
        assert (await asyncio.wait_for(answer, TIMEOUT)).sets == {"ns/a": b"x", "ns/b": b"x"}
        for service in ("", wire.LOCAL_SERVICE, wire.BATCH_SERVICE):
            assert await health(channel, service) == HealthCheckResponse.SERVING


async def test_nodes_see_their_own_variants() -> None:
    store = Store()
    endpoint = Item(
        ItemKind.POD_ENDPOINT, "ns/a/1", b"far", zones={"z": b"near", "y": None}, nodes={"n1": b"here"}
    )
    store.replace("a", [*items("a"), endpoint])
    store.set_zones({"n1": "z", "n2": "z", "n3": "y"})
    store.set_ready()
    expected = {"n1": b"here", "n2": b"near", "n3": None, "unknown": b"far"}
    async with serving(store) as server, dialled(server) as channel:
        for node, content in expected.items():
            watcher = Watcher(channel, node)
            await watcher.pull()
            assert watcher.held.get("ns/a/1") == content


async def test_a_node_that_changes_zone_gets_what_differs(store: Store) -> None:
    zoned = Item(ItemKind.POD_ENDPOINT, "ns/z/1", None, zones={"z": b"z"})
    store.replace("z", [*items("z"), zoned])
    async with serving(store) as server, dialled(server) as channel:
        watcher = Watcher(channel, "n1")
        await watcher.pull()
        await watcher.ask()
        store.set_zones({"n2": "z"})
        store.set_zones({"n1": "z", "n2": "z"})
        pulled = await watcher.answer()
        assert not pulled.reset
        assert (pulled.sets, pulled.deletes) == ({"ns/z/1": b"z"}, [])


@pytest.mark.parametrize("kpng", [False, True])
async def test_the_node_name_is_read_in_every_round(kpng: bool) -> None:
    store = Store()
    store.replace("a", [*items("a"), Item(ItemKind.POD_ENDPOINT, "ns/a/1", b"far", nodes={"n2": b"here"})])
    store.set_ready()
    async with serving(store) as server, dialled(server) as channel:
        watcher = Watcher(channel, "n1", kpng=kpng)
        await watcher.pull()
        watcher.node = "n2"
        pulled = await watcher.pull()
        assert (pulled.reset, pulled.sets) == (False, {"ns/a/1": b"here"})
        assert server.streams == {"n2": 1}


async def test_large_rounds_travel_in_many_messages_below_every_limit(store: Store) -> None:
    for number in range(300):
        store.replace(str(number), items(f"s{number}", "1", "2", content=bytes(3000)))
    async with serving(store) as server, dialled(server) as channel:
        watcher = Watcher(channel, "n1")
        pulled = await watcher.pull()
        assert len(watcher.held) == len(store)
        assert 5 < len(pulled.messages) < 20
        assert max(pulled.messages) < 512 * 1024
        assert pulled.revision == store.revision


async def test_what_nodes_have_applied(store: Store) -> None:
    async with serving(store) as server, dialled(server) as channel:
        watcher = Watcher(channel, "n1")
        watcher.revision = 999  # from another frontend: says nothing of ours
        await watcher.pull()
        assert server.acknowledged == {}
        first = store.revision
        store.replace("b", items("b"))
        await watcher.pull()
        assert server.acknowledged == {"n1": first}
        await watcher.ask(watcher.revision)
        await until(lambda: server.acknowledged == {"n1": store.revision})
        watcher.call.cancel()
        await until(lambda: server.acknowledged == {})


async def test_what_nodes_of_kpng_have_applied(store: Store) -> None:
    """Their requests don't say; but they come when the round before has been dealt with."""
    async with serving(store) as server, dialled(server) as channel:
        watcher = Watcher(channel, "n1", kpng=True)
        await watcher.pull()
        assert server.acknowledged == {}
        first = store.revision
        await watcher.ask()
        await until(lambda: server.acknowledged == {"n1": first})
        store.replace("b", items("b"))
        await watcher.answer()
        await watcher.ask()
        await until(lambda: server.acknowledged == {"n1": store.revision})


async def test_many_streams(store: Store) -> None:
    async with serving(store) as server, dialled(server) as one, dialled(server) as two:
        watchers = [Watcher(one if n % 2 else two, f"n{n}", kpng=n % 4 == 0) for n in range(200)]
        await asyncio.gather(*(watcher.pull() for watcher in watchers))
        assert len(server.streams) == 200
        await asyncio.gather(*(watcher.ask() for watcher in watchers))
        store.replace("a", items("a", "3"))
        await asyncio.gather(*(watcher.answer() for watcher in watchers))
        assert all(set(watcher.held) == {"ns/a", "ns/a/3"} for watcher in watchers)


async def test_a_client_that_has_said_all_is_answered_and_let_go(store: Store) -> None:
    async with serving(store) as server, dialled(server) as channel:
        watcher = Watcher(channel, "n1")
        await watcher.ask()
        await watcher.call.done_writing()
        assert (await watcher.answer()).reset
        assert await watcher.call.code() == grpc.StatusCode.OK
        await until(lambda: not server.streams)


async def test_who_is_too_far_behind_must_dial_again() -> None:
    store = Store(tombstones=1)
    store.replace("a", items("a", "1", "2"))
    store.set_ready()
    async with serving(store) as server, dialled(server) as channel:
        watcher = Watcher(channel, "n1")
        await watcher.pull()
        store.replace("a", [])
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await watcher.pull()
        assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
        assert (await Watcher(channel, "n1").pull()).reset


async def test_reflection_tells_both_services(store: Store) -> None:
    async with serving(store) as server, dialled(server) as channel:
        info: grpc.aio.StreamStreamMultiCallable[ServerReflectionRequest, ServerReflectionResponse] = (
            channel.stream_stream(
                "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                ServerReflectionRequest.SerializeToString,
                ServerReflectionResponse.FromString,
            )
        )
        requests = [
            ServerReflectionRequest(list_services=""),
            ServerReflectionRequest(file_containing_symbol=wire.BATCH_SERVICE),
        ]
        listed, described = [response async for response in info(iter(requests))]
        names = {service.name for service in listed.list_services_response.service}
        assert names >= {wire.LOCAL_SERVICE, wire.BATCH_SERVICE, "grpc.health.v1.Health"}
        assert len(described.file_descriptor_response.file_descriptor_proto) == 2


class TestShutdown:
    async def test_waiting_streams_end_and_health_says_so(self, store: Store) -> None:
        async with serving(store) as server, dialled(server) as channel:
            watcher = Watcher(channel, "n1")
            await watcher.pull()
            await watcher.ask()
            watch: grpc.aio.UnaryStreamMultiCallable[HealthCheckRequest, HealthCheckResponse] = (
                channel.unary_stream(
                    "/grpc.health.v1.Health/Watch",
                    HealthCheckRequest.SerializeToString,
                    HealthCheckResponse.FromString,
                )
            )
            states = aiter(watch(HealthCheckRequest()))
            assert (await anext(states)).status == HealthCheckResponse.SERVING
            stopping = asyncio.create_task(server.stop())
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await watcher.answer()
            assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
            assert "shutting down" in (ended.value.details() or "")
            assert (await anext(states)).status == HealthCheckResponse.NOT_SERVING
            await asyncio.wait_for(stopping, TIMEOUT)

    async def test_a_round_under_way_is_finished(self, store: Store) -> None:
        for number in range(1000):
            store.replace(str(number), items(f"s{number}", content=bytes(10_000)))
        async with serving(store, grace=TIMEOUT) as server, dialled(server) as channel:
            watcher = Watcher(channel, "n1")
            await watcher.ask()
            first = await watcher.call.read()
            assert first
            stopping = asyncio.create_task(server.stop())
            rest = await asyncio.wait_for(watcher.answer(), TIMEOUT)
            assert rest.revision == store.revision
            await watcher.call.done_writing()
            await asyncio.wait_for(stopping, TIMEOUT)

    async def test_who_never_reads_does_not_hold_it_up(self, store: Store) -> None:
        for number in range(1000):
            store.replace(str(number), items(f"s{number}", content=bytes(10_000)))
        async with serving(store) as server, dialled(server) as channel:
            watcher = Watcher(channel, "n1")
            await watcher.ask()
            await until(lambda: bool(server.streams))
            await asyncio.wait_for(server.stop(), TIMEOUT)
            assert server.streams == {}


class TestAddresses:
    async def test_several_at_once(self, store: Store, tmp_path: Path) -> None:
        path = tmp_path / "blixt.sock"
        async with serving(store, LOOPBACK, TcpAddress("::1", 0), UnixAddress(path)) as server:
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
            for number in range(3):
                async with dialled(server, number) as channel:
                    assert (await Watcher(channel, "n1").pull()).reset

    async def test_a_port_in_use(self, store: Store) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            with pytest.raises(ListenError, match=rf"127\.0\.0\.1:{port}: Address already in use"):
                await Server(store, ServerConfig((TcpAddress("127.0.0.1", port),))).start()

    async def test_another_frontends_port(self, store: Store) -> None:
        async with serving(store) as server:
            port = int(server.addresses[0].rpartition(":")[2])
            with pytest.raises(ListenError, match="in use"):
                await Server(store, ServerConfig((TcpAddress("127.0.0.1", port),))).start()

    async def test_an_address_that_is_not_ours(self, store: Store) -> None:
        with pytest.raises(ListenError, match=r"192\.0\.2\.1:0: Cannot assign"):
            await Server(store, ServerConfig((TcpAddress("192.0.2.1", 0),))).start()

    async def test_another_frontends_socket(self, store: Store, tmp_path: Path) -> None:
        address = UnixAddress(tmp_path / "blixt.sock")
        async with serving(store, address) as server:
            with pytest.raises(ListenError, match="in use"):
                await Server(store, ServerConfig((address,))).start()
            async with dialled(server) as channel:
                assert (await Watcher(channel, "n1").pull()).reset

    async def test_a_socket_that_was_left_behind(self, store: Store, tmp_path: Path) -> None:
        path = tmp_path / "blixt.sock"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
            dead.bind(str(path))
        async with serving(store, UnixAddress(path)) as server, dialled(server) as channel:
            assert (await Watcher(channel, "n1").pull()).reset

    async def test_one_bad_address_gives_back_the_good_ones(self, store: Store, tmp_path: Path) -> None:
        good, bad = UnixAddress(tmp_path / "s"), UnixAddress(tmp_path / "none" / "s")
        with pytest.raises(ListenError):
            await Server(store, ServerConfig((good, bad))).start()
        async with serving(store, good) as server, dialled(server) as channel:
            assert (await Watcher(channel, "n1").pull()).reset

    async def test_a_file_that_is_no_socket(self, store: Store, tmp_path: Path) -> None:
        path = tmp_path / "precious"
        path.write_text("data")
        with pytest.raises(ListenError, match="no socket"):
            await Server(store, ServerConfig((UnixAddress(path),))).start()
        assert path.read_text() == "data"

    async def test_a_folder_that_is_missing(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(ListenError, match="folder"):
            await Server(store, ServerConfig((UnixAddress(tmp_path / "no" / "blixt.sock"),))).start()
