"""The frontend on a cluster: its objects come from the API server, and their status goes back there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from functools import partial

from blixt_frontend.addresses import AddressBook, Pools
from blixt_frontend.addresses.nudge import Nudged
from blixt_frontend.addresses.service_status import ServiceStatusWriter
from blixt_frontend.app import run
from blixt_frontend.kubernetes import ApiClient, InCluster, Kubeconfig, KubernetesSource
from blixt_frontend.kubernetes.discovery import served_kinds
from blixt_frontend.server import Server, ServerConfig
from blixt_frontend.source import Batch, ObjectKey
from blixt_frontend.status import (
    FEATURES,
    FEATURES_WITH_POOLS,
    Elector,
    LeaseConfig,
    PeerConfig,
    StatusReporter,
    Term,
    own_identity,
)
from blixt_frontend.status.tasks import together
from blixt_frontend.translation.cluster import NamespacedName
from blixt_frontend.translation.results import GatewayResult
from blixt_frontend.translator import Translator

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 5.0


class ClusterStatus:
    """Status of Gateways, routes and Services: one of all frontends that share the lease decides and writes.

    Who leads also gives out addresses; the others take what the status says.
    """

    def __init__(
        self, client: ApiClient, server: Server, lease: LeaseConfig, book: AddressBook, source: Nudged
    ) -> None:
        peers = PeerConfig(lease.namespace, lease.identity)
        features = FEATURES_WITH_POOLS if book.has_pools else FEATURES
        self._gateways = StatusReporter(
            client, partial(served_kinds, client), server, peers, features=features
        )
        self._services = ServiceStatusWriter(client)
        self._elector = Elector(client, lease)
        self._book = book
        self._source = source

    def observe(
        self,
        batch: Batch,
        gateways: Mapping[NamespacedName, GatewayResult],
        changed_units: Iterable[str],
        revision: int,
    ) -> None:
        self._gateways.observe(batch, gateways, changed_units, revision)
        self._services.offer(self._book.unwritten)

    def seen(self, key: ObjectKey, resource_version: str) -> None:
        self._gateways.seen(key, resource_version)

    def definitions_changed(self) -> None:
        self._gateways.definitions_changed()

    async def run(self) -> None:
        """Campaign and, while elected, write, until cancelled. Nodes are served whatever comes of it."""
        while True:
            try:
                await together(self._elector.run(self._lead), self._gateways.run())
            except Exception:
                log.exception("writing status failed; beginning anew in %.0f s", _PAUSE_SECONDS)
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _lead(self, term: Term) -> None:
        self._decide(True)
        try:
            await together(self._gateways.lead(term), self._services.run(term))
        finally:
            self._decide(False)

    def _decide(self, leading: bool) -> None:
        self._book.leading = leading
        self._source.nudge()


async def run_on_cluster(
    way: Kubeconfig | InCluster, config: ServerConfig, pools: Pools, lease_namespace: str
) -> None:
    """As app.run, with objects of a cluster. Raises FrontendError."""
    lease = LeaseConfig(lease_namespace, own_identity())
    book = AddressBook(pools, leading=False)
    async with ApiClient(way) as client:
        objects = KubernetesSource(client)
        source = Nudged(objects)

        def status_of(server: Server) -> ClusterStatus:
            objects.observer = status = ClusterStatus(client, server, lease, book, source)
            return status

        await run(source, Translator(addresses=book), config, status_of)
