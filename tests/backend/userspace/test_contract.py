"""The contract that every plane keeps, with sockets that really listen, on loopback."""

from __future__ import annotations

import asyncio

import pytest

from blixt_backend.planes.base import Plane, PlaneError
from blixt_backend.planes.userspace.compile import Entry, Frontend
from blixt_backend.planes.userspace.mapping import parse
from blixt_backend.planes.userspace.options import Settings
from blixt_backend.planes.userspace.plane import UserspacePlane
from blixt_backend.testing import contract
from blixt_backend.testing.contract import Destinations, Harness, Listener, Target

#: All that the contract's services ever have.
ADDRESSES = ("192.0.2.10", "192.0.2.11", "192.0.2.53", "192.0.2.20", "[2001:db8::20]", "203.0.113.20")


class LoopbackHarness(Harness):
    """What is in force is what is listened for, and the endpoints that it leads to."""

    outlives_process = False

    def __init__(self) -> None:
        self.planes: list[UserspacePlane] = []

    def make(self) -> Plane:
        maps = parse([f"{address}=127.0.0.1:0" for address in ADDRESSES])
        self.planes.append(UserspacePlane(Settings(maps=maps, drain_seconds=0.0)))
        return self.planes[-1]

    def destinations(self) -> Destinations:
        listeners = self.planes[-1]._listeners
        held = {}
        for frontend, listener in listeners._listeners.items():
            targets = frozenset(Target(*each) for each in listener.entry.inside.targets if each is not None)
            assert bool(targets) == (frontend in listeners.places()), f"{frontend} must listen, or must not"
            held[Listener(frontend.address, frontend.port, frontend.protocol)] = targets
        return held

    def fail_next_apply(self, plane: Plane) -> None:
        """Half of its frontends are done by then."""
        assert isinstance(plane, UserspacePlane)
        listeners = plane._listeners
        become, left = listeners._become, 3

        def breaks(frontend: Frontend, entry: Entry | None) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                listeners._become = become  # type: ignore[method-assign]
                raise PlaneError("told to fail")
            become(frontend, entry)

        listeners._become = breaks  # type: ignore[method-assign]


@pytest.mark.parametrize("check", contract.CHECKS, ids=contract.name)
async def test_contract(check: contract.Check) -> None:
    harness = LoopbackHarness()
    try:
        await check(harness)
    finally:
        await asyncio.gather(*(plane.stop() for plane in harness.planes))
