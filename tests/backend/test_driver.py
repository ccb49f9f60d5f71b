"""driver: rounds in, applies out, whatever fails between. Here without a network; test_client has one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt_api import localv1_pb2 as pb
from blixt_backend.driver import Backoff, Driver
from blixt_backend.model import ChangeSet
from blixt_backend.planes.base import PlaneError
from blixt_backend.planes.fake import RecordingPlane
from blixt_backend.rounds import Round
from blixt_backend.state import DesiredState
from blixt_fakes.items import RESET, Key, delete_op, endpoint, service, set_op
from blixt_fakes.until import until

AT_ONCE = Backoff(0.001, 0.002)


@dataclass
class Script:
    """Rounds from a list instead of a server."""

    applied_revision: int = 0
    acknowledged: list[int] = field(default_factory=list)
    closed: bool = False
    _rounds: asyncio.Queue[Round] = field(default_factory=asyncio.Queue)

    def send(self, *ops: pb.OpItem, revision: int = 0) -> None:
        received = Round(revision=revision)
        received.add(ops)
        self._rounds.put_nowait(received)

    async def next_round(self) -> Round:
        self.acknowledged.append(self.applied_revision)
        return await self._rounds.get()

    async def close(self) -> None:
        self.closed = True


@asynccontextmanager
async def driving(
    script: Script, plane: RecordingPlane, backoff: Backoff = AT_ONCE
) -> AsyncIterator[asyncio.Task[None]]:
    stop = asyncio.Event()
    running = asyncio.create_task(Driver(script, plane, backoff).run(stop))
    try:
        yield running
    finally:
        stop.set()
        async with asyncio.timeout(20):
            await running


async def test_rounds_are_applied_and_acknowledged() -> None:
    script, plane = Script(), RecordingPlane()
    async with driving(script, plane):
        script.send(RESET, set_op(*service("ns/a")), revision=3)
        await until(lambda: script.acknowledged == [0, 3])
        script.send(set_op(*endpoint("ns/a/1")), revision=4)
        await until(lambda: script.acknowledged == [0, 3, 4])
        assert plane.running
    assert [change.resync for change in plane.applied] == [True, False]
    assert len(plane.held["ns/a"].endpoints) == 1
    assert not plane.running
    assert script.closed


async def test_a_round_holds_no_items_while_it_is_applied() -> None:
    left: list[int] = []

    class LookingPlane(RecordingPlane):
        async def apply(self, change: ChangeSet) -> None:
            left.append(len(received.services) + len(received.endpoints))
            await super().apply(change)

    script, plane, received = Script(), LookingPlane(), Round(revision=1)
    received.add([RESET, set_op(*service("ns/a")), set_op(*endpoint("ns/a/1"))])
    async with driving(script, plane):
        script._rounds.put_nowait(received)
        await until(lambda: script.acknowledged == [0, 1])
    assert left == [0]
    assert len(plane.held["ns/a"].endpoints) == 1


async def test_what_is_in_force_is_told_and_what_failed_is_not() -> None:
    script, plane, stop, told = Script(), RecordingPlane(), asyncio.Event(), list[tuple[int, set[str]]]()

    def on_applied(change: ChangeSet) -> None:
        assert script.applied_revision < change.revision
        told.append((change.revision, set(change.changed)))

    running = asyncio.create_task(Driver(script, plane, AT_ONCE, on_applied).run(stop))
    script.send(RESET, set_op(*service("ns/a")), revision=1)
    await until(lambda: len(told) == 1)
    plane.fail(2)
    script.send(set_op(*service("ns/b")), revision=2)
    script.send(set_op(*service("ns/c")), revision=3)
    await until(lambda: script.applied_revision == 3)
    stop.set()
    await running
    # The first one that succeeds after a failure is whole.
    assert told[0] == (1, {"ns/a"})
    assert told[1][1] >= {"ns/a", "ns/b"}
    assert plane.attempts == len(told) + 2


async def test_a_mistake_of_who_is_told_does_not_stop_the_service(caplog: pytest.LogCaptureFixture) -> None:
    script, plane, stop = Script(), RecordingPlane(), asyncio.Event()

    def on_applied(change: ChangeSet) -> None:
        raise KeyError("mistake")

    running = asyncio.create_task(Driver(script, plane, AT_ONCE, on_applied).run(stop))
    for revision in (1, 2):
        script.send(
            *([RESET] if revision == 1 else []), set_op(*service(f"ns/{revision}")), revision=revision
        )
        await until(lambda: running.done() or script.applied_revision == revision)  # noqa: B023
    stop.set()
    await running
    assert plane.attempts == 2
    assert "mistake" in caplog.text


async def test_each_try_is_told_and_how_it_ended() -> None:
    script, plane, stop, told = Script(), RecordingPlane(), asyncio.Event(), list[str]()
    driver = Driver(
        script,
        plane,
        AT_ONCE,
        lambda change: told.append("applied"),
        on_trying=lambda: told.append("trying"),
        on_failed=told.append,
    )
    running = asyncio.create_task(driver.run(stop))
    plane.fail(2)
    script.send(RESET, set_op(*service("ns/a")), revision=1)
    await until(lambda: script.applied_revision == 1)
    script.send(revision=2)
    await until(lambda: script.applied_revision == 2)
    stop.set()
    await running
    failure = ["trying", "told to fail"]
    assert told == [*failure, *failure, "trying", "applied", "applied"]


async def test_an_empty_round_is_acknowledged_without_an_apply() -> None:
    script, plane = Script(), RecordingPlane()
    async with driving(script, plane):
        script.send(RESET, revision=1)
        script.send(revision=2)
        await until(lambda: script.acknowledged == [0, 1, 2])
    assert plane.attempts == 1


@pytest.mark.parametrize("halfway", [False, True])
async def test_a_failed_apply_is_repaired_without_a_new_round(
    halfway: bool, caplog: pytest.LogCaptureFixture
) -> None:
    script, plane = Script(), RecordingPlane()
    async with driving(script, plane):
        script.send(RESET, set_op(*service("ns/a")), set_op(*service("ns/b")), revision=1)
        await until(lambda: len(plane.applied) == 1)
        plane.fail(3, halfway=halfway)
        script.send(delete_op(service("ns/a")[0]), set_op(*service("ns/c")), revision=2)
        await until(lambda: len(plane.applied) == 2)
    assert plane.attempts == 5
    assert plane.applied[-1].resync
    assert plane.held.keys() == {"ns/b", "ns/c"}
    assert [r.levelno for r in caplog.records if "failed" in r.message] == [logging.ERROR] * 3


async def test_only_what_was_applied_is_acknowledged() -> None:
    script, plane = Script(), RecordingPlane()
    plane.fail(2)
    async with driving(script, plane):
        for revision in (1, 2, 3):
            script.send(set_op(*service(f"ns/{revision}")), revision=revision)
        await until(lambda: script.acknowledged == [0, 0, 0, 3])


async def test_a_round_that_comes_while_applies_fail_can_make_them_succeed() -> None:
    class Picky(RecordingPlane):
        async def apply(self, change: ChangeSet) -> None:
            if "ns/bad" in change.desired:
                raise PlaneError("ns/bad can't be")
            await super().apply(change)

    script, plane = Script(), Picky()
    async with driving(script, plane, Backoff(0.001, 600)):
        script.send(RESET, set_op(*service("ns/bad")), set_op(*service("ns/good")), revision=1)
        await until(lambda: len(script.acknowledged) == 2)
        script.send(delete_op(service("ns/bad")[0]), revision=2)
        await until(lambda: bool(plane.applied))
        assert plane.held.keys() == {"ns/good"}
        await until(lambda: script.acknowledged[-1] == 2)


async def test_a_bug_in_a_plane_is_a_failed_apply(caplog: pytest.LogCaptureFixture) -> None:
    class Buggy(RecordingPlane):
        async def apply(self, change: ChangeSet) -> None:
            if not self.attempts:
                self.attempts += 1
                raise ZeroDivisionError("oops")
            await super().apply(change)

    script, plane = Script(), Buggy()
    async with driving(script, plane):
        script.send(RESET, set_op(*service("ns/a")))
        await until(lambda: bool(plane.applied))
    assert plane.held.keys() == {"ns/a"}
    assert "ZeroDivisionError: oops" in caplog.text


async def test_a_slow_apply_is_finished_before_the_end() -> None:
    class Slow(RecordingPlane):
        entered = asyncio.Event()
        go_on = asyncio.Event()

        async def apply(self, change: ChangeSet) -> None:
            self.entered.set()
            await self.go_on.wait()
            await super().apply(change)

    script, plane, stop = Script(), Slow(), asyncio.Event()
    running = asyncio.create_task(Driver(script, plane).run(stop))
    script.send(RESET, set_op(*service("ns/a")))
    await plane.entered.wait()
    assert script.acknowledged == [0]
    stop.set()
    await asyncio.sleep(0)
    assert not running.done()
    plane.go_on.set()
    await running
    assert plane.held.keys() == {"ns/a"}
    assert script.acknowledged == [0]


async def test_a_stop_does_not_wait_for_the_back_off() -> None:
    script, plane = Script(), RecordingPlane()
    plane.fail(100)
    async with driving(script, plane, Backoff(600, 600)):
        script.send(RESET, set_op(*service("ns/a")))
        script.send(set_op(*service("ns/b")))
        await until(lambda: len(script.acknowledged) == 2)
    assert plane.attempts == 1


async def test_a_plane_that_cannot_start_ends_the_run() -> None:
    class Unstartable(RecordingPlane):
        async def start(self) -> None:
            raise PlaneError("no interface eth9")

    with pytest.raises(PlaneError, match="eth9"):
        await Driver(Script(), Unstartable()).run(asyncio.Event())


async def test_unusable_items_are_reported_with_their_path(caplog: pytest.LogCaptureFixture) -> None:
    script, plane = Script(), RecordingPlane()
    async with driving(script, plane):
        script.send(RESET, *(set_op((pb.ServicesSet, f"ns/{n}"), b"\xff") for n in range(30)), revision=1)
        await until(lambda: script.acknowledged == [0, 1])
    assert "unusable item ns/0: its 1 bytes are no Service" in caplog.text
    assert "10 more unusable items" in caplog.text


def acknowledges(script: Script, revision: int) -> bool:
    return script.applied_revision == revision


@dataclass(frozen=True)
class Step:
    """Items that change at the server, how the node hears of it, and how often the plane fails meanwhile."""

    sets: dict[Key, bytes]
    deletes: frozenset[Key]
    full: bool
    lost: bool
    failures: int
    halfway: bool
    restart: bool


SERVICES = [service(f"ns/{name}", port=port) for name in "abc" for port in (80, 81)]
ENDPOINTS = [
    endpoint(f"ns/{s}/{n}", weight_)
    for s in "abc"
    for n in "12"
    for weight_ in ("198.51.100.1", "198.51.100.2")
]
STEPS = st.builds(
    Step,
    sets=st.lists(st.sampled_from([*SERVICES, *ENDPOINTS])).map(dict),
    deletes=st.frozensets(st.sampled_from([key for key, _ in (*SERVICES, *ENDPOINTS)]), max_size=3),
    full=st.booleans(),
    lost=st.booleans(),
    failures=st.integers(0, 2),
    halfway=st.booleans(),
    restart=st.booleans(),
)


def fresh_state(items: dict[Key, bytes]) -> DesiredState:
    """What a backend that starts now would want."""
    state, received = DesiredState(), Round(reset=True)
    received.add(set_op(*item) for item in items.items())
    state.apply(received)
    return state


async def play(steps: list[Step], seed: st.DataObject) -> None:
    server: dict[Key, bytes] = dict([*SERVICES[::2], *ENDPOINTS[::2]])
    told: dict[Key, bytes] | None = None
    plane, script, stop = RecordingPlane(), Script(), asyncio.Event()
    running = asyncio.create_task(Driver(script, plane, Backoff(0, 0)).run(stop))
    for revision, step in enumerate(steps, 1):
        server = {key: value for key, value in server.items() if key not in step.deletes} | step.sets
        if step.restart:
            stop.set()
            await running
            plane, script, stop, told = RecordingPlane(plane.held), Script(), asyncio.Event(), None
            running = asyncio.create_task(Driver(script, plane, Backoff(0, 0)).run(stop))
        if step.lost:  # the stream broke before its Sync: nothing reached the driver, the next one is fresh
            told = None
            continue
        full = step.full or told is None
        before = {} if full or told is None else told
        ops = [set_op(key, value) for key, value in server.items() if before.get(key) != value]
        ops += [delete_op(key) for key in before.keys() - server.keys()]
        plane.fail(step.failures, halfway=step.halfway)
        script.send(*([RESET] if full else []), *seed.draw(st.permutations(ops)), revision=revision)
        told = server
        await until(partial(acknowledges, script, revision))
        assert plane.held == fresh_state(server).desired
    stop.set()
    await running


@given(st.lists(STEPS, max_size=6), st.data())
def test_whatever_happens_the_plane_ends_with_what_the_server_has(
    steps: list[Step], seed: st.DataObject
) -> None:
    asyncio.run(play(steps, seed))
