"""The frontend put together: source -> translator -> store -> server."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from blixt_frontend.errors import FrontendError
from blixt_frontend.items import Item
from blixt_frontend.server import Server, ServerConfig
from blixt_frontend.source import Batch, Source
from blixt_frontend.store import Store
from blixt_frontend.translation.cluster import NamespacedName
from blixt_frontend.translation.results import GatewayResult

log = logging.getLogger(__name__)


class Translation(Protocol):
    """What the translator is to the wiring. Called from one thread at a time, not always the same."""

    @property
    def zones(self) -> Mapping[str, str]:
        """The zone of every node that has one."""

    @property
    def gateways(self) -> Mapping[NamespacedName, GatewayResult]:
        """What became of each Gateway."""

    def apply(self, batch: Batch) -> Mapping[str, tuple[Item, ...]]:
        """All items of every unit that the batch touched; none: the unit is gone."""


class Status(Protocol):
    """Tells the cluster what became of its objects."""

    def observe(
        self,
        batch: Batch,
        gateways: Mapping[NamespacedName, GatewayResult],
        changed_units: Iterable[str],
        revision: int,
    ) -> None:
        """A batch is in the store, at this revision."""

    async def run(self) -> None:
        """Write until cancelled; a cluster that can't be written to is waited for."""


#: Status needs to know what nodes have applied, which the server knows.
StatusOf = Callable[[Server], Status]


async def run(
    source: Source, translator: Translation, config: ServerConfig, status_of: StatusOf | None = None
) -> None:
    """Serve what the source tells until SIGTERM or SIGINT. Raises FrontendError if that can't go on."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await serve(source, translator, config, stop, status_of)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def serve(
    source: Source,
    translator: Translation,
    config: ServerConfig,
    stop: asyncio.Event,
    status_of: StatusOf | None = None,
) -> None:
    """As `run`, until `stop` is set."""
    store = Store()
    server = Server(store, config)
    await server.start()
    status = status_of(server) if status_of else None
    feeding = asyncio.create_task(feed(source, translator, store, status))
    stopping = asyncio.create_task(stop.wait())
    working = {feeding} | ({asyncio.create_task(status.run())} if status else set())
    try:
        await asyncio.wait({feeding, stopping}, return_when=asyncio.FIRST_COMPLETED)
        failed = feeding.done()
    finally:
        log.info("shutting down")
        stopping.cancel()
        for task in working:
            task.cancel()
        await asyncio.wait(working)  # status gives its lease up while there is a client to do it by
        await server.stop()
    if failed:
        feeding.result()
        raise FrontendError("the source of objects has ended; nothing would be known of any change")


async def feed(source: Source, translator: Translation, store: Store, status: Status | None = None) -> None:
    """Bring every batch of the source into the store, each as one revision."""
    async for batch in source.events():
        try:
            # In a thread: the first batch is the whole cluster, and streams must live meanwhile.
            units = await asyncio.to_thread(translator.apply, batch)
        except Exception:
            if not store.ready:
                raise  # serving a part as the whole would take the rest away from every node
            log.exception("a change could not be translated; what was in force stays in force")
            continue
        first = batch.complete and not store.ready
        with store.transaction():
            for unit, items in units.items():
                store.replace(unit, items)
            store.set_zones(translator.zones)
            if batch.complete:
                store.set_ready()
        if status is not None:
            status.observe(batch, translator.gateways, units, store.revision)
        # A line for each change would be most of what a frontend says, and a part of what a change costs.
        level = logging.INFO if first else logging.DEBUG
        log.log(level, "revision %d: %d items, %d units changed", store.revision, len(store), len(units))
        del batch, units  # the first ones are the whole cluster, and the next ones may be hours away
