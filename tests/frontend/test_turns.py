"""How many full sets are sent at a time, and that a watcher that does not read keeps nobody from theirs."""

from __future__ import annotations

import asyncio

import grpc

from blixt_frontend.items import Item, ItemKind
from blixt_frontend.listeners import TcpAddress
from blixt_frontend.server import Server, ServerConfig
from blixt_frontend.store import Store
from blixt_frontend.streams import FULL_SETS, Turns
from blixt_watcher import Watcher


async def hold(turns: Turns, entered: list[int], number: int, leave: asyncio.Event) -> None:
    async with turns.one():
        entered.append(number)
        await leave.wait()


async def test_one_more_than_there_are_places_waits_for_its_turn() -> None:
    turns, entered, leave = Turns(places=2, patience=60), list[int](), asyncio.Event()
    tasks = [asyncio.create_task(hold(turns, entered, number, leave)) for number in range(3)]
    await asyncio.sleep(0.05)
    assert entered == [0, 1]
    leave.set()
    await asyncio.gather(*tasks)
    assert entered == [0, 1, 2]


async def test_whoever_takes_too_long_no_longer_counts_and_gives_back_one_place_only() -> None:
    turns, entered, leave = Turns(places=1, patience=0.05), list[int](), asyncio.Event()
    tasks = [asyncio.create_task(hold(turns, entered, number, leave)) for number in range(3)]
    await asyncio.sleep(0.5)
    assert entered == [0, 1, 2]
    leave.set()
    await asyncio.gather(*tasks)
    patient, leave = list[int](), asyncio.Event()
    tasks = [asyncio.create_task(hold(turns, patient, number, leave)) for number in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert patient == [0]
    leave.set()
    await asyncio.gather(*tasks)


async def test_more_watchers_than_places_all_get_their_full_set() -> None:
    store = Store()
    store.replace("a", [Item(ItemKind.SERVICE, "ns/a", b"x" * 100_000)])
    server = Server(store, ServerConfig((TcpAddress("127.0.0.1", 0),), grace=0.5))
    await server.start()
    try:
        async with grpc.aio.insecure_channel(server.addresses[0]) as channel:
            watchers = [Watcher(channel, f"n{number}") for number in range(3 * FULL_SETS)]
            asked = [asyncio.create_task(watcher.pull()) for watcher in watchers]
            await asyncio.sleep(0.2)  # all of them wait for the store
            store.set_ready()
            for pulled in await asyncio.gather(*asked):
                assert list(pulled.sets) == ["ns/a"]
    finally:
        await server.stop()
