"""All that answers for this node's health, in the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_address

from blixt_backend.health import answers
from blixt_backend.health.checks import Check, Checks
from blixt_backend.health.connections import Pool
from blixt_backend.health.http import Request, Response
from blixt_backend.health.judgement import Judgement, Verdict
from blixt_backend.health.latency import Latency
from blixt_backend.health.listeners import Listeners
from blixt_backend.health.places import Place, everywhere
from blixt_backend.model import ChangeSet, PackedAddress

log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
#: How often the node's addresses are looked at, where not all of them are answered on.
_LOOK_SECONDS = 1.0

#: The addresses on which node ports answer; None: all.
Addresses = Callable[[], Collection[PackedAddress] | None]


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the node's own health is told."""

    places: tuple[Place, ...] = ()


class Health:
    """Hears of every apply, and answers whoever asks while `run` runs."""

    def __init__(self, settings: Settings, addresses: Addresses) -> None:
        self._addresses = addresses
        self._judgement = Judgement()
        self._latency = Latency()
        self._checks = Checks()
        #: Ports whose claims have changed since they were last looked at.
        self._touched: set[int] = set()
        #: Where each port is to be answered.
        self._open: dict[int, frozenset[Place]] = {}
        #: Ports and paths that were told that somebody else has the port.
        self._told: dict[int, set[str]] = {}
        self._known: frozenset[PackedAddress] | None = None
        self._wake = asyncio.Event()
        # Apart, so that nobody who knocks at one keeps others from the other.
        self._services = Listeners(Pool())
        self._node = Listeners(Pool())
        for place in settings.places:
            self._node.open(place, "--healthz-address", self._answer_of_node)

    # -- what the driver does ---------------------------------------------------------------------------

    def trying(self) -> None:
        """An apply begins."""
        self._judgement.trying(_now())

    def failed(self, reason: str) -> None:
        """It did not succeed."""
        self._judgement.failed(reason)

    def applied(self, change: ChangeSet) -> None:
        """The plane has this change in force, and with it all that came before."""
        self._judgement.applied(_now(), change.node.leaving)
        self._latency.applied(change, time.time_ns())
        self._touched |= self._checks.apply(change)
        self._wake.set()

    # -- what is answered -------------------------------------------------------------------------------

    def _answer_of_node(self, request: Request) -> Response:
        if request.path == "/metrics":
            return answers.metrics(request, self._latency.lines())
        return answers.of_node(request, self._verdict(), datetime.now(UTC))

    def _answer_of_service(self, port: int, version: int, request: Request) -> Response:
        return answers.of_service(request, self._checks.holder(port), version, self._verdict())

    def _verdict(self) -> Verdict:
        return self._judgement.verdict(_now())

    # -- where it listens -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Listen until cancelled."""
        try:
            while True:
                try:
                    await self._serve()
                except Exception as error:  # a mistake here must not stop what else the node does
                    log.error("health checks failed: %s; going on", error, exc_info=error)
                await asyncio.sleep(_RETRY_SECONDS)
        finally:
            self._services.close()
            self._node.close()

    async def _serve(self) -> None:
        while True:
            self._wake.clear()
            self._look()
            await self._node.settle()
            await self._services.settle()
            due = min(self._node.due, self._services.due)
            if self._known is not None:
                due = min(due, _now() + _LOOK_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._wake.wait()

    def _look(self) -> None:
        """Decide where to listen for what has changed."""
        addresses = self._addresses()
        known = None if addresses is None else frozenset(addresses)
        if known != self._known:
            self._known = known
            self._touched |= set(self._checks.ports)
        while self._touched:
            port = self._touched.pop()
            check = self._checks.holder(port)
            self._arrange(port, check)
            self._report(port, check)

    def _arrange(self, port: int, check: Check | None) -> None:
        before = self._open.pop(port, frozenset())
        wanted = frozenset[Place]() if check is None else self._places(port)
        for place in before - wanted:
            self._services.shut(place)
        if check is None or not wanted:
            return
        self._open[port] = wanted
        for place in wanted:
            answer = partial(self._answer_of_service, port, place.version)
            self._services.open(place, f"{check.path}: health check node port", answer)

    def _places(self, port: int) -> frozenset[Place]:
        if self._known is None:
            return frozenset(everywhere(port))
        return frozenset(Place(str(ip_address(bytes(address))), port) for address in self._known)

    def _report(self, port: int, check: Check | None) -> None:
        losers = set(self._checks.losers(port))
        for path in sorted(losers - self._told.get(port, set())):
            log.warning(
                "%s: its health check node port %d is answered for %s, which had it before; "
                "give one of them another", path, port, check and check.path,
            )  # fmt: skip
        if losers:
            self._told[port] = losers
        else:
            self._told.pop(port, None)


def _now() -> float:
    return asyncio.get_running_loop().time()
