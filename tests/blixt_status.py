"""Status without a cluster: translated objects, nodes that apply them at will, an API server in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec

from blixt_fake_api import FakeApi, Json
from blixt_fakes.until import until
from blixt_frontend.kubernetes.kinds import GATEWAY, Kind
from blixt_frontend.objects import Object
from blixt_frontend.source import Batch, ObjectKey
from blixt_frontend.status import FEATURES, PeerConfig, StatusReporter, Term, WriterConfig
from blixt_frontend.status.api import DEFINITIONS, Paths
from blixt_frontend.status.bundle import BUNDLE_VERSION_ANNOTATION, NAMES
from blixt_frontend.status.tasks import together
from blixt_frontend.store import Store
from blixt_frontend.translator import Translator

LATEST = {kind: kind.versions[0] for kind in GATEWAY}
FAST = WriterConfig(
    settle=0.001, first=0.001, most=0.01, refused=0.0, page=2, listen=0.002, ask=(0.0005, 0.02)
)
PEERS = PeerConfig("blixt-system", "this", duration=1, renew_every=0.1, look=0.002)


@dataclass
class FakeNodes:
    """Nodes that watch, and what they have applied."""

    streams: dict[str, int] = field(default_factory=dict)
    acknowledged: dict[str, int] = field(default_factory=dict)

    def applied(self, revision: int, *nodes: str) -> None:
        for node in nodes:
            self.streams[node] = 1
            self.acknowledged[node] = revision


class World:
    """A cluster whose objects are translated, stored and reported on, as the frontend does it."""

    def __init__(
        self,
        served: Mapping[Kind, str] = LATEST,
        config: WriterConfig = FAST,
        api: FakeApi | None = None,
        peers: PeerConfig = PEERS,
        features: tuple[str, ...] = FEATURES,
    ) -> None:
        self.api = api or FakeApi()
        self.nodes = FakeNodes()
        self.served = dict(served)
        self.discoveries = 0
        #: What the next batches say of kinds that only status needs.
        self.unread: Mapping[str, str] | None = None
        self.reporter = StatusReporter(
            self.api, self.discover, self.nodes, peers, features=features, config=config
        )
        self._translator = Translator()
        self._store = Store()
        self._paths = Paths(self.discover)
        self.install("v1.6.1")

    async def discover(self) -> Mapping[Kind, str]:
        self.discoveries += 1
        return self.served

    @property
    def revision(self) -> int:
        return self._store.revision

    def install(self, version: str | None) -> None:
        """The Gateway API's definitions; None: without their annotation."""
        for name in NAMES:
            annotations = {} if version is None else {BUNDLE_VERSION_ANNOTATION: version}
            self.api.put(f"{DEFINITIONS}/{name}", {"metadata": {"annotations": annotations}})

    async def apply(self, *objects: Object, gone: Iterable[ObjectKey] = ()) -> None:
        """Objects are created or changed on the server, and the frontend hears of it."""
        for obj in objects:
            if (path := await self.path(obj.key)) is not None:
                before = self.api.objects.get(path, {})
                value = json.loads(msgspec.json.encode(obj))
                self.api.put(path, before | value | {"status": before.get("status", {})})
        for key in gone:
            if (path := await self.path(key)) is not None:
                self.api.objects.pop(path, None)
        self.observe(*objects, gone=gone)

    def observe(self, *objects: Object, gone: Iterable[ObjectKey] = ()) -> None:
        """The frontend hears of them."""
        batch = Batch(objects, tuple(gone), complete=True, unread=self.unread)
        units = self._translator.apply(batch)
        with self._store.transaction():
            for unit, items in units.items():
                self._store.replace(unit, items)
        self.reporter.observe(batch, self._translator.gateways, units, self._store.revision)

    async def path(self, key: ObjectKey) -> str | None:
        return await self._paths.of(key) if any(kind.name == key.kind for kind in GATEWAY) else None

    async def stored(self, obj: Object) -> Json:
        path = await self.path(obj.key)
        assert path is not None
        return self.api.objects[path]

    async def status(self, obj: Object) -> Json:
        found = (await self.stored(obj)).get("status", {})
        assert isinstance(found, dict)
        return found

    @asynccontextmanager
    async def leading(self, seconds: float = 3600) -> AsyncIterator[Term]:
        """This frontend is the one writer."""
        term = Term(asyncio.get_running_loop().time() + seconds)
        async with self._doing(together(self.reporter.run(), self.reporter.lead(term))):
            yield term

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Another frontend is."""
        async with self._doing(self.reporter.run()):
            yield

    @asynccontextmanager
    async def _doing(self, what: Coroutine[None, None, None]) -> AsyncIterator[None]:
        task = asyncio.ensure_future(what)
        try:
            yield
            if task.done():
                task.result()
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task

    async def settled(self, looks: int = 10) -> None:
        """Nothing more comes for a while that is long against all pauses."""
        quiet, before = 0, -1
        while quiet < looks:
            await asyncio.sleep(0.01)
            # While a Gateway waits, other frontends' records are looked at again and again.
            now = sum("/leases" not in request.path for request in self.api.requests)
            quiet, before = (quiet + 1 if now == before else 0), now


def conditions(status: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """(status, reason) by type."""
    return {one["type"]: (one["status"], one["reason"]) for one in status.get("conditions", [])}


__all__ = ["FAST", "LATEST", "PEERS", "FakeNodes", "World", "conditions", "until"]
