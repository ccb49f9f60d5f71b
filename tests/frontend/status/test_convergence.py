"""Whatever happens in whatever order: in the end every status is right, and nothing more is written."""

from __future__ import annotations

import random
from typing import Any

import pytest

from blixt_fake_api import Request
from blixt_frontend.kubernetes.client import ApiError
from blixt_frontend.objects import ParentRef
from blixt_objects import backend, gateway, gateway_class, listener, service, tcp_route
from blixt_status import World, conditions

NAMES = ("a", "b", "c")
FAULTS = (0, 409, 429, 500, 503)


class Story:
    """Random events, and what should be there after them."""

    def __init__(self, seed: int) -> None:
        self.world = World()
        self.random = random.Random(seed)
        self.gateways: dict[str, Any] = {}
        self.routes: dict[str, Any] = {}
        self.faulty = True
        self.world.api.fault = self.fault
        self.world.api.lost = self.fault

    def fault(self, request: Request) -> ApiError | None:
        if self.faulty and self.random.random() < 0.15:
            return ApiError(self.random.choice(FAULTS), "Odd", "no")
        return None

    async def put_gateway(self, name: str) -> None:
        ports = self.random.sample(range(1, 5), self.random.randint(1, 3))
        made = gateway(*(listener(f"l{port}", port) for port in ports), name=name)
        self.gateways[name] = made
        await self.world.apply(made)

    async def put_route(self, name: str) -> None:
        parents = tuple(ParentRef(name=parent) for parent in self.random.sample(NAMES, 2))
        self.routes[name] = made = tcp_route(backend(), name=name, parents=parents)
        await self.world.apply(made)

    async def remove(self, name: str) -> None:
        among = self.random.choice((self.gateways, self.routes))
        if (obj := among.pop(name, None)) is not None:
            await self.world.apply(gone=[obj.key])

    async def meddle(self, name: str) -> None:
        """Somebody else adds a condition, or takes all of ours away, and the watch tells of it."""
        for obj in (self.gateways.get(name), self.routes.get(name)):
            path = await self.world.path(obj.key) if obj is not None else None
            if obj is None or path is None:
                continue
            before = self.world.api.objects[path]
            status = dict(before.get("status", {}))
            if "listeners" in status:
                theirs = {"type": "x.io/Theirs", "status": "True", "reason": "Theirs"}
                status["conditions"] = [theirs]
            elif "parents" in status:
                status["parents"] = [{"parentRef": {"name": "gw"}, "controllerName": "x.io/theirs"}]
            after = self.world.api.put(path, before | {"status": status})
            self.world.reporter.seen(obj.key, after["metadata"]["resourceVersion"])

    async def nodes(self, name: str) -> None:
        self.world.nodes.applied(self.random.choice((0, self.world.revision)), name)

    async def step(self) -> None:
        happening = self.random.choice(
            (self.put_gateway, self.put_route, self.put_route, self.remove, self.meddle, self.nodes)
        )
        await happening(self.random.choice(NAMES))

    async def check(self) -> None:
        for gateway_ in self.gateways.values():
            status = await self.world.status(gateway_)
            assert conditions(status)["Programmed"] == ("True", "Programmed")
            assert [one["name"] for one in status["listeners"]] == [
                one.name for one in gateway_.spec.listeners
            ]
            attached = sum(
                gateway_.metadata.name in (parent.name for parent in route.spec.parent_refs)
                for route in self.routes.values()
            )
            assert {one["attachedRoutes"] for one in status["listeners"]} == {attached}
        for route in self.routes.values():
            found = (await self.world.status(route)).get("parents", [])
            ours = [one["parentRef"]["name"] for one in found if one["controllerName"] != "x.io/theirs"]
            assert sorted(ours) == sorted(
                parent.name for parent in route.spec.parent_refs if parent.name in self.gateways
            )


@pytest.mark.parametrize("seed", range(8))
async def test_it_converges(seed: int) -> None:
    story = Story(seed)
    await story.world.apply(gateway_class(), service())
    for _ in range(3):  # terms
        async with story.world.leading():
            for _ in range(25):
                await story.step()
                if story.random.random() < 0.3:
                    await story.world.settled(3)
        await story.step()
    story.faulty = False
    async with story.world.leading():
        for name in story.world.nodes.streams.keys() | {"a"}:
            story.world.nodes.applied(story.world.revision, name)
        await story.world.settled()
        await story.check()
        story.world.api.requests.clear()
        await story.world.settled()
        assert story.world.api.requests == []
