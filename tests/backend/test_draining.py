"""Leftovers of other planes: held, drained, followed, and removed at their end; whatever fails meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

import pytest

from blixt_backend.model import ChangeSet, Service, ServiceView
from blixt_backend.planes.base import PlaneError
from blixt_backend.planes.draining import Draining, Pace
from blixt_backend.planes.leftover import Leftover
from blixt_fakes.until import until

QUICK = Pace(look=0.001, times=0, again=0.001)


class Fake(Leftover):
    """Remembers what it was told; `fails` names calls that raise, so many times."""

    plane: ClassVar[str] = "fake"

    def __init__(self, left: int = 1, there: bool = True, fails: dict[str, int] | None = None) -> None:
        self.left = left
        self.there = there
        self.fails = fails or {}
        self.calls: list[str] = []
        self.told: list[ChangeSet] = []

    def _called(self, name: str) -> None:
        if name != "flows":
            self.calls.append(name)
        if self.fails.get(name, 0):
            self.fails[name] -= 1
            raise PlaneError(f"{name} fails")

    async def hold(self) -> bool:
        self._called("hold")
        return self.there

    async def drain(self) -> None:
        self._called("drain")

    async def follow(self, change: ChangeSet) -> None:
        self._called("follow")
        self.told.append(change)

    async def flows(self) -> int:
        self._called("flows")
        return self.left

    async def remove(self) -> None:
        self._called("remove")

    async def release(self) -> None:
        self._called("release")


def change(*names: str, removed: str = "", desired: str = "", resync: bool = False) -> ChangeSet:
    """Names are single letters."""
    made = {f"default/{name}": ServiceView(Service("default", name)) for name in {*names, *desired}}
    return ChangeSet(
        {f"default/{name}": made[f"default/{name}"] for name in names},
        frozenset(f"default/{name}" for name in removed),
        made,
        resync,
    )


@asynccontextmanager
async def running(draining: Draining) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(draining.run())
    yield task
    task.cancel()
    await asyncio.wait([task])


async def test_nothing_is_drained_before_the_new_plane_carries() -> None:
    fake = Fake()
    draining = Draining([fake], QUICK)
    async with running(draining):
        await asyncio.sleep(0.02)
        assert fake.calls == []
        draining.applied(change("a", desired="a", resync=True))
        await until(lambda: len(fake.told) == 1)
        assert fake.calls == ["hold", "drain", "follow"]


async def test_it_goes_when_its_flows_have_ended() -> None:
    fake = Fake(left=3)
    draining = Draining([fake], QUICK)
    draining.applied(change("a", desired="a", resync=True))
    async with running(draining) as task:
        await asyncio.sleep(0.02)
        assert "remove" not in fake.calls
        fake.left = 0
        await task
    assert fake.calls == ["hold", "drain", "follow", "remove", "release"]


async def test_where_nothing_was_left_nothing_is_done() -> None:
    fake = Fake(there=False)
    draining = Draining([fake], QUICK)
    draining.begin()
    await draining.run()
    assert fake.calls == ["hold", "release"]


async def test_giving_away_needs_no_frontend() -> None:
    fake = Fake(left=0)
    draining = Draining([fake], QUICK)
    draining.begin()
    await draining.run()
    assert fake.calls == ["hold", "drain", "remove", "release"]


async def test_it_is_told_what_changes_and_everything_at_first() -> None:
    fake = Fake()
    draining = Draining([fake], QUICK)
    draining.applied(change("a", "b", desired="ab", resync=True))
    draining.applied(change("c", removed="a", desired="bc"))
    async with running(draining):
        await until(lambda: len(fake.told) == 1)
        assert fake.told[0].resync
        assert fake.told[0].changed == fake.told[0].desired
        assert set(fake.told[0].desired) == {"default/b", "default/c"}
        draining.applied(change("d", desired="bcd"))
        await until(lambda: len(fake.told) == 2)
        assert (set(fake.told[1].changed), fake.told[1].resync) == ({"default/d"}, False)
        draining.applied(change(removed="d", desired="bc"))
        await until(lambda: len(fake.told) == 3)
        assert fake.told[2].removed == {"default/d"}


async def test_what_came_and_went_between_two_looks_is_gone() -> None:
    fake = Fake()
    draining = Draining([fake], Pace(look=30))
    draining.applied(change(desired="", resync=True))
    async with running(draining):
        await until(lambda: len(fake.told) == 1)
        draining.applied(change("a", desired="a"))
        draining.applied(change(removed="a", desired=""))
        await until(lambda: len(fake.told) == 2)
    assert not fake.told[1].changed
    assert fake.told[1].removed == {"default/a"}


@pytest.mark.parametrize("call", ["hold", "drain", "follow", "flows", "remove"])
async def test_what_fails_is_tried_again_from_the_start(call: str, caplog: pytest.LogCaptureFixture) -> None:
    fake = Fake(left=0, fails={call: 3})
    draining = Draining([fake], QUICK)
    draining.applied(change("a", desired="a", resync=True))
    await draining.run()
    assert fake.calls.count("hold") == fake.calls.count("release") == 4
    assert fake.calls[-5:] == ["hold", "drain", "follow", "remove", "release"]
    assert fake.told[-1].resync, "after a failure it is told everything"
    assert [record.message for record in caplog.records if "fails" in record.message] == [
        f"what plane fake has left here is not drained yet: {call} fails"
    ], "the same trouble is told once"


async def test_after_the_longest_time_it_goes_with_its_flows() -> None:
    fake = Fake(left=7)
    draining = Draining([fake], Pace(look=0.001, times=0, longest=0.01))
    draining.begin()
    await draining.run()
    assert fake.calls[-2:] == ["remove", "release"]


async def test_cancelled_it_leaves_what_is_there() -> None:
    fake = Fake()
    draining = Draining([fake], QUICK)
    draining.begin()
    async with running(draining):
        await until(lambda: "drain" in fake.calls)
    assert fake.calls[-1] == "release"
    assert "remove" not in fake.calls
