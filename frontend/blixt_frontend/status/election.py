"""One writer among many frontends, by a Lease (coordination.k8s.io/v1).

The rules are those of client-go's leaderelection: who holds the lease renews it well within its duration,
and everyone else waits until it has not changed for that long by their own clock, as clocks of machines
differ. Whoever can't renew stops `renew_within` seconds after the last request that did was sent, before
anyone else may begin.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Never

import msgspec

from blixt_frontend.kubernetes.client import MERGE_PATCH, ApiError
from blixt_frontend.status.api import Api
from blixt_frontend.status.leases import COLLECTION, Lease, LeaseMetadata, LeaseSpec, micro_time

log = logging.getLogger(__name__)

_CONFLICT, _NOT_FOUND = 409, 404
#: How long whoever gave the lease up leaves it to others, in times that each of them looks at it.
_TURNS_LEFT_OUT = 3


@dataclass(frozen=True, slots=True)
class LeaseConfig:
    """Seconds; renew_every < renew_within < duration."""

    namespace: str
    identity: str
    name: str = "blixt-frontend"
    duration: int = 15
    renew_within: float = 10.0
    renew_every: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.renew_every < self.renew_within < self.duration:
            raise ValueError("a lease needs 0 < renew_every < renew_within < duration")


def own_identity() -> str:
    """Unlike anybody else's, also unlike that of an earlier process of the same pod."""
    return f"{socket.gethostname()}_{uuid.uuid4()}"


class LostLeaseError(Exception):
    """Somebody else may write now."""


class Term:
    """A time as the one writer. Ends by itself unless it is prolonged."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline  # in the loop's time

    @property
    def valid(self) -> bool:
        return asyncio.get_running_loop().time() < self.deadline

    def check(self) -> None:
        """To be called before every write, without an await in between. Raises LostLeaseError.

        A process that was stopped for a while must notice before its timers do.
        """
        if not self.valid:
            raise LostLeaseError


class Elector:
    """Campaigns for the lease as long as it runs."""

    def __init__(self, api: Api, config: LeaseConfig) -> None:
        self._api = api
        self._config = config
        self._path = COLLECTION.format(namespace=config.namespace)
        self._lease: Lease | None = None  # as last seen
        self._seen_at = 0.0  # when it last changed, in the loop's time

    async def run(self, lead: Callable[[Term], Awaitable[None]]) -> Never:
        """`lead` runs while the lease is held, and is cancelled when it is lost.

        If it fails or ends, the lease is given up, and campaigned for again. When cancelled, this gives the
        lease up for the next one to take.
        """
        while True:
            term = await self._acquire()
            log.info("this frontend writes status from now on (lease %s)", self._config.name)
            leading = asyncio.ensure_future(lead(term))
            try:
                await self._hold(term, leading)
                gave_up = leading.done()
            finally:
                await _end(leading)
                await self._release(term)
                log.info("this frontend no longer writes status")
            for _ in range(_TURNS_LEFT_OUT if gave_up else 1):
                await self._pause()

    async def _acquire(self) -> Term:
        failed = False
        while True:
            try:
                # Not beyond a renewal's time: a hanging server must not make it an old term.
                async with asyncio.timeout(self._config.renew_within):
                    if (term := await self._try()) is not None:
                        return term
                failed = False
            except (ApiError, TimeoutError, msgspec.DecodeError) as error:
                if not failed:
                    log.warning("the lease %s can't be had: %s", self._config.name, error or "no answer")
                failed = True
            await self._pause()

    async def _try(self) -> Term | None:
        lease = await self._look()
        if lease is None:
            return await self._take(Lease(LeaseMetadata(self._config.name, self._config.namespace)))
        # Our own: the answer to the request that took it was lost.
        free = lease.spec.holder_identity in ("", None, self._config.identity)
        if not free and not self._expired(lease):
            return None
        return await self._take(lease)

    def _expired(self, lease: Lease) -> bool:
        duration = lease.spec.lease_duration_seconds or self._config.duration
        return asyncio.get_running_loop().time() >= self._seen_at + duration

    async def _look(self) -> Lease | None:
        try:
            answer = await self._api.request("GET", f"{self._path}/{self._config.name}")
        except ApiError as error:
            if error.status == _NOT_FOUND:
                return None
            raise
        lease = msgspec.json.decode(answer, type=Lease)
        if self._lease is None or lease.spec != self._lease.spec:
            self._seen_at = asyncio.get_running_loop().time()
        self._lease = lease
        return lease

    async def _take(self, lease: Lease) -> Term | None:
        now = micro_time()
        spec = LeaseSpec(
            self._config.identity, self._config.duration, now, now, (lease.spec.lease_transitions or 0) + 1
        )
        try:
            return Term(await self._write(Lease(lease.metadata, spec)))
        except ApiError as error:
            if error.status == _CONFLICT:
                return None  # somebody was faster
            raise

    async def _hold(self, term: Term, leading: asyncio.Future[None]) -> None:
        """Until the lease is lost, or `leading` has ended."""
        loop = asyncio.get_running_loop()
        while True:
            rest = term.deadline - loop.time()
            if rest <= 0:
                log.error("the lease %s could not be renewed", self._config.name)
                return
            await asyncio.wait({leading}, timeout=min(self._config.renew_every, rest))
            if leading.done():
                return
            try:
                async with asyncio.timeout_at(term.deadline):
                    await self._renew(term)
            except LostLeaseError:
                log.error("the lease %s was taken by somebody else", self._config.name)
                term.deadline = loop.time()
                return
            except (ApiError, TimeoutError, msgspec.DecodeError) as error:
                log.warning("renewing the lease %s failed: %s", self._config.name, error or "no answer")

    async def _renew(self, term: Term) -> None:
        lease = self._lease
        if lease is None:
            raise LostLeaseError
        spec = msgspec.structs.replace(lease.spec, renew_time=micro_time())
        try:
            term.deadline = await self._write(Lease(lease.metadata, spec))
        except ApiError as error:
            if error.status not in (_CONFLICT, _NOT_FOUND):
                raise
            # Perhaps our own last request went through though its answer was lost.
            now = await self._look()
            if now is None or now.spec.holder_identity != self._config.identity:
                raise LostLeaseError from error

    async def _write(self, lease: Lease) -> float:
        """The time until which it makes us the writer. Refused (409) if the lease is another by now."""
        sent = asyncio.get_running_loop().time()
        body = msgspec.json.encode(lease)
        if lease.metadata.resource_version:
            path = f"{self._path}/{lease.metadata.name}"
            # A patch, so that labels and owners that somebody gave it stay.
            answer = await self._api.request("PATCH", path, body=body, content_type=MERGE_PATCH)
        else:
            answer = await self._api.request("POST", self._path, body=body)
        self._lease = msgspec.json.decode(answer, type=Lease)
        self._seen_at = sent
        return sent + self._config.renew_within

    async def _release(self, term: Term) -> None:
        """Let the next one begin at once. If that fails, it begins when the lease expires."""
        lease = self._lease
        if lease is None or not term.valid:
            return
        spec = msgspec.structs.replace(
            lease.spec, holder_identity="", lease_duration_seconds=1, renew_time=micro_time()
        )
        try:
            async with asyncio.timeout_at(term.deadline):
                await self._write(Lease(lease.metadata, spec))
        except (ApiError, TimeoutError, msgspec.DecodeError) as error:
            log.warning("giving up the lease %s failed: %s", self._config.name, error or "no answer")

    async def _pause(self) -> None:
        await asyncio.sleep(self._config.renew_every * random.uniform(0.8, 1.2))  # noqa: S311  # jitter, not a secret


async def _end(leading: asyncio.Future[None]) -> None:
    leading.cancel()
    await asyncio.wait({leading})
    error = None if leading.cancelled() else leading.exception()
    if error is not None and not isinstance(error, LostLeaseError):
        log.error("writing status failed", exc_info=error)
