"""When connections are counted afresh."""

from __future__ import annotations

import asyncio

import pytest

from blixt_backend.model import Algorithm, ChangeSet, Service, ServiceView
from blixt_backend.planes.base import PlaneError
from blixt_backend.planes.ebpf import recounting
from blixt_backend.planes.ebpf.recounting import Recounting

LEAST, MAGLEV = Algorithm.LEAST_CONNECTIONS, Algorithm.MAGLEV


class Counter:
    """Counts how often it was asked to, and can fail."""

    def __init__(self) -> None:
        self.times = 0
        self.asked = asyncio.Event()
        self.error: PlaneError | None = None

    async def __call__(self) -> None:
        self.times += 1
        self.asked.set()
        if self.error:
            raise self.error

    async def once_more(self) -> None:
        self.asked.clear()
        async with asyncio.timeout(10):
            await self.asked.wait()


def change(resync: bool = False, removed: str = "", **algorithms: Algorithm) -> ChangeSet:
    views = {f"ns/{name}": ServiceView(Service("ns", name, algorithm=a)) for name, a in algorithms.items()}
    return ChangeSet(views, frozenset({removed} if removed else ()), views, resync)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recounting, "SECONDS", 0.0)
    monkeypatch.setattr(recounting, "TIMES_AS_LONG", 0)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ([change(a=MAGLEV)], False),
        ([change(a=LEAST)], True),
        ([change(a=LEAST, b=LEAST), change(a=MAGLEV)], True),
        ([change(a=LEAST), change(a=MAGLEV)], False),
        ([change(a=LEAST), change(removed="ns/a")], False),
        ([change(a=LEAST), change(b=MAGLEV)], True),
        ([change(a=LEAST), change(resync=True, b=MAGLEV)], False),
        ([change(resync=True, a=LEAST)], True),
    ],
)
async def test_only_while_a_service_asks_for_it(changes: list[ChangeSet], wanted: bool, soon: None) -> None:
    counter = Counter()
    followed = Recounting(counter)
    for each in changes:
        followed.follow(each)
    task = asyncio.create_task(followed.run())
    try:
        if wanted:
            await counter.once_more()
        for _ in range(20):
            await asyncio.sleep(0)
        assert (counter.times > 0) is wanted
    finally:
        task.cancel()


async def test_a_failure_is_told_of_and_tried_again(caplog: pytest.LogCaptureFixture, soon: None) -> None:
    counter = Counter()
    counter.error = PlaneError("no memory")
    followed = Recounting(counter)
    followed.follow(change(a=LEAST))
    task = asyncio.create_task(followed.run())
    try:
        await counter.once_more()
        await counter.once_more()
    finally:
        task.cancel()
    assert "counting connections failed: no memory" in caplog.text


async def test_it_begins_as_soon_as_the_first_service_asks(soon: None) -> None:
    counter = Counter()
    followed = Recounting(counter)
    task = asyncio.create_task(followed.run())
    try:
        await asyncio.sleep(0)
        assert counter.times == 0
        followed.follow(change(a=LEAST))
        await counter.once_more()
    finally:
        task.cancel()
