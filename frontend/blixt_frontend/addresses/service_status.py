"""Brings the addresses of Services of type LoadBalancer into their status."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol

from blixt_frontend.addresses.book import LoadBalancerWrite
from blixt_frontend.kubernetes.client import MERGE_PATCH, ApiError
from blixt_frontend.source import ObjectKey

log = logging.getLogger(__name__)

#: Requests at a time.
_WIDTH = 8
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 30.0
#: Gone; in conflict; invalid, which a uid that isn't the object's is. Soon again would be no better.
_FINAL = (404, 409, 422)
#: Seconds after which the watch has shown what was written, unless somebody has undone it before it could.
_SHOWN_WITHIN = 10.0


class Client(Protocol):
    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        """Raises ApiError."""


class Term(Protocol):
    """A time as the one frontend that writes."""

    @property
    def valid(self) -> bool:
        """Whether it lasts, at this very moment."""


class ServiceStatusWriter:
    """Writes what it is offered, on one event loop. Nothing that the API server says ends it.

    What was written and is still offered is not written again at once: the watch just hasn't shown it yet.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._offered: dict[ObjectKey, LoadBalancerWrite] = {}
        self._done: dict[ObjectKey, tuple[LoadBalancerWrite, float]] = {}  # with the time to doubt it
        self._wake = asyncio.Event()

    def offer(self, unwritten: Mapping[ObjectKey, LoadBalancerWrite]) -> None:
        """All that is to be written as of now (`AddressBook.unwritten`). Offer it after every change of it,
        whether or not this frontend leads."""
        if unwritten == self._offered:
            return
        self._offered = dict(unwritten)
        self._done = {key: done for key, done in self._done.items() if self._offered.get(key) == done[0]}
        self._wake.set()

    async def run(self, term: Term) -> None:
        """Write until cancelled, or until the term is over: then not one request more."""
        failures = 0
        self._done.clear()  # what was written in an earlier term, others may have undone
        self._wake.set()
        while term.valid:
            await self._something_to_do()
            self._wake.clear()
            asked_for = await self._write_all(term)
            if asked_for is None:
                failures = 0
                continue
            self._wake.set()
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**failures)
            failures = min(failures + 1, 10)
            # Spread, so that many who failed together don't come back together.
            await asyncio.sleep(max(asked_for, pause * random.uniform(0.5, 1.0)))  # noqa: S311 - no secret

    async def _something_to_do(self) -> None:
        doubted = min((time for _, time in self._done.values()), default=None)
        with suppress(TimeoutError):
            async with asyncio.timeout_at(doubted):
                await self._wake.wait()

    async def _write_all(self, term: Term) -> float | None:
        """One try for each. None: all is well; else the seconds that the server asks to wait, or 0."""
        now = asyncio.get_running_loop().time()
        self._done = {key: done for key, done in self._done.items() if done[1] > now}
        todo = iter([write for key, write in self._offered.items() if key not in self._done])
        pauses: list[float] = []

        async def work() -> None:
            for write in todo:
                if not term.valid:
                    return
                if self._offered.get(write.service) != write:
                    continue  # has changed while others were written
                pause = await self._write(write)
                if pause is not None:
                    pauses.append(pause)

        async with asyncio.TaskGroup() as group:
            for _ in range(_WIDTH):
                group.create_task(work())
        return max(pauses, default=None)

    async def _write(self, write: LoadBalancerWrite) -> float | None:
        """None: done, or nothing that trying again soon would help."""
        namespace, name = write.service.namespace, write.service.name
        path = f"/api/v1/namespaces/{namespace}/services/{name}/status"
        try:
            await self._client.request("PATCH", path, body=patch(write), content_type=MERGE_PATCH)
        except ApiError as error:
            if error.status != 404:  # else it is gone, and the watch will show it
                log.warning("the addresses of Service %s/%s can't be written: %s", namespace, name, error)
            if error.status not in _FINAL:
                return error.retry_after
        self._done[write.service] = write, asyncio.get_running_loop().time() + _SHOWN_WITHIN
        return None


def patch(write: LoadBalancerWrite) -> bytes:
    """A merge patch (RFC 7386), only for the object that was seen: its uid must be the same still."""
    ingress = [{"ip": address, "ipMode": "VIP"} for address in write.addresses]
    body: dict[str, object] = {"status": {"loadBalancer": {"ingress": ingress}}}
    if write.uid:
        body["metadata"] = {"uid": write.uid}
    return json.dumps(body).encode()
