"""Who gets new connections on which node: by table, and random slices against the rules for one node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blixt_frontend.items import Item, ItemKind
from blixt_frontend.objects import Endpoint, EndpointSlice
from blixt_frontend.translation.cluster import Cluster, NamespacedName, Translation
from blixt_frontend.translation.options import Options
from blixt_frontend.translation.services import translate_service
from blixt_objects import ALL, NONE, Seen, endpoint, endpoint_slice, service, terminating

WEB = NamespacedName("default", "web")
ZONES = {"a1": "a", "a2": "a", "b1": "b", "c1": "c"}  # and "lost", which has no zone


def translation(*endpoints: Endpoint, zones: dict[str, str] = ZONES, **spec: Any) -> Translation:
    cluster = Cluster(
        services={WEB: service(**spec)}, slices={WEB: {"s": endpoint_slice(*endpoints)}}, zones=zones
    )
    return translate_service(WEB, cluster, Options())


def on(node: str, *endpoints: Endpoint, **spec: Any) -> dict[str, tuple[bool, bool, bool]]:
    return Seen(translation(*endpoints, **spec).items, node, ZONES.get(node, "")).scopes()


class TestPolicies:
    PODS = (endpoint("10.0.0.1", "x", node="a1"), endpoint("10.0.0.2", "y", node="b1"))

    def test_cluster(self) -> None:
        assert on("a1", *self.PODS) == on("lost", *self.PODS) == {"x": ALL, "y": ALL}

    def test_external_local(self) -> None:
        seen = on("a1", *self.PODS, external_traffic_policy="Local")
        assert seen == {"x": ALL, "y": (True, False, True)}
        seen = on("lost", *self.PODS, external_traffic_policy="Local")
        assert seen == {"x": (True, False, True), "y": (True, False, True)}

    def test_internal_local(self) -> None:
        seen = on("b1", *self.PODS, internal_traffic_policy="Local")
        assert seen == {"x": (False, True, True), "y": ALL}

    def test_both_local_and_traffic_from_inside_takes_the_short_way_to_all(self) -> None:
        both: dict[str, Any] = {"internal_traffic_policy": "Local", "external_traffic_policy": "Local"}
        assert on("a1", *self.PODS, **both) == {"x": ALL, "y": (False, False, True)}

    def test_terminating_takes_over_for_each_node_by_itself(self) -> None:
        pods = (terminating("10.0.0.1", "x", node="a1"), endpoint("10.0.0.2", "y", node="b1"))
        assert on("a1", *pods, external_traffic_policy="Local") == {
            "x": (False, True, False),
            "y": (True, False, True),
        }
        assert on("b1", *pods, external_traffic_policy="Local")["x"] == NONE

    def test_terminating_does_not_take_over_beside_a_ready_one_of_its_node(self) -> None:
        pods = (terminating("10.0.0.1", "x", node="a1"), endpoint("10.0.0.2", "y", node="a1"))
        assert on("a1", *pods, external_traffic_policy="Local") == {"x": NONE, "y": ALL}

    def test_a_local_spare_is_not_only_for_us(self) -> None:
        (item,) = [
            i
            for i in translation(
                terminating("10.0.0.1", "x", node="a1"),
                endpoint("10.0.0.2", "y", node="b1"),
                external_traffic_policy="Local",
            ).items
            if i.path.endswith("/x")
        ]
        assert not item.blixt_only


class TestHints:
    PODS = (
        endpoint("10.0.0.1", "x", node="a1", zone="a", zones=("a",)),
        endpoint("10.0.0.2", "y", node="b1", zone="b", zones=("b",)),
    )

    def test_zone(self) -> None:
        assert on("a2", *self.PODS) == {"x": ALL, "y": NONE}
        assert on("b1", *self.PODS) == {"x": NONE, "y": ALL}

    def test_a_zone_without_hinted_endpoints_and_a_node_without_zone_get_all(self) -> None:
        assert on("c1", *self.PODS) == on("lost", *self.PODS) == {"x": ALL, "y": ALL}

    def test_are_ignored_if_one_ready_endpoint_has_none(self) -> None:
        assert on("a1", *self.PODS, endpoint("10.0.0.3", "z")) == {"x": ALL, "y": ALL, "z": ALL}

    def test_of_endpoints_that_are_not_ready_do_not_matter(self) -> None:
        seen = on("a1", *self.PODS, terminating("10.0.0.3", "z"))
        assert seen == {"x": ALL, "y": NONE, "z": NONE}

    def test_are_ignored_where_nothing_is_ready(self) -> None:
        pods = (terminating("10.0.0.1", "x", zones=("a",)), terminating("10.0.0.2", "y", zones=("b",)))
        assert on("a1", *pods) == {"x": ALL, "y": ALL}

    def test_node_hints_go_before_zone_hints(self) -> None:
        pods = (
            endpoint("10.0.0.1", "x", zones=("a",), nodes=("b1",)),
            endpoint("10.0.0.2", "y", zones=("b",), nodes=("a1",)),
        )
        assert on("a1", *pods) == {"x": NONE, "y": ALL}
        assert on("a2", *pods) == {"x": ALL, "y": NONE}
        assert on("lost", *pods) == {"x": ALL, "y": ALL}

    def test_node_hints_are_ignored_if_one_endpoint_has_none(self) -> None:
        pods = (
            endpoint("10.0.0.1", "x", zones=("a",), nodes=("b1",)),
            endpoint("10.0.0.2", "y", zones=("b",)),
        )
        assert on("b1", *pods) == {"x": NONE, "y": ALL}

    def test_do_not_touch_the_local_set(self) -> None:
        """Hinted away from its own node's zone, and still there for what comes to that node from outside."""
        pods = (
            endpoint("10.0.0.1", "x", node="a1", zone="a", zones=("b",)),
            endpoint("10.0.0.2", "y", node="b1", zone="b", zones=("a",)),
        )
        seen = on("a1", *pods, external_traffic_policy="Local")
        assert seen == {"x": (False, True, False), "y": (True, False, True)}

    def test_an_endpoint_hinted_away_keeps_its_connections(self) -> None:
        assert "y" in on("a1", *self.PODS)

    def test_a_change_of_hints_alone_is_a_change(self) -> None:
        other = endpoint("10.0.0.2", "y", zones=("b",))
        before = translation(endpoint("10.0.0.1", "x", zones=("a",)), other).items
        after = translation(endpoint("10.0.0.1", "x", zones=("a", "b")), other).items
        assert [i.path for i, j in zip(before, after, strict=True) if i != j] == ["default/web/x"]

    def test_the_zone_of_an_endpoints_own_node_is_asked_for_only_with_zone_hints(self) -> None:
        assert translation(*self.PODS).zones_asked == {"a1", "b1"}
        assert translation(endpoint(node="a1")).zones_asked == frozenset()
        assert translation(endpoint(node="a1", nodes=("a1",), zones=("a",))).zones_asked == frozenset()


# What follows knows nothing of variants: it asks, for one node, who is to be used, as kube-proxy does.


@dataclass(frozen=True)
class Pod:
    name: str
    address: str
    node: str
    ready: bool
    serving: bool
    terminating: bool
    zones: frozenset[str]
    nodes: frozenset[str]

    @property
    def spare(self) -> bool:
        return not self.ready and self.serving and self.terminating


def usable(pods: list[Pod]) -> list[Pod]:
    return [pod for pod in pods if pod.ready] or [pod for pod in pods if pod.spare]


def expected_cluster_set(pods: list[Pod], node: str) -> list[Pod]:
    ready = [pod for pod in pods if pod.ready]
    on_node = [pod for pod in ready if node in pod.nodes]
    in_zone = [pod for pod in ready if ZONES.get(node, "") in pod.zones]
    if on_node and all(pod.nodes for pod in ready):
        return on_node
    if in_zone and all(pod.zones for pod in ready):
        return in_zone
    return usable(pods)


def expected(
    pods: list[Pod], node: str, internal_local: bool, external_local: bool
) -> dict[str, tuple[bool, bool, bool]]:
    cluster = expected_cluster_set(pods, node)
    local = usable([pod for pod in pods if pod.node == node])
    return {
        pod.name: (
            pod in (local if internal_local else cluster),
            pod in (local if external_local else cluster),
            pod in cluster,
        )
        for pod in pods
    }


NODES = (*ZONES, "lost")
ZONE_NAMES = ("a", "b", "c")


@st.composite
def pods(draw: st.DrawFn) -> list[Pod]:
    # Often all hinted, else hints would hardly ever count.
    hinted_zones = st.frozensets(st.sampled_from(ZONE_NAMES), min_size=draw(st.integers(0, 1)), max_size=2)
    hinted_nodes = st.frozensets(st.sampled_from(NODES), min_size=draw(st.integers(0, 1)), max_size=2)
    return [
        Pod(
            name=f"p{i}",
            address=f"10.0.0.{i + 1}",
            node=draw(st.sampled_from(("", *NODES))),
            ready=draw(st.booleans()),
            serving=draw(st.booleans()),
            terminating=draw(st.booleans()),
            zones=draw(hinted_zones),
            nodes=draw(hinted_nodes),
        )
        for i in range(draw(st.integers(0, 6)))
    ]


def as_endpoint(pod: Pod) -> Endpoint:
    return endpoint(
        pod.address,
        pod.name,
        node=pod.node,
        ready=pod.ready,
        serving=pod.serving,
        terminating=pod.terminating,
        zones=sorted(pod.zones),
        nodes=sorted(pod.nodes),
    )


def spread(endpoints: list[Endpoint], cuts: list[int]) -> dict[str, EndpointSlice]:
    """The endpoints over several slices; how they are cut must not matter."""
    slices: dict[int, list[Endpoint]] = {}
    for index, one in enumerate(endpoints):
        slices.setdefault(cuts[index % len(cuts)], []).append(one)
    return {f"s{cut}": endpoint_slice(*some, name=f"s{cut}") for cut, some in slices.items()}


def random_items(
    pods: list[Pod], cuts: list[int], internal_local: bool, external_local: bool
) -> tuple[Item, ...]:
    subject = service(
        internal_traffic_policy="Local" if internal_local else "Cluster",
        external_traffic_policy="Local" if external_local else "Cluster",
    )
    slices = spread([as_endpoint(pod) for pod in pods], cuts)
    cluster = Cluster(services={WEB: subject}, slices={WEB: slices}, zones=ZONES)
    return translate_service(WEB, cluster, Options()).items


cuts = st.lists(st.integers(0, 2), min_size=1, max_size=6)


@settings(max_examples=400, deadline=None)
@given(pods(), cuts, st.booleans(), st.booleans())
def test_every_node_uses_what_kube_proxy_would(
    some: list[Pod], where: list[int], internal_local: bool, external_local: bool
) -> None:
    items = random_items(some, where, internal_local, external_local)
    for node in NODES:
        seen = Seen(items, node, ZONES.get(node, ""))
        assert seen.scopes() == expected(some, node, internal_local, external_local)
        assert {p.split("/")[2] for p, m in seen.endpoints.items() if m.Local} == {
            pod.name for pod in some if pod.node == node
        }
    everywhere = [Seen(items, node, zone).scopes() for node in (*NODES, "new") for zone in ("", *ZONE_NAMES)]
    for item in items:
        if item.kind is not ItemKind.SERVICE:
            key = item.path.split("/")[2]
            assert item.blixt_only == all(scopes[key] == NONE for scopes in everywhere)


@settings(max_examples=200, deadline=None)
@given(pods(), cuts, st.booleans(), st.booleans())
def test_if_any_endpoint_is_ready_every_nodes_cluster_set_has_one(
    some: list[Pod], where: list[int], internal_local: bool, external_local: bool
) -> None:
    items = random_items(some, where, internal_local, external_local)
    if any(pod.ready or pod.spare for pod in some):
        for node in NODES:
            assert Seen(items, node, ZONES.get(node, "")).cluster()


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_no_endpoints_no_items(family: str) -> None:
    cluster = Cluster(services={WEB: service()}, slices={WEB: {"s": endpoint_slice(address_type=family)}})
    assert len(translate_service(WEB, cluster, Options()).items) == 1
