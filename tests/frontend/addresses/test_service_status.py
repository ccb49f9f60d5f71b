"""What is written to Services, and when not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from blixt_fakes.until import until
from blixt_frontend.addresses import LoadBalancerWrite, service_status
from blixt_frontend.addresses.service_status import ServiceStatusWriter
from blixt_frontend.kubernetes.client import MERGE_PATCH, ApiError
from blixt_frontend.source import ObjectKey


def key(name: str) -> ObjectKey:
    return ObjectKey("Service", "shop", name)


def offer(*names: str, addresses: tuple[str, ...] = ("192.0.2.1",)) -> dict[ObjectKey, LoadBalancerWrite]:
    return {key(name): LoadBalancerWrite(key(name), f"uid-of-{name}", (), addresses) for name in names}


class Term:
    valid = True


class Api:
    """Remembers requests; answers with the errors it was given first."""

    def __init__(self, *errors: ApiError) -> None:
        self.requests: list[tuple[str, Any]] = []
        self.errors = list(errors)
        self.term = Term()
        self.answering = asyncio.Event()
        self.answering.set()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        assert (method, query, content_type) == ("PATCH", None, MERGE_PATCH)
        assert body is not None
        self.requests.append((path, json.loads(body)))
        await self.answering.wait()
        if self.errors:
            raise self.errors.pop(0)
        return b"{}"

    @property
    def names(self) -> list[str]:
        return [path.split("/")[-2] for path, _ in self.requests]


@asynccontextmanager
async def running(api: Api) -> AsyncIterator[ServiceStatusWriter]:
    writer = ServiceStatusWriter(api)
    async with leading(writer, api.term):
        yield writer


@asynccontextmanager
async def leading(writer: ServiceStatusWriter, term: Term) -> AsyncIterator[None]:
    task = asyncio.create_task(writer.run(term))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled() or task.exception() is None


async def idle() -> None:
    """Long enough for whatever could be done without waiting."""
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_status, "_FIRST_PAUSE", 0.001)


async def test_addresses_are_written_as_virtual_ips_of_that_very_service() -> None:
    api = Api()
    async with running(api) as writer:
        writer.offer(offer("web", addresses=("192.0.2.1", "2001:db8::1")))
        await until(lambda: bool(api.requests))
    ingress = [{"ip": "192.0.2.1", "ipMode": "VIP"}, {"ip": "2001:db8::1", "ipMode": "VIP"}]
    assert api.requests == [
        (
            "/api/v1/namespaces/shop/services/web/status",
            {"metadata": {"uid": "uid-of-web"}, "status": {"loadBalancer": {"ingress": ingress}}},
        )
    ]


async def test_what_was_written_is_not_written_again_before_it_is_seen() -> None:
    api = Api()
    async with running(api) as writer:
        for _ in range(3):
            writer.offer(offer("web"))
            await idle()
        assert api.names == ["web"]
        # It was seen, and then somebody undid it.
        writer.offer({})
        writer.offer(offer("web"))
        await until(lambda: api.names == ["web", "web"])


async def test_what_is_undone_before_it_was_seen_is_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_status, "_SHOWN_WITHIN", 0.01)
    api = Api()
    async with running(api) as writer:
        writer.offer(offer("web"))
        await until(lambda: len(api.requests) >= 3)
        writer.offer({})
        seen = len(api.requests)
        await asyncio.sleep(0.05)
        assert len(api.requests) == seen


async def test_something_else_is_written_at_once() -> None:
    api = Api()
    async with running(api) as writer:
        writer.offer(offer("web"))
        await until(lambda: len(api.requests) == 1)
        writer.offer(offer("web", addresses=()))
        await until(lambda: len(api.requests) == 2)
    assert api.requests[1][1]["status"] == {"loadBalancer": {"ingress": []}}


async def test_failures_are_tried_again_and_hold_up_nobody_else() -> None:
    api = Api(ApiError(500, "InternalError", "no"), ApiError(0, "Unreachable", "no"))
    async with running(api) as writer:
        writer.offer(offer("a", "b", "c"))
        await until(lambda: len(api.requests) == 5)
        await idle()
    assert sorted(api.names) == ["a", "a", "b", "b", "c"]


@pytest.mark.parametrize("error", [ApiError(404, "NotFound", "gone"), ApiError(422, "Invalid", "other uid")])
async def test_a_service_that_is_gone_is_not_tried_again(error: ApiError) -> None:
    api = Api(error)
    async with running(api) as writer:
        writer.offer(offer("web"))
        await until(lambda: bool(api.requests))
        await asyncio.sleep(0.02)
    assert api.names == ["web"]


async def test_what_was_offered_before_the_term_is_written_in_it() -> None:
    api = Api()
    writer = ServiceStatusWriter(api)
    writer.offer(offer("web"))
    await idle()
    assert not api.requests
    async with leading(writer, api.term):
        await until(lambda: api.names == ["web"])
    # Somebody else led meanwhile, and it still isn't as it should be.
    async with leading(writer, Term()):
        await until(lambda: api.names == ["web", "web"])


@pytest.mark.parametrize("lost", [True, False])
async def test_what_is_no_longer_right_to_write_is_not_written(lost: bool) -> None:
    """The lease is lost, or what was offered is withdrawn, while the first requests are under way."""
    api = Api()
    api.answering.clear()
    async with running(api) as writer:
        names = [f"s{i}" for i in range(100)]
        writer.offer(offer(*names))
        await until(lambda: len(api.requests) > 0)
        await idle()
        under_way = len(api.requests)
        assert under_way < 20
        if lost:
            api.term.valid = False
        else:
            writer.offer({})
        api.answering.set()
        await idle()
        assert len(api.requests) == under_way
