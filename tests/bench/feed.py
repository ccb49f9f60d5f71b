"""The frontend's own store and server with made-up services in it: rounds of any size, without manifests.

It runs in a thread of the benchmark, listens on a unix socket, and so is reached from every namespace.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import TypeVar

from blixt_api import localv1_pb2 as pb
from blixt_frontend.items import Item, ItemKind
from blixt_frontend.listeners import UnixAddress
from blixt_frontend.server import Server, ServerConfig
from blixt_frontend.store import Store

Result = TypeVar("Result")

_SERVICES = IPv4Address("10.96.1.0")
_PODS = IPv4Address("10.128.0.1")
_MOVED_PODS = IPv4Address("10.64.0.1")


@dataclass(frozen=True, slots=True)
class Cluster:
    """Services of one TCP port and so many endpoints each, a quarter of which are on the watching node."""

    services: int
    endpoints: int

    def items(self, number: int, *, moved: int = 0, missing: int = 0) -> list[Item]:
        """One service with its endpoints: without the last `missing`, and the first one at an address that no
        other `moved` has."""
        path = f"bench/service-{number:05}"
        service = pb.Service(
            Namespace="bench",
            Name=f"service-{number:05}",
            Type="ClusterIP",
            IPs=pb.ServiceIPs(ClusterIPs=pb.IPSet(V4=[str(_SERVICES + number)])),
            Ports=[pb.PortMapping(Name="http", Protocol=pb.TCP, Port=80, TargetPort=8080)],
        )
        first = number * self.endpoints
        addresses = [str(_PODS + first + index) for index in range(self.endpoints - missing)]
        if moved:
            addresses[0] = str(_MOVED_PODS + (moved * self.services + number) % (1 << 22))
        return [
            Item(ItemKind.SERVICE, path, service.SerializeToString()),
            *(
                Item(
                    ItemKind.POD_ENDPOINT,
                    f"{path}/service-{number:05}-{index:05x}",
                    _endpoint(address, index),
                )
                for index, address in enumerate(addresses)
            ),
        ]


def _endpoint(address: str, index: int) -> bytes:
    message = pb.Endpoint(
        IPs=pb.IPSet(V4=[address]),
        Scopes=pb.EndpointScopes(Internal=True, External=True, Cluster=True),
        PortOverrides=[pb.PortName(Name="http", Port=8080)],
        Local=index % 4 == 0,
        Node=f"node-{index:04}",
        Zone=f"zone-{index % 3}",
        TriggerTime=1_700_000_000_000_000_000 + index,
    )
    return message.SerializeToString()


class Feed:
    """Serves a cluster and its changes. Made by `feed`; its methods may be called in any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, store: Store, cluster: Cluster, address: str) -> None:
        self._loop = loop
        self._store = store
        self.cluster = cluster
        #: What a backend dials.
        self.address = address
        self._moves = 0

    def fill(self) -> None:
        """Put all services in, as one change."""
        self._change((number, self.cluster.items(number)) for number in range(self.cluster.services))

    def move(self, services: int) -> None:
        """The first endpoint of each of so many services gets another address, all in one change."""
        self._moves += 1
        self._change((number, self.cluster.items(number, moved=self._moves)) for number in range(services))

    def resize(self, number: int, missing: int) -> None:
        """Take the last endpoints of a service away; 0: give them back."""
        self._change([(number, self.cluster.items(number, missing=missing))])

    def _change(self, units: Iterable[tuple[int, list[Item]]]) -> None:
        ready = list(units)

        def make() -> None:
            with self._store.transaction():
                for number, items in ready:
                    self._store.replace(f"service-{number}", items)
                self._store.set_ready()

        self._in_loop(make)

    def _in_loop(self, function: Callable[[], Result]) -> Result:
        async def run() -> Result:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()


@contextmanager
def feed(cluster: Cluster, socket: Path) -> Iterator[Feed]:
    """Listens on `socket`; whoever watches waits until `fill`."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="feed", daemon=True)
    thread.start()
    store = Store()
    server = Server(store, ServerConfig((UnixAddress(socket),), grace=0.5))
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result()
        yield Feed(loop, store, cluster, f"unix:{socket}")
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
