"""How our conditions and parents get into a status, and what of it they leave alone."""

from __future__ import annotations

import copy
from operator import itemgetter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt_frontend.objects import ParentRef, RouteGroupKind
from blixt_frontend.status.merging import Json, has_parent_of, merge_conditions, merged
from blixt_frontend.status.wanted import (
    ClassWanted,
    GatewayWanted,
    ListenerWanted,
    ParentWanted,
    RouteWanted,
    Wanted,
)
from blixt_frontend.translation.results import Condition

OURS = "example.org/ours"
OLD, NOW = "2026-01-01T00:00:00Z", "2026-02-02T00:00:00Z"
ACCEPTED = Condition("Accepted", True, "Accepted")
PROGRAMMED = Condition("Programmed", True, "Programmed")
PENDING = Condition("Programmed", False, "Pending", "not yet")
RESOLVED = Condition("ResolvedRefs", True, "ResolvedRefs")
CONFLICTED = Condition("Conflicted", True, "ProtocolConflict", "port 80")


def stored(type_: str, status: str = "True", generation: int = 3, **fields: Any) -> Json:
    return {
        "type": type_,
        "status": status,
        "reason": type_,
        "message": "",
        "observedGeneration": generation,
        "lastTransitionTime": OLD,
    } | fields


def gateway(
    *listeners: ListenerWanted,
    waiting: Condition | None = None,
    generation: int = 3,
    addresses: tuple[str, ...] = ("192.0.2.1",),
) -> GatewayWanted:
    return GatewayWanted(generation, (ACCEPTED, PROGRAMMED), addresses, listeners, waiting)


def listener(name: str = "tcp", *conditions: Condition, attached: int = 0) -> ListenerWanted:
    kinds = (RouteGroupKind(kind="TCPRoute"),)
    return ListenerWanted(name, kinds, attached, conditions or (ACCEPTED, PROGRAMMED, RESOLVED))


def parent(generation: int = 7, *conditions: Condition, **ref: Any) -> ParentWanted:
    return ParentWanted(ParentRef(**{"name": "gw", **ref}), generation, conditions or (ACCEPTED, RESOLVED))


def after(current: Json, wanted: Wanted, namespace: str = "default") -> Json:
    """The whole status as it is once it was written."""
    return current | (merged(namespace, current, wanted, NOW) or {})


def by_type(conditions: list[Json]) -> dict[str, Json]:
    return {condition["type"]: condition for condition in conditions}


class TestConditions:
    OWNED = frozenset({"Accepted", "Conflicted"})

    def merge(self, *current: Json, wanted: tuple[Condition, ...] = (ACCEPTED,)) -> list[Json]:
        return merge_conditions(current, wanted, self.OWNED, 3, NOW)

    def test_a_new_one_is_whole(self) -> None:
        assert self.merge() == [
            {
                "type": "Accepted",
                "status": "True",
                "reason": "Accepted",
                "message": "",
                "observedGeneration": 3,
                "lastTransitionTime": NOW,
            }
        ]

    def test_its_time_changes_with_its_status_only(self) -> None:
        (same,) = self.merge(stored("Accepted", generation=2, reason="Another", message="x"))
        assert (same["lastTransitionTime"], same["reason"], same["observedGeneration"]) == (
            OLD,
            "Accepted",
            3,
        )
        for status in ("False", "Unknown"):
            (changed,) = self.merge(stored("Accepted", status))
            assert changed["lastTransitionTime"] == NOW

    def test_others_stay_as_they_are_and_where_they_are(self) -> None:
        other = {"type": "example.org/Ready", "status": "Unknown", "extra": 1}
        assert self.merge(other, stored("Accepted")) == [other, stored("Accepted")]

    def test_ours_that_no_longer_apply_go(self) -> None:
        assert self.merge(stored("Conflicted"), stored("Accepted")) == [stored("Accepted")]

    def test_doubles_become_one(self) -> None:
        assert len(self.merge(stored("Accepted"), stored("Accepted"))) == 1

    def test_a_condition_without_a_time_gets_one(self) -> None:
        (found,) = self.merge({"type": "Accepted", "status": "True"})
        assert found["lastTransitionTime"] == NOW


class TestGateways:
    def test_from_nothing(self) -> None:
        status = after({}, gateway(listener(attached=2)))
        assert by_type(status["conditions"])["Programmed"]["status"] == "True"
        assert status["addresses"] == [{"type": "IPAddress", "value": "192.0.2.1"}]
        (one,) = status["listeners"]
        assert (one["name"], one["attachedRoutes"]) == ("tcp", 2)
        assert one["supportedKinds"] == [{"group": "gateway.networking.k8s.io", "kind": "TCPRoute"}]
        assert set(by_type(one["conditions"])) == {"Accepted", "Programmed", "ResolvedRefs"}

    def test_the_defaults_of_the_definition_are_replaced(self) -> None:
        defaults = {"type": "Accepted", "status": "Unknown", "reason": "Pending", "lastTransitionTime": OLD}
        status = after({"conditions": [defaults]}, gateway())
        assert by_type(status["conditions"])["Accepted"]["status"] == "True"

    def test_only_what_changes_is_written(self) -> None:
        before = after({}, gateway(listener()))
        assert merged("default", before, gateway(listener()), "later") is None
        changed = merged("default", before, gateway(listener(attached=1)), "later")
        assert changed is not None
        assert list(changed) == ["listeners"]

    def test_a_later_generation_is_left_alone(self) -> None:
        before = after({}, gateway(listener(), generation=4))
        assert merged("default", before, gateway(), NOW) is None

    def test_another_ones_later_generation_does_not_matter(self) -> None:
        before = {"conditions": [stored("example.org/Ready", generation=9)]}
        assert merged("default", before, gateway(), NOW) is not None

    def test_listeners_that_are_gone_go_and_the_order_is_the_specs(self) -> None:
        before = after({}, gateway(listener("a"), listener("b"), listener("c")))
        status = after(before, gateway(listener("c"), listener("b")))
        assert [one["name"] for one in status["listeners"]] == ["c", "b"]

    def test_conflicted_is_left_out_where_there_is_none(self) -> None:
        before = after({}, gateway(listener("tcp", ACCEPTED, CONFLICTED)))
        assert "Conflicted" in by_type(before["listeners"][0]["conditions"])
        assert "Conflicted" not in by_type(after(before, gateway(listener()))["listeners"][0]["conditions"])

    def test_what_others_say_of_a_gateway_and_its_listeners_stays(self) -> None:
        other = stored("example.org/Ready")
        before = {
            "conditions": [other],
            "attachedListenerSets": 3,
            "listeners": [{"name": "tcp", "conditions": [other], "note": "x"}],
        }
        status = after(before, gateway(listener()))
        assert status["conditions"][0] == status["listeners"][0]["conditions"][0] == other
        assert (status["attachedListenerSets"], status["listeners"][0]["note"]) == (3, "x")

    def test_without_addresses_none_are_written_or_left(self) -> None:
        assert "addresses" not in (merged("default", {}, gateway(addresses=()), NOW) or {})
        assert after(after({}, gateway()), gateway(addresses=()))["addresses"] == []


class TestWaitingForNodes:
    """Programmed is true once nodes have it, and isn't taken back as long as nothing has changed."""

    @staticmethod
    def programmed(status: Json) -> tuple[str, str]:
        (one,) = status["listeners"]
        gateway_, listener_ = by_type(status["conditions"]), by_type(one["conditions"])
        assert gateway_["Accepted"]["status"] == listener_["Accepted"]["status"] == "True"
        return gateway_["Programmed"]["status"], listener_["Programmed"]["status"]

    def test_it_is_not_true_before(self) -> None:
        status = after({}, gateway(listener(), waiting=PENDING))
        assert self.programmed(status) == ("False", "False")
        assert by_type(status["conditions"])["Programmed"]["reason"] == "Pending"
        assert self.programmed(after(status, gateway(listener()))) == ("True", "True")

    def test_it_stays_true(self) -> None:
        before = after({}, gateway(listener()))
        assert merged("default", before, gateway(listener(), waiting=PENDING), "later") is None

    def test_a_new_generation_has_to_be_applied_first(self) -> None:
        status = after(after({}, gateway(listener())), gateway(listener(), waiting=PENDING, generation=4))
        assert self.programmed(status) == ("False", "False")

    def test_a_new_address_has_to_be_applied_first(self) -> None:
        wanted = gateway(listener(), waiting=PENDING, addresses=("192.0.2.9",))
        assert self.programmed(after(after({}, gateway(listener())), wanted)) == ("False", "False")

    def test_a_listener_that_was_not_served_has_to_be_applied_first(self) -> None:
        broken = listener("tcp", ACCEPTED, Condition("Programmed", False, "Invalid"), RESOLVED)
        before = after({}, gateway(broken))
        assert self.programmed(after(before, gateway(listener(), waiting=PENDING))) == ("True", "False")

    def test_what_is_not_served_is_not_pending(self) -> None:
        broken = listener("tcp", ACCEPTED, Condition("Programmed", False, "Invalid"), RESOLVED)
        status = after({}, gateway(broken, waiting=PENDING))
        assert by_type(status["listeners"][0]["conditions"])["Programmed"]["reason"] == "Invalid"


class TestRoutes:
    def test_a_parent_reference_has_its_group_and_kind(self) -> None:
        wanted = RouteWanted(OURS, (parent(), parent(namespace="infra", section_name="tcp", port=80)))
        one, two = after({}, wanted)["parents"]
        assert one["parentRef"] == {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gw"}
        assert two["parentRef"] == one["parentRef"] | {
            "namespace": "infra",
            "sectionName": "tcp",
            "port": 80,
        }
        assert one["controllerName"] == OURS
        assert [condition["observedGeneration"] for condition in one["conditions"]] == [7, 7]

    def test_others_parents_stay_also_where_they_name_the_same_gateway(self) -> None:
        other = {"parentRef": {"name": "gw"}, "controllerName": "example.org/other", "conditions": []}
        before = {"parents": [other]}
        status = after(before, RouteWanted(OURS, (parent(),)))
        assert status["parents"][0] == other
        assert len(status["parents"]) == 2
        assert after(status, RouteWanted(OURS)) == before

    def test_ours_that_no_longer_apply_go(self) -> None:
        before = after({}, RouteWanted(OURS, (parent(), parent(name="b"))))
        status = after(before, RouteWanted(OURS, (parent(name="b"),)))
        assert [entry["parentRef"]["name"] for entry in status["parents"]] == ["b"]
        assert after(status, RouteWanted(OURS)) == {"parents": []}

    def test_nothing_of_ours_is_no_write(self) -> None:
        assert merged("default", {}, RouteWanted(OURS), NOW) is None
        assert merged("default", {"parents": []}, RouteWanted(OURS), NOW) is None

    def test_the_routes_own_namespace_may_be_said_or_not(self) -> None:
        entry = {
            "parentRef": {"name": "gw", "namespace": "default"},
            "controllerName": OURS,
            "conditions": [stored("Accepted")],
        }
        (found,) = after({"parents": [entry]}, RouteWanted(OURS, (parent(),)))["parents"]
        assert by_type(found["conditions"])["Accepted"]["lastTransitionTime"] == OLD

    def test_sections_and_ports_are_parents_of_their_own(self) -> None:
        refs: tuple[Json, ...] = ({}, {"section_name": "a"}, {"section_name": "a", "port": 1}, {"port": 1})
        assert len(after({}, RouteWanted(OURS, tuple(parent(**ref) for ref in refs)))["parents"]) == 4

    def test_a_later_generation_is_left_alone(self) -> None:
        before = after({}, RouteWanted(OURS, (parent(8),)))
        changed = parent(7, Condition("Accepted", False, "NoMatchingParent"))
        assert merged("default", before, RouteWanted(OURS, (changed,)), NOW) is None

    def test_partially_invalid_only_while_it_is(self) -> None:
        partly = Condition("PartiallyInvalid", True, "UnsupportedValue", "x")
        before = after({}, RouteWanted(OURS, (parent(7, ACCEPTED, RESOLVED, partly),)))
        assert "PartiallyInvalid" in by_type(before["parents"][0]["conditions"])
        status = after(before, RouteWanted(OURS, (parent(),)))
        assert set(by_type(status["parents"][0]["conditions"])) == {"Accepted", "ResolvedRefs"}

    def test_whose_parents_there_are(self) -> None:
        status = after({}, RouteWanted(OURS, (parent(),)))
        assert has_parent_of(OURS, status)
        assert not has_parent_of("example.org/other", status)
        assert not has_parent_of(OURS, {})


class TestClasses:
    def test_features_where_the_definition_has_them(self) -> None:
        assert after({}, ClassWanted(1, (ACCEPTED,), ("A", "B"), used=False))["supportedFeatures"] == [
            {"name": "A"},
            {"name": "B"},
        ]
        assert "supportedFeatures" not in after({}, ClassWanted(1, (ACCEPTED,), None, used=False))


# Any status that may be there, and anything that may be wanted of it.

TYPES = st.sampled_from(
    ["Accepted", "Programmed", "ResolvedRefs", "Conflicted", "PartiallyInvalid", "x.io/A", "x.io/B"]
)
CURRENT_CONDITIONS = st.lists(
    st.builds(
        stored,
        TYPES,
        st.sampled_from(["True", "False", "Unknown"]),
        st.integers(0, 9),
        reason=st.sampled_from(["Accepted", "Odd"]),
    ),
    max_size=5,
    unique_by=lambda condition: condition["type"],
)
WANTED_CONDITIONS = st.lists(
    st.sampled_from([ACCEPTED, PENDING, PROGRAMMED, RESOLVED, CONFLICTED]),
    max_size=4,
    unique_by=lambda condition: condition.type,
).map(tuple)
LISTENER_NAMES = st.sampled_from("abc")
ADDRESSES = st.sampled_from([(), ("192.0.2.1",), ("192.0.2.1", "2001:db8::1")])
GATEWAYS = st.builds(
    GatewayWanted,
    st.integers(0, 9),
    WANTED_CONDITIONS,
    ADDRESSES,
    st.lists(
        st.builds(ListenerWanted, LISTENER_NAMES, st.just(()), st.integers(0, 3), WANTED_CONDITIONS),
        max_size=3,
        unique_by=lambda one: one.name,
    ).map(tuple),
    st.sampled_from([None, PENDING]),
)
GATEWAY_STATUSES = st.fixed_dictionaries(
    {},
    optional={
        "conditions": CURRENT_CONDITIONS,
        "addresses": ADDRESSES.map(
            lambda values: [{"type": "IPAddress", "value": value} for value in values]
        ),
        "listeners": st.lists(
            st.fixed_dictionaries({"name": LISTENER_NAMES, "conditions": CURRENT_CONDITIONS}),
            max_size=3,
            unique_by=itemgetter("name"),
        ),
        "other": st.integers(),
    },
)
PARENT_NAMES = st.sampled_from(["gw", "gx"])
ROUTES = st.lists(
    st.builds(ParentWanted, st.builds(ParentRef, name=PARENT_NAMES), st.integers(0, 9), WANTED_CONDITIONS),
    max_size=2,
    unique_by=lambda one: one.parent.name,
).map(lambda parents: RouteWanted(OURS, tuple(parents)))
ROUTE_STATUSES = st.lists(
    st.fixed_dictionaries(
        {
            "parentRef": st.builds(lambda name: {"name": name}, PARENT_NAMES),
            "controllerName": st.sampled_from([OURS, "example.org/other"]),
            "conditions": CURRENT_CONDITIONS,
        }
    ),
    max_size=4,
    unique_by=lambda entry: (str(entry["parentRef"]), str(entry["controllerName"])),
).map(lambda parents: {"parents": parents})
SCENES = st.one_of(st.tuples(GATEWAY_STATUSES, GATEWAYS), st.tuples(ROUTE_STATUSES, ROUTES))


@given(SCENES)
def test_once_written_there_is_nothing_more_to_write(scene: tuple[Json, Wanted]) -> None:
    current, wanted = scene
    before = copy.deepcopy(current)
    once = after(current, wanted)
    assert current == before
    assert merged("default", once, wanted, "another time") is None


def conditions_of(status: Json) -> dict[tuple[str, ...], list[Json]]:
    """Every list of conditions, by where it is."""
    found: dict[tuple[str, ...], list[Json]] = {("",): status.get("conditions", [])}
    for one in status.get("listeners", []):
        found["listener", one["name"]] = one["conditions"]
    for one in status.get("parents", []):
        found["parent", one["controllerName"], one["parentRef"]["name"]] = one["conditions"]
    return found


@given(SCENES)
def test_nothing_of_others_is_touched(scene: tuple[Json, Wanted]) -> None:
    current, wanted = scene
    now = after(current, wanted)
    before_all, now_all = conditions_of(current), conditions_of(now)
    for place, before in before_all.items():
        if place in now_all:
            assert [c for c in before if c["type"].startswith("x.io")] == [
                c for c in now_all[place] if c["type"].startswith("x.io")
            ]
    others = [place for place in before_all if place[:2] == ("parent", "example.org/other")]
    assert all(now_all[place] == before_all[place] for place in others)
    assert now.get("other") == current.get("other")


@given(SCENES)
def test_a_time_changes_with_its_status_only(scene: tuple[Json, Wanted]) -> None:
    current, wanted = scene
    now_all = conditions_of(after(current, wanted))
    for place, before in conditions_of(current).items():
        now = by_type(now_all.get(place, []))
        for condition in before:
            if (same := now.get(condition["type"])) is not None:
                assert (same["lastTransitionTime"] == OLD) == (same["status"] == condition["status"])


@pytest.mark.parametrize("odd", [None, "text", 3, [None, "x", 4], {"a": 1}])
def test_what_is_no_list_of_objects_is_replaced(odd: object) -> None:
    status = after({"conditions": odd, "listeners": odd, "addresses": odd}, gateway(listener()))
    assert by_type(status["conditions"])["Accepted"]["status"] == "True"
    assert len(status["listeners"]) == 1
