"""The frontend put together: source -> translator -> store -> server."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Mapping
from typing import Protocol

from blixt_frontend.errors import FrontendError
from blixt_frontend.items import Item
from blixt_frontend.server import Server, ServerConfig
from blixt_frontend.source import Batch, Source
from blixt_frontend.store import Store

log = logging.getLogger(__name__)


class Translation(Protocol):
    """What the translator is to the wiring. Called from one thread at a time, not always the same."""

    @property
    def zones(self) -> Mapping[str, str]:
        """The zone of every node that has one."""

    def apply(self, batch: Batch) -> Mapping[str, tuple[Item, ...]]:
        """All items of every unit that the batch touched; none: the unit is gone."""


async def run(source: Source, translator: Translation, config: ServerConfig) -> None:
    """Serve what the source tells until SIGTERM or SIGINT. Raises FrontendError if that can't go on."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await serve(source, translator, config, stop)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def serve(source: Source, translator: Translation, config: ServerConfig, stop: asyncio.Event) -> None:
    """As `run`, until `stop` is set."""
    store = Store()
    server = Server(store, config)
    await server.start()
    feeding = asyncio.create_task(feed(source, translator, store))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({feeding, stopping}, return_when=asyncio.FIRST_COMPLETED)
        failed = feeding.done()
    finally:
        log.info("shutting down")
        stopping.cancel()
        feeding.cancel()
        await asyncio.wait({feeding})
        await server.stop()
    if failed:
        feeding.result()
        raise FrontendError("the source of objects has ended; nothing would be known of any change")


async def feed(source: Source, translator: Translation, store: Store) -> None:
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
        with store.transaction():
            for unit, items in units.items():
                store.replace(unit, items)
            store.set_zones(translator.zones)
            if batch.complete:
                store.set_ready()
        log.info("revision %d: %d items, %d units looked at", store.revision, len(store), len(units))
