"""Status, put together: told of every batch, and writing while this frontend is the one writer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import suppress

from blixt_frontend.kubernetes.client import ApiError
from blixt_frontend.kubernetes.pace import Backoff, Pace
from blixt_frontend.source import Batch, ObjectKey
from blixt_frontend.status.api import Api, Discover, Paths
from blixt_frontend.status.board import KINDS, Board, Nodes
from blixt_frontend.status.election import Term
from blixt_frontend.status.objects import Objects
from blixt_frontend.status.peers import PeerConfig, Peers, Teller
from blixt_frontend.status.tasks import together
from blixt_frontend.status.wanted import FEATURES
from blixt_frontend.status.writer import Writer, WriterConfig
from blixt_frontend.translation.cluster import NamespacedName
from blixt_frontend.translation.options import CONTROLLER_NAME
from blixt_frontend.translation.results import GatewayResult

log = logging.getLogger(__name__)


class StatusReporter:
    """Every frontend observes, and tells the others of its nodes (`run`); the one with the lease also leads.

    `Elector(api, LeaseConfig(...)).run(reporter.lead)` does the rest. `nodes` is the gRPC server, `discover`
    is `partial(served_kinds, client)`.
    """

    def __init__(
        self,
        api: Api,
        discover: Discover,
        nodes: Nodes,
        peers: PeerConfig,
        *,
        controller: str = CONTROLLER_NAME,
        features: tuple[str, ...] = FEATURES,
        config: WriterConfig | None = None,
    ) -> None:
        self._api = api
        self._discover = discover
        self._nodes = nodes
        self._peers = peers
        self._config = config or WriterConfig()
        self._board = Board(controller, features)
        self._writer: Writer | None = None
        self._complaint = ""

    def observe(
        self,
        batch: Batch,
        gateways: Mapping[NamespacedName, GatewayResult],
        changed_units: Iterable[str],
        revision: int,
    ) -> None:
        """To be called for each batch after the store's transaction with it, without an await in between.

        `gateways` is the translator's, `changed_units` are the keys of what its `apply` returned, `revision`
        is the store's after the transaction.
        """
        self._board.observe(batch, gateways, changed_units, revision)

    def seen(self, key: ObjectKey, resource_version: str) -> None:
        """A watch told of this version of an object, whether or not anything that Blixt reads has changed.

        So what somebody else did to our conditions is put right at once, and not at the object's next change.
        """
        if self._writer is not None and key.kind in KINDS:
            self._writer.seen(key, resource_version)

    def definitions_changed(self) -> None:
        """Other kinds of the Gateway API are served than before, or other versions of them."""
        if self._writer is not None:
            self._writer.definitions_changed()

    async def run(self) -> None:
        """Hear what our own nodes have applied and, while another one leads, tell it; until cancelled."""
        teller = Teller(Peers(self._api, self._peers), self._peers)
        await together(self._hear(), teller.run(self._record))

    async def lead(self, term: Term) -> None:
        """Write what is to be written until it is cancelled. Raises LostLeaseError."""
        self._writer = writer = Writer(
            Objects(self._api, term), Paths(self._discover), self._board, self._config
        )
        self._board.told(None)
        try:
            await together(writer.run(), self._ask_others(term))
        finally:
            self._writer = None

    def _record(self) -> Set[str] | None:
        return self._board.applied if self._nodes.streams and self._writer is None else None

    async def _hear(self) -> None:
        while True:
            await self._board.lagging.wait()
            self._board.hear(self._nodes)
            await asyncio.sleep(self._config.listen)

    async def _ask_others(self, term: Term) -> None:
        """Often after a change of some Gateway, ever more seldom while it waits, and then not at all."""
        peers = Peers(self._api, self._peers)
        shortest, longest = self._config.ask
        pause = shortest
        while True:
            await self._board.waiting.wait()
            if self._board.unasked.is_set():
                pause = shortest
            self._board.told(await self._others(peers, term))
            await asyncio.sleep(shortest)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._board.unasked.wait()
            pause = min(2 * pause, longest)

    async def _others(self, peers: Peers, term: Term) -> Sequence[Set[str]]:
        """What other frontends' nodes have applied. Asked for until there is an answer."""
        backoff = Backoff(Pace(first=self._config.first, most=self._config.most))
        while True:
            try:
                return await peers.others(term)
            except ApiError as error:
                if error.status == 403:
                    self._complain(f"{error}; grant list of leases: until then our own nodes speak for all")
                    return ()
                self._complain(str(error))
                await asyncio.sleep(backoff.next(at_least=error.retry_after))

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self._complaint = text
            log.warning("what other frontends' nodes have applied can't be read: %s", text)
