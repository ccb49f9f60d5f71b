"""What rounds cost, measured over loopback: PYTHONPATH=tests python -m bench.frontend_streams

Prints a line for each figure. Nothing is asserted: machines differ.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import statistics
import time

import grpc

from blixt_api import localv1_pb2 as local
from blixt_frontend.items import Item, ItemKind
from blixt_frontend.listeners import TcpAddress
from blixt_frontend.server import Server, ServerConfig
from blixt_frontend.store import Store
from blixt_watcher import Watcher

NODES = 100


def unit(number: int, salt: int = 0) -> list[Item]:
    """A service with three endpoints, each of them Local on one of the nodes."""
    name = f"service-{number}"
    ports = [local.PortMapping(Name="http", Protocol=local.TCP, Port=80, TargetPort=8080)]
    low = f"{number >> 8 & 255}.{number & 255}"
    ips = local.ServiceIPs(ClusterIPs=local.IPSet(V4=[f"10.{number >> 16}.{low}"]))
    service = local.Service(Namespace="default", Name=name, Type="ClusterIP", IPs=ips, Ports=ports)
    items = [Item(ItemKind.SERVICE, f"default/{name}", service.SerializeToString())]
    for index in range(3):
        node = f"node-{(number + index) % NODES}"
        endpoint = local.Endpoint(
            Hostname="",
            IPs=local.IPSet(V4=[f"10.{100 + index}.{low}"]),
            PortOverrides=[local.PortName(Name="http", Port=8080)],
            Scopes=local.EndpointScopes(Internal=True, External=True, Cluster=True),
            Node=node,
            TriggerTime=1_700_000_000_000_000_000 + salt,
        )
        remote = endpoint.SerializeToString()
        endpoint.Local = True
        items.append(
            Item(
                ItemKind.POD_ENDPOINT,
                f"default/{name}/{name}-pod-{index}",
                remote,
                nodes={node: endpoint.SerializeToString()},
            )
        )
    return items


def filled(services: int) -> Store:
    store = Store()
    with store.transaction():
        for number in range(services):
            store.replace(f"service-{number}", unit(number))
        store.set_ready()
    return store


async def full_round(services: int) -> None:
    units = [unit(number) for number in range(services)]
    store = Store()
    started = time.perf_counter()
    with store.transaction():
        for number, items in enumerate(units):
            store.replace(f"service-{number}", items)
        store.set_ready()
    print(f"{services} services x 3 endpoints: into the store in {time.perf_counter() - started:.3f} s")
    async with Serving(store) as (server, channel):
        for kpng in (False, True):
            await Watcher(channel, "warm", kpng=kpng).pull()
            started = time.perf_counter()
            pulled = await Watcher(channel, "node-1", kpng=kpng).pull()
            took = time.perf_counter() - started
            size = sum(pulled.messages) / 1e6
            kind = "localv1" if kpng else "blixt.v1"
            print(
                f"  full round on {kind}, client's decoding included: {took:.3f} s,"
                f" {size:.2f} MB in {len(pulled.messages)} messages"
            )
        assert server.addresses


async def one_change(services: int, times: int = 300) -> None:
    store = filled(services)
    async with Serving(store) as (_, channel):
        watcher = Watcher(channel, "node-1")
        await watcher.pull()
        to_store, to_client = [], []
        for salt in range(1, times):
            items = unit(services // 2, salt)
            await watcher.ask()
            started = time.perf_counter()
            store.replace(f"service-{services // 2}", items)
            to_store.append(time.perf_counter() - started)
            await watcher.answer()
            to_client.append(time.perf_counter() - started)
        print(
            f"one changed service (3 endpoints) among {services}:"
            f" store {statistics.median(to_store) * 1e6:.0f} us,"
            f" to the client {statistics.median(to_client) * 1e6:.0f} us (medians)"
        )


async def many_streams(streams: int, services: int) -> None:
    store = filled(services)
    async with Serving(store) as (_, channel):
        watchers = [Watcher(channel, f"node-{number}") for number in range(streams)]
        started = time.perf_counter()
        await asyncio.gather(*(watcher.pull() for watcher in watchers))
        print(
            f"{streams} streams, {services} services: full rounds to all in"
            f" {time.perf_counter() - started:.2f} s (clients' decoding included)"
        )
        took = []
        for salt in range(1, 20):
            await asyncio.gather(*(watcher.ask() for watcher in watchers))
            started = time.perf_counter()
            store.replace("service-0", unit(0, salt))
            await asyncio.gather(*(watcher.answer() for watcher in watchers))
            took.append(time.perf_counter() - started)
        print(f"  one changed service to all of them: {statistics.median(took) * 1e3:.1f} ms (median)")


class Serving:
    """A server for the store, and a channel to it."""

    def __init__(self, store: Store) -> None:
        self._server = Server(store, ServerConfig((TcpAddress("127.0.0.1", 0),), grace=0.5))

    async def __aenter__(self) -> tuple[Server, grpc.aio.Channel]:
        await self._server.start()
        self._channel = grpc.aio.insecure_channel(self._server.addresses[0])
        return self._server, self._channel

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()
        await self._server.stop()


async def main() -> None:
    await full_round(10_000)
    for services in (1_000, 10_000):
        await one_change(services)
    await many_streams(200, 100)
    print(f"peak memory, both sides: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(main())
