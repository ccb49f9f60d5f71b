"""What the nodes of other frontends have applied.

Each frontend that nodes watch, but for the one that leads, has a record: a Lease of its own, with digests
of the configurations (see programming) that all of its nodes have applied. The leader reads the records
while some Gateway waits. A frontend without nodes has none, and takes it away at its end. One that has died
is known by its record's staying the same for as long as it says, by the reader's own clock, as in an
election.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import NamedTuple, Never

import msgspec

from blixt_frontend.kubernetes.client import MERGE_PATCH, ApiError
from blixt_frontend.status.api import Api
from blixt_frontend.status.election import Term
from blixt_frontend.status.leases import COLLECTION, Lease, LeaseMetadata, LeaseSpec, micro_time

log = logging.getLogger(__name__)

APPLIED_ANNOTATION = "blixt.dev/applied"
LABELS = {"app.kubernetes.io/name": "blixt-frontend", "app.kubernetes.io/component": "nodes"}
_SELECTOR = ",".join(f"{name}={value}" for name, value in LABELS.items())
#: Seconds that taking the own record away may take at the end.
_FAREWELL = 2.0


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """Times are in seconds; renew_every < duration."""

    namespace: str
    #: This frontend's, unlike any other's.
    identity: str
    duration: int = 15
    renew_every: float = 5.0
    #: Between two looks at whether there is something else to tell.
    look: float = 0.1
    #: The same while nothing is to be told at all, as while this frontend leads: most do that all day.
    idle: float = 1.0

    @property
    def name(self) -> str:
        return "blixt-frontend-" + hashlib.blake2b(self.identity.encode(), digest_size=8).hexdigest()


class RecordMetadata(LeaseMetadata):
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class Record(Lease):
    metadata: RecordMetadata

    @property
    def applied(self) -> frozenset[str]:
        return frozenset(((self.metadata.annotations or {}).get(APPLIED_ANNOTATION) or "").split())


class _Records(msgspec.Struct):
    items: list[Record] | None = None


class _Sign(NamedTuple):
    """Of life."""

    renewed: str | None
    at: float  # when it was first seen, in the loop's time


class Peers:
    """The records of all frontends of one namespace."""

    def __init__(self, api: Api, config: PeerConfig) -> None:
        self._api = api
        self._config = config
        self._path = COLLECTION.format(namespace=config.namespace)
        self._signs: dict[str, _Sign] = {}  # by the record's name

    async def others(self, term: Term) -> list[frozenset[str]]:
        """What each other frontend that has nodes says they have all applied. Takes dead ones' records away.

        Raises ApiError and LostLeaseError.
        """
        answer = await self._api.request("GET", self._path, query={"labelSelector": _SELECTOR})
        try:
            records = msgspec.json.decode(answer, type=_Records).items or ()
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ApiError(0, "Unreachable", f"no API server's answer: {error}") from error
        others = [one for one in records if one.spec.holder_identity != self._config.identity]
        dead = [one for one in others if self._is_dead(one)]
        self._signs = {one.metadata.name: self._signs[one.metadata.name] for one in others}
        for one in dead:
            term.check()
            await self._remove(one)
        return [one.applied for one in others if one not in dead]

    def _is_dead(self, record: Record) -> bool:
        now, renewed = asyncio.get_running_loop().time(), record.spec.renew_time
        sign = self._signs.get(record.metadata.name)
        if sign is None or sign.renewed != renewed:
            sign = self._signs[record.metadata.name] = _Sign(renewed, now)
        return now >= sign.at + (record.spec.lease_duration_seconds or self._config.duration)

    async def _remove(self, record: Record) -> None:
        """Unless it has changed meanwhile: then it is looked at again the next time."""
        precondition = {"preconditions": {"resourceVersion": record.metadata.resource_version}}
        await self._delete(record.metadata.name, msgspec.json.encode(precondition))
        log.info("frontend %s has gone; its nodes count no more", record.spec.holder_identity)

    async def tell(self, is_new: bool, applied: Set[str]) -> None:
        """Write this frontend's record. Raises ApiError."""
        config = self._config
        record = Record(
            RecordMetadata(
                config.name,
                config.namespace,
                labels=LABELS,
                annotations={APPLIED_ANNOTATION: " ".join(sorted(applied))},
            ),
            LeaseSpec(config.identity, config.duration, renew_time=micro_time()),
        )
        body = msgspec.json.encode(record)
        if is_new:
            await self._api.request("POST", self._path, body=body)
        else:
            await self._api.request(
                "PATCH", f"{self._path}/{config.name}", body=body, content_type=MERGE_PATCH
            )

    async def withdraw(self) -> None:
        """Take this frontend's record away. Raises ApiError."""
        await self._delete(self._config.name)

    async def _delete(self, name: str, body: bytes | None = None) -> None:
        try:
            await self._api.request("DELETE", f"{self._path}/{name}", body=body)
        except ApiError as error:
            if error.status not in (404, 409):
                raise


class Teller:
    """Keeps this frontend's record true."""

    def __init__(self, peers: Peers, config: PeerConfig) -> None:
        self._peers = peers
        self._config = config
        self._told: Set[str] | None = None  # what the record says; None: there is none
        self._told_at = 0.0
        self._complaint = ""

    async def run(self, wanted: Callable[[], Set[str] | None]) -> Never:
        """Until cancelled. `wanted`: what the record should say now; None: there should be none."""
        try:
            while True:
                now = wanted()
                try:
                    await self._bring_to(now)
                    self._complaint = ""
                except ApiError as error:
                    self._complain(error)
                    await asyncio.sleep(max(error.retry_after, self._config.renew_every / 5))
                await asyncio.sleep(self._config.idle if now is None else self._config.look)
        finally:
            await self._say_farewell()

    async def _bring_to(self, wanted: Set[str] | None) -> None:
        now = asyncio.get_running_loop().time()
        if wanted is None:
            if self._told is not None:
                await self._peers.withdraw()
                self._told = None
        elif wanted != self._told or now >= self._told_at + self._config.renew_every:
            said = frozenset(wanted)
            try:
                await self._peers.tell(self._told is None, said)
            except ApiError as error:
                # Taken for dead, or there from a request whose answer was lost.
                if error.status == 404 and self._told is not None:
                    self._told = None
                elif error.status == 409 and self._told is None:
                    self._told = frozenset()
                raise
            self._told, self._told_at = said, now

    async def _say_farewell(self) -> None:
        if self._told is None:
            return
        try:
            async with asyncio.timeout(_FAREWELL):
                await self._peers.withdraw()
        except (ApiError, TimeoutError):
            log.debug("the record of this frontend's nodes stays until it expires")

    def _complain(self, error: ApiError) -> None:
        if error.status not in (404, 409) and error.reason != self._complaint:
            self._complaint = error.reason
            log.warning("what our nodes have applied can't be told to other frontends: %s", error)
