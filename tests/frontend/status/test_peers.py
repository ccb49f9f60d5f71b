"""Nodes that watch another frontend than the one that writes: they count as its own do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from msgspec.structs import replace as replace_struct

from blixt_fake_api import Json, Request
from blixt_fakes.until import until
from blixt_frontend.kubernetes.client import ApiError
from blixt_frontend.status.peers import APPLIED_ANNOTATION, LABELS
from blixt_objects import gateway, gateway_class, listener
from blixt_status import PEERS, World, conditions

GC, GW = gateway_class(), gateway(listener())
LEASES = "/apis/coordination.k8s.io/v1/namespaces/blixt-system/leases"
THEIRS = replace(PEERS, identity="that")
RECORD, THEIR_RECORD = f"{LEASES}/{PEERS.name}", f"{LEASES}/{THEIRS.name}"


class Two:
    """Frontends of one cluster: `leader` writes."""

    def __init__(self) -> None:
        self.leader = World()
        self.other = World(api=self.leader.api, peers=THEIRS)
        self.api = self.leader.api

    async def apply(self, *objects: Any) -> None:
        await self.leader.apply(*objects)
        self.other.observe(*objects)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with self.other.following(), self.leader.leading():
            yield

    async def programmed(self) -> tuple[str, str]:
        return conditions(await self.leader.status(GW))["Programmed"]

    async def becomes(self, *wanted: str) -> None:
        for _ in range(1000):
            if conditions(await self.leader.status(GW)).get("Programmed") == wanted:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"expected {wanted}, got {await self.programmed()}")


@pytest.fixture
async def two() -> Two:
    made = Two()
    await made.apply(GC, GW)
    return made


def record(two: Two) -> Json | None:
    return two.api.objects.get(THEIR_RECORD)


async def test_programmed_waits_for_their_nodes(two: Two) -> None:
    two.leader.nodes.applied(two.leader.revision, "node-a")
    two.other.nodes.applied(0, "node-b")
    async with two.other.following():
        await until(lambda: record(two) is not None)
        async with two.leader.leading():
            await two.becomes("False", "Pending")
            two.other.nodes.applied(two.other.revision, "node-b")
            await two.becomes("True", "Programmed")


async def test_their_nodes_are_enough(two: Two) -> None:
    """Whichever frontend leads needs no node of its own."""
    two.other.nodes.applied(two.other.revision, "node-b")
    async with two.running():
        await two.becomes("True", "Programmed")


async def test_another_generation_waits_for_them_anew(two: Two) -> None:
    two.leader.nodes.applied(two.leader.revision, "node-a")
    two.other.nodes.applied(two.other.revision, "node-b")
    async with two.running():
        await two.becomes("True", "Programmed")
        changed = gateway(listener(), listener("more", 81))
        await two.apply(replace_struct(changed, metadata=replace_struct(changed.metadata, generation=4)))
        two.leader.nodes.applied(two.leader.revision, "node-a")
        await two.leader.settled()
        assert await two.programmed() == ("False", "Pending")
        two.other.nodes.applied(two.other.revision, "node-b")
        await two.becomes("True", "Programmed")


async def test_one_that_has_died_holds_nothing_up(two: Two) -> None:
    """It is told by its record's staying as it is, and the record goes."""
    two.leader.nodes.applied(two.leader.revision, "node-a")
    dead = {"holderIdentity": "dead", "leaseDurationSeconds": 1, "renewTime": "2020-01-01T00:00:00.000000Z"}
    two.api.put(f"{LEASES}/dead", {"spec": dead, "metadata": {"labels": LABELS}})
    async with two.leader.leading():
        await two.becomes("False", "Pending")
        await two.becomes("True", "Programmed")
        assert f"{LEASES}/dead" not in two.api.objects


async def test_one_that_lives_is_not_taken_for_dead(two: Two) -> None:
    two.leader.nodes.applied(two.leader.revision, "node-a")
    two.other.nodes.applied(0, "node-b")
    async with two.running():
        await until(lambda: record(two) is not None)
        await asyncio.sleep(1.5)  # longer than a record lives unrenewed
        assert record(two) is not None
        assert await two.programmed() == ("False", "Pending")


class TestTheRecord:
    async def test_is_there_while_nodes_watch(self, two: Two) -> None:
        async with two.other.following():
            await asyncio.sleep(0.1)
            assert record(two) is None
            two.other.nodes.applied(two.other.revision, "node-b")
            await until(lambda: bool(applied(two)))
            two.other.nodes.streams.clear()
            await until(lambda: record(two) is None)

    async def test_is_written_only_to_renew_it_once_it_is_right(self, two: Two) -> None:
        two.other.nodes.applied(two.other.revision, "node-b")
        async with two.other.following():
            await until(lambda: bool(applied(two)))
            two.api.requests.clear()
            await asyncio.sleep(0.35)  # three times the pause between renewals
            assert {request.path for request in two.api.requests} == {THEIR_RECORD}
            assert 1 <= len(two.api.requests) <= 4

    async def test_goes_at_the_end(self, two: Two) -> None:
        two.other.nodes.applied(two.other.revision, "node-b")
        async with two.other.following():
            await until(lambda: record(two) is not None)
        assert record(two) is None

    async def test_goes_when_its_frontend_leads(self, two: Two) -> None:
        two.other.nodes.applied(two.other.revision, "node-b")
        async with two.other.following():
            await until(lambda: record(two) is not None)
            async with two.other.leading():
                await until(lambda: record(two) is None)

    async def test_is_made_anew_when_it_was_taken_for_dead(self, two: Two) -> None:
        two.other.nodes.applied(two.other.revision, "node-b")
        async with two.other.following():
            await until(lambda: bool(applied(two)))
            del two.api.objects[THEIR_RECORD]
            await until(lambda: bool(applied(two)))

    @pytest.mark.parametrize("status", [0, 403, 500])
    async def test_is_written_in_the_end_whatever_fails(self, two: Two, status: int) -> None:
        two.other.nodes.applied(two.other.revision, "node-b")
        failures = iter(range(3))
        two.api.fault = lambda _: ApiError(status, "Odd", "no") if next(failures, None) is not None else None
        async with two.other.following():
            await until(lambda: bool(applied(two)))

    async def test_whose_answer_was_lost_is_found(self, two: Two) -> None:
        two.other.nodes.applied(0, "node-b")
        lost = iter([ApiError(0, "Unreachable", "reset")])
        two.api.lost = lambda request: next(lost, None) if request.method == "POST" else None
        async with two.other.following():
            await until(lambda: record(two) is not None)
            two.other.nodes.applied(two.other.revision, "node-b")
            await until(lambda: bool(applied(two)))


async def test_without_the_right_to_read_them_our_own_nodes_speak_for_all(two: Two, caplog: Any) -> None:
    two.leader.nodes.applied(two.leader.revision, "node-a")

    def fault(request: Request) -> ApiError | None:
        return ApiError(403, "Forbidden", "no") if request.path == LEASES else None

    two.api.fault = fault
    async with two.leader.leading():
        await two.becomes("True", "Programmed")
    [line] = [one.getMessage() for one in caplog.records if "Forbidden" in one.getMessage()]
    assert "grant list of leases" in line


def applied(two: Two) -> list[str]:
    found = record(two) or {}
    annotations = found.get("metadata", {}).get("annotations", {})
    return str(annotations.get(APPLIED_ANNOTATION, "")).split()
