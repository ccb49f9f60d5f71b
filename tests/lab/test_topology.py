"""Which of the usable endpoints a node chooses from: near ones by hints, its own by policy, spare ones."""

from __future__ import annotations

from typing import Any

import pytest

from blixt_lab import manifests
from blixt_lab.manifests import Ready, terminating
from blixt_lab.traffic import Spread, spread
from blixt_lab.world import KINDS, Space, World

pytestmark = pytest.mark.lab

#: Of four endpoints, one is missed by so many fair draws once in ten million times.
DRAWS = 60
ALL = {"pod-1-1", "pod-1-2", "pod-2-1", "pod-2-2"}


def answers(world: World, space: Space, client: str, inside: bool = True) -> dict[tuple[str, int], set[str]]:
    """By kind, who answers."""
    found: dict[tuple[str, int], set[str]] = {}
    for kind in KINDS:
        got: Spread = world.cluster[client].do(spread(space.target(kind, inside), DRAWS))
        assert got.failures == {}
        found[kind] = set(got.answers)
    return found


def each(*names: str) -> dict[tuple[str, int], set[str]]:
    return {kind: set(names) for kind in KINDS}


class TestHints:
    """node1 is in zone a, node2 in zone b."""

    def put(self, world: World, space: Space, *endpoints: Ready, **spec: Any) -> None:
        space.apply(
            manifests.node("node1", "a"),
            manifests.node("node2", "b"),
            manifests.service(space.name, space.inside, external=space.outside, **spec),
            *manifests.slices(space.name, endpoints),
        )

    def zoned(self, world: World) -> list[Ready]:
        return [Ready(pod, zones=("a",) if "-1-" in pod.name else ("b",)) for pod in world.cluster.pods]

    @pytest.mark.parametrize("inside", [True, False], ids=["cluster-ip", "external-ip"])
    def test_endpoints_of_the_node_s_zone_are_chosen(self, world: World, space: Space, inside: bool) -> None:
        self.put(world, space, *self.zoned(world))
        assert answers(world, space, "pod-1-1", inside) == each("pod-1-1", "pod-1-2")
        assert answers(world, space, "pod-2-1", inside) == each("pod-2-1", "pod-2-2")

    def test_hints_for_nodes_come_before_hints_for_zones(self, world: World, space: Space) -> None:
        one, two = world.pods("1-1", "1-2")
        three, four = world.pods("2-1", "2-2")
        self.put(
            world,
            space,
            Ready(one, zones=("a",), nodes=("node1",)),
            Ready(two, zones=("a",), nodes=("elsewhere",)),
            Ready(three, zones=("b",), nodes=("elsewhere",)),
            Ready(four, zones=("b",), nodes=("elsewhere",)),
        )
        assert answers(world, space, "pod-1-1") == each("pod-1-1")
        # No node's hint is node2's: its zone's count.
        assert answers(world, space, "pod-2-1") == each("pod-2-1", "pod-2-2")

    def test_one_endpoint_without_a_hint_makes_them_all_count(self, world: World, space: Space) -> None:
        first, *others = self.zoned(world)
        self.put(world, space, Ready(first.pod), *others)
        assert answers(world, space, "pod-1-1") == each(*ALL)

    def test_hints_for_other_zones_only_are_ignored(self, world: World, space: Space) -> None:
        self.put(world, space, *(Ready(pod, zones=("elsewhere",)) for pod in world.cluster.pods))
        assert answers(world, space, "pod-1-1") == each(*ALL)

    def test_under_policy_local_hints_say_nothing(self, world: World, space: Space) -> None:
        endpoints = [Ready(pod, zones=("b",)) for pod in world.cluster.pods]
        self.put(world, space, *endpoints, internalTrafficPolicy="Local")
        assert answers(world, space, "pod-1-1") == each("pod-1-1", "pod-1-2")


class TestUsable:
    @pytest.mark.parametrize("client", ["client1", "pod-1-2"])
    def test_terminating_endpoints_are_used_when_no_other_is_left(
        self, world: World, space: Space, client: str
    ) -> None:
        space.serve(terminating(world.pod("1-1")), terminating(world.pod("2-1")))
        assert answers(world, space, client, inside=False) == each("pod-1-1", "pod-2-1")

    @pytest.mark.parametrize("client", ["client1", "pod-1-2"])
    def test_and_not_while_one_is_ready(self, world: World, space: Space, client: str) -> None:
        space.serve(terminating(world.pod("1-1")), world.pod("2-1"))
        assert answers(world, space, client, inside=False) == each("pod-2-1")

    def test_those_that_do_not_serve_are_not(self, world: World, space: Space) -> None:
        space.serve(Ready(world.pod("1-1"), ready=False, serving=False, terminating=True))
        assert space.outcomes(world.cluster.client) == dict.fromkeys(KINDS, "refused")

    def test_the_cluster_s_set_and_the_node_s_are_decided_each_by_itself(
        self, world: World, space: Space
    ) -> None:
        """On node1 only a terminating one is left, which outsiders get; the cluster has a ready one."""
        space.serve(
            terminating(world.pod("1-1")),
            world.pod("2-1"),
            type="LoadBalancer",
            externalTrafficPolicy="Local",
        )
        assert answers(world, space, "client1", inside=False) == each("pod-1-1")
        assert answers(world, space, "pod-1-2", inside=False) == each("pod-2-1")
        assert answers(world, space, "pod-1-2", inside=True) == each("pod-2-1")
