"""The contract kit, run against the planes that need no kernel, and against planes that break it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from blixt_backend.model import ChangeSet, Protocol, ServiceView
from blixt_backend.planes.base import Plane
from blixt_backend.planes.fake import RecordingPlane
from blixt_backend.planes.print import Form, PrintPlane
from blixt_backend.testing import contract
from blixt_backend.testing.contract import Destinations, Harness, Listener, Target


class RecordingHarness(Harness):
    def __init__(self, make: Callable[[dict[str, ServiceView]], RecordingPlane] = RecordingPlane) -> None:
        self._make = make
        self._held: dict[str, ServiceView] = {}

    def make(self) -> Plane:
        return self._make(self._held)

    def destinations(self) -> Destinations:
        return contract.destinations(self._held)

    def fail_next_apply(self, plane: Plane) -> None:
        assert isinstance(plane, RecordingPlane)
        plane.fail(halfway=True)


class Pipe(io.StringIO):
    """Takes nothing for once."""

    fails = 0

    def write(self, text: str) -> int:
        if self.fails:
            self.fails -= 1
            raise BrokenPipeError(32, "Broken pipe")
        return super().write(text)


class PrintHarness(Harness):
    """What is in force is what somebody knows who has read every line since this process began."""

    outlives_process = False

    def make(self) -> Plane:
        self._out = Pipe()
        return PrintPlane(Form.JSON, self._out)

    def destinations(self) -> Destinations:
        services: dict[str, Any] = {}
        for line in self._out.getvalue().splitlines():
            told = json.loads(line)
            services |= told["added"] | told["changed"]
            for path in told["removed"]:
                del services[path]
        return {
            Listener(address, port["port"], Protocol[port["protocol"]]): frozenset(
                Target(ip, each["ports"][number])
                for each in service["endpoints"]
                if each["ports"][number] is not None
                for ip in each["addresses"]
                if (":" in ip) == (":" in address)
            )
            for service in services.values()
            for kind in ("clusterIPs", "externalIPs", "loadBalancerIPs")
            for address in service.get(kind, ())
            for number, port in enumerate(service["ports"])
        }

    def fail_next_apply(self, plane: Plane) -> None:
        self._out.fails = 1


@pytest.mark.parametrize("check", contract.CHECKS, ids=contract.name)
@pytest.mark.parametrize("harness", [RecordingHarness, PrintHarness])
async def test_contract(check: contract.Check, harness: type[Harness]) -> None:
    await check(harness())


class NeverRemoves(RecordingPlane):
    async def apply(self, change: ChangeSet) -> None:
        await super().apply(ChangeSet(change.changed, frozenset(), change.desired, change.resync))


class NeverSweeps(RecordingPlane):
    async def apply(self, change: ChangeSet) -> None:
        await super().apply(ChangeSet(change.changed, change.removed, change.desired))


class IgnoresChanges(RecordingPlane):
    async def apply(self, change: ChangeSet) -> None:
        new = {path: view for path, view in change.changed.items() if path not in self.held}
        await super().apply(ChangeSet(new, change.removed, change.desired, change.resync))


class TakesAllAwayAtStop(RecordingPlane):
    async def stop(self) -> None:
        self.held.clear()


class FlushesAtStart(RecordingPlane):
    async def start(self) -> None:
        self.held.clear()
        await super().start()


class CleansNothing(RecordingPlane):
    async def cleanup(self) -> None:
        pass


@pytest.mark.parametrize(
    ("plane", "check"),
    [
        (NeverRemoves, contract.adds_and_removes),
        (IgnoresChanges, contract.changes),
        (IgnoresChanges, contract.takes_both_families),
        (NeverSweeps, contract.resync_sweeps),
        (NeverSweeps, contract.a_new_process_sweeps),
        (IgnoresChanges, contract.a_failure_is_repaired),
        (TakesAllAwayAtStop, contract.stop_keeps),
        (FlushesAtStart, contract.stop_keeps),
        (CleansNothing, contract.cleanup_removes),
    ],
)
async def test_the_kit_sees_what_is_broken(plane: type[RecordingPlane], check: contract.Check) -> None:
    with pytest.raises(AssertionError):
        await check(RecordingHarness(plane))
