"""What a check works with: the lab, the plane on its node, and questions to services."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from blixt_backend.model import Protocol, ServiceView
from blixt_backend.planes.capabilities import Capability
from blixt_backend.testing.host import Host
from blixt_backend.testing.lab import Lab
from blixt_backend.testing.process import PlaneProcess
from blixt_backend.testing.services import CLUSTER, Kind, Pair, difference, everything
from blixt_backend.testing.traffic import Conversation, TalkError, Target, ask, converse

#: Seconds until something counts as never answered: where an answer is expected, and where none is.
PATIENCE: Final = 5.0
IMPATIENCE: Final = 0.7

_PROTOCOLS = {Capability.TCP: Protocol.TCP, Capability.UDP: Protocol.UDP}
_VERSIONS = {Capability.IPV4: 4, Capability.IPV6: 6}


class Kit:
    """One plane in one lab. Each check begins with `begin`."""

    def __init__(
        self, lab: Lab, plane: str, options: Sequence[str], capabilities: frozenset[Capability]
    ) -> None:
        self.lab = lab
        self.capabilities = capabilities
        #: The kinds of traffic that the plane claims.
        self.kinds = [
            Kind(protocol, version)
            for claimed, protocol in _PROTOCOLS.items()
            for also, version in _VERSIONS.items()
            if claimed in capabilities and also in capabilities
        ]
        self._plane = plane
        self._options = tuple(options)
        self._process: PlaneProcess | None = None
        self._desired: dict[str, ServiceView] = {}

    def claims(self, capability: Capability) -> bool:
        return capability in self.capabilities

    # -- the plane --------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Have the plane run, with no services."""
        if self._process is None or not self._process.running:
            await self.start()
        await self.resync()

    async def start(self) -> None:
        """Start the plane in a new process, with nothing applied yet."""
        self._process = PlaneProcess(self.lab.node, self._plane, self._options)
        await self._process.start()

    async def apply(self, *views: ServiceView) -> None:
        """Let these be all services, told as what differs."""
        desired = {view.service.path: view for view in views}
        change, self._desired = difference(self._desired, desired), desired
        await self._running().apply(change)

    async def resync(self, *views: ServiceView) -> None:
        """Let these be all services, told as after a start."""
        self._desired = {view.service.path: view for view in views}
        await self._running().apply(everything(self._desired))

    async def stop(self) -> None:
        await self._running().stop()

    def kill(self) -> None:
        self._running().kill()

    async def cleanup(self) -> None:
        """Have a new process take away all that the plane put on the node."""
        if self._process is not None and self._process.running:
            self._process.kill()
        await PlaneProcess(self.lab.node, self._plane, self._options).cleanup()

    def _running(self) -> PlaneProcess:
        assert self._process, "the plane was not started"
        return self._process

    # -- traffic ----------------------------------------------------------------------------------------

    async def outcome(self, host: Host, target: Target, patience: float = PATIENCE) -> str:
        """Who answers one question over a connection of its own, or why nobody does."""
        try:
            return (await ask(target, patience=patience, make=host.socket)).server
        except TalkError as error:
            return error.reason

    async def outcomes(self, host: Host, pair: Pair = CLUSTER, patience: float = PATIENCE) -> dict[Kind, str]:
        """The same for each kind of traffic."""
        return {kind: await self.outcome(host, pair.target(kind), patience) for kind in self.kinds}

    async def spread(self, host: Host, target: Target, count: int) -> Counter[str]:
        """The outcomes of many connections, one after the other."""
        return Counter([await self.outcome(host, target, IMPATIENCE) for _ in range(count)])

    async def seen(self, host: Host, target: Target) -> str:
        """The client's address as the server saw it. Raises TalkError."""
        return (await ask(target, patience=PATIENCE, make=host.socket)).client

    @contextlib.asynccontextmanager
    async def conversation(self, host: Host, target: Target) -> AsyncIterator[Conversation]:
        """A connection that stays open. Raises TalkError."""
        async with converse(target, PATIENCE, make=host.socket) as opened:
            yield opened

    # -- verdicts ---------------------------------------------------------------------------------------

    def expect(self, what: str, got: Mapping[Kind, str], wanted: str | set[str]) -> None:
        """Every kind of traffic must have (one of) the wanted outcomes."""
        among = {wanted} if isinstance(wanted, str) else wanted
        wrong = {str(kind): outcome for kind, outcome in got.items() if outcome not in among}
        if wrong:
            raise AssertionError(f"{what}: {wrong}; wanted {' or '.join(sorted(among))}")

    def expect_nobody(self, what: str, got: Mapping[Kind, str]) -> None:
        """No kind of traffic may be answered, however that is told to the client."""
        names = {host.name for host in self.lab.hosts}
        wrong = {str(kind): outcome for kind, outcome in got.items() if outcome in names}
        if wrong:
            raise AssertionError(f"{what}: answered, by {wrong}")


async def answer(conversation: Conversation, patience: float = PATIENCE) -> str:
    """Who answers the next question of an open conversation, or why nobody does."""
    try:
        return (await conversation.ask("again", patience)).server
    except TalkError as error:
        return error.reason


@dataclass(frozen=True, slots=True)
class Check:
    """One behaviour, expected of planes that claim all of `claims`."""

    name: str
    text: str
    claims: frozenset[Capability]
    run: Callable[[Kit], Awaitable[None]]
    #: What is checked, of those; the rest is only needed.
    of: Capability | None = field(default=None)

    def not_claimed(self, capabilities: frozenset[Capability]) -> list[Capability]:
        """What a plane of these capabilities would have to claim besides, in the order of the enum."""
        return [each for each in Capability if each in self.claims - capabilities]


def check(
    of: Capability | None = None, *needs: Capability
) -> Callable[[Callable[[Kit], Awaitable[None]]], Check]:
    """Make a check of a function: of one capability, for planes that claim it and all that it needs."""

    def made(run: Callable[[Kit], Awaitable[None]]) -> Check:
        name: str = run.__name__
        claims = frozenset(needs) if of is None else frozenset((of, *needs))
        return Check(name, run.__doc__ or name, claims, run, of)

    return made
