"""The wiring: what a source tells reaches clients, and failures do what they should."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from blixt_frontend import app
from blixt_frontend.errors import FrontendError
from blixt_frontend.items import Item, ItemKind
from blixt_frontend.listeners import ListenError, UnixAddress
from blixt_frontend.server import ServerConfig
from blixt_frontend.source import Batch, ObjectKey, Source, SourceError
from blixt_frontend.store import Store
from blixt_frontend.translation.cluster import NamespacedName
from blixt_frontend.translation.results import GatewayResult
from blixt_watcher import Watcher

TIMEOUT = 30


@dataclass
class Told(Source):
    """Tells what is put into its queue; None ends it, an exception is raised."""

    queue: asyncio.Queue[Batch | Exception | None] = field(default_factory=asyncio.Queue)

    async def events(self) -> AsyncIterator[Batch]:
        while (batch := await self.queue.get()) is not None:
            if isinstance(batch, Exception):
                raise batch
            yield batch


@dataclass(frozen=True)
class Thing:
    key: ObjectKey


@dataclass
class ThingTranslator:
    """A service for every object, but for one with the name `bug`."""

    zones: dict[str, str] = field(default_factory=dict)
    gateways: dict[NamespacedName, GatewayResult] = field(default_factory=dict)

    def apply(self, batch: Batch) -> Mapping[str, tuple[Item, ...]]:
        units: dict[str, tuple[Item, ...]] = {key.name: () for key in batch.deletions}
        for thing in batch.upserts:
            if thing.key.name == "bug":
                raise KeyError(thing.key)
            if thing.key.kind == "Node":
                self.zones[thing.key.name] = "z"
                continue
            content = Item(ItemKind.SERVICE, f"ns/{thing.key.name}", b"", zones={"z": b"zone"})
            units[thing.key.name] = (content,)
        return units


def batch(*names: str, kind: str = "Thing", deleted: tuple[str, ...] = (), complete: bool = True) -> Batch:
    return Batch(
        tuple(Thing(ObjectKey(kind, "ns", name)) for name in names),
        tuple(ObjectKey(kind, "ns", name) for name in deleted),
        complete,
    )


class Frontend:
    """The frontend with a fake source and translator, on a unix socket."""

    def __init__(self, folder: Path) -> None:
        self.source = Told()
        self.stop = asyncio.Event()
        self.address = UnixAddress(folder / "s")
        self.task = asyncio.create_task(
            app.serve(self.source, ThingTranslator(), ServerConfig((self.address,), grace=0.5), self.stop)
        )

    async def ended(self) -> None:
        await asyncio.wait_for(self.task, TIMEOUT)


async def test_from_source_to_client(tmp_path: Path) -> None:
    frontend = Frontend(tmp_path)
    await frontend.source.queue.put(batch("n1", kind="Node", complete=False))
    await frontend.source.queue.put(batch("a", "b", complete=False))
    async with grpc.aio.insecure_channel(str(frontend.address)) as channel:
        watcher = Watcher(channel, "n1")
        await watcher.call.wait_for_connection()
        await watcher.ask()
        await frontend.source.queue.put(batch("c", deleted=("b",)))
        await watcher.answer()
        assert watcher.held == {"ns/a": b"zone", "ns/c": b"zone"}
        await watcher.ask()
        await frontend.source.queue.put(batch(deleted=("a",)))
        assert (await watcher.answer()).deletes == ["ns/a"]
    frontend.stop.set()
    await frontend.ended()
    assert not frontend.address.path.exists()


async def test_a_bug_in_translation_later_on_keeps_what_is_in_force(caplog: pytest.LogCaptureFixture) -> None:
    source, store = Told(), Store()
    feeding = asyncio.create_task(app.feed(source, ThingTranslator(), store))
    await source.queue.put(batch("a"))
    await source.queue.put(batch("bug"))
    await source.queue.put(batch("b"))
    await source.queue.put(None)
    with caplog.at_level(logging.ERROR):
        await asyncio.wait_for(feeding, TIMEOUT)
    assert len(store) == 2
    assert "could not be translated" in caplog.text


async def test_a_bug_in_translation_at_the_start_never_serves_a_part(tmp_path: Path) -> None:
    frontend = Frontend(tmp_path)
    await frontend.source.queue.put(batch("a", complete=False))
    await frontend.source.queue.put(batch("bug", complete=False))
    await frontend.source.queue.put(batch("b"))
    with pytest.raises(KeyError):
        await frontend.ended()


@pytest.mark.parametrize("end", [None, SourceError("gone")])
async def test_a_source_that_ends_is_a_failure(tmp_path: Path, end: Exception | None) -> None:
    frontend = Frontend(tmp_path)
    await frontend.source.queue.put(batch("a"))
    await frontend.source.queue.put(end)
    with pytest.raises(FrontendError, match="gone" if end else "has ended"):
        await frontend.ended()


async def test_an_address_in_use_ends_it(tmp_path: Path) -> None:
    first = Frontend(tmp_path)
    async with grpc.aio.insecure_channel(str(first.address)) as channel:
        await asyncio.wait_for(Watcher(channel, "n1").call.wait_for_connection(), TIMEOUT)
    with pytest.raises(ListenError):
        await Frontend(tmp_path).ended()
    first.stop.set()
    await first.ended()
