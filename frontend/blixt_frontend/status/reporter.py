"""Status, put together: told of every batch, and writing while this frontend is the one writer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping

from blixt_frontend.source import Batch, ObjectKey
from blixt_frontend.status.api import Api, Discover, Paths
from blixt_frontend.status.board import Board, Nodes
from blixt_frontend.status.election import Term
from blixt_frontend.status.objects import Objects
from blixt_frontend.status.tasks import together
from blixt_frontend.status.writer import Writer, WriterConfig
from blixt_frontend.translation.cluster import NamespacedName
from blixt_frontend.translation.options import CONTROLLER_NAME
from blixt_frontend.translation.results import GatewayResult

log = logging.getLogger(__name__)


class StatusReporter:
    """Every frontend observes; the one that holds the lease also leads.

    `Elector(api, LeaseConfig(...)).run(reporter.lead)` does the rest. `nodes` is the gRPC server, `discover`
    is `partial(served_kinds, client)`.
    """

    def __init__(
        self,
        api: Api,
        discover: Discover,
        nodes: Nodes,
        *,
        controller: str = CONTROLLER_NAME,
        config: WriterConfig | None = None,
    ) -> None:
        self._api = api
        self._discover = discover
        self._nodes = nodes
        self._config = config or WriterConfig()
        self._board = Board(controller)
        self._writer: Writer | None = None

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
        if self._writer is not None:
            self._writer.seen(key, resource_version)

    def definitions_changed(self) -> None:
        """Other kinds of the Gateway API are served than before, or other versions of them."""
        if self._writer is not None:
            self._writer.definitions_changed()

    async def lead(self, term: Term) -> None:
        """Write what is to be written until it is cancelled. Raises LostLeaseError.

        Ends by itself if the status of some Gateway waits for nodes, and none watches this frontend: all of
        them may be with another one, which alone knows what they have applied.
        """
        self._writer = writer = Writer(
            Objects(self._api, term), Paths(self._discover), self._board, self._config
        )
        try:
            await together(writer.run(), self._listen(writer))
        finally:
            self._writer = None

    async def _listen(self, writer: Writer) -> None:
        loop = asyncio.get_running_loop()
        heard_of_nodes = loop.time()
        while True:
            await self._board.waiting.wait()
            self._board.hear(self._nodes)
            if self._nodes.streams or not writer.held_up:
                heard_of_nodes = loop.time()
            elif loop.time() > heard_of_nodes + self._config.patience:
                log.info("no node watches this frontend: another one may write status, if there is any")
                return
            await asyncio.sleep(self._config.listen)
