"""From a service to a family's rows."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt_backend.model import (
    Algorithm,
    Endpoint,
    Origin,
    PackedAddress,
    PortMapping,
    Protocol,
    Scope,
    Service,
    ServiceView,
    SourceFilter,
)
from blixt_backend.planes.ebpf.compile import (
    PortKey,
    PortPlan,
    SlotSet,
    compile_view,
    render_slots,
    render_weighed_slots,
)
from blixt_backend.planes.ebpf.layout import ALWAYS, IPV4, IPV6, EndpointFlag, ServiceFlag

LIVE, LOCAL, DRAINING = EndpointFlag.LIVE, EndpointFlag.LOCAL, EndpointFlag.DRAINING
ALL = Scope.INTERNAL | Scope.EXTERNAL | Scope.CLUSTER
HTTP = PortMapping("http", Protocol.TCP, 80, node_port=30080, target_port=8080)


def ip(text: str) -> PackedAddress:
    return PackedAddress(ipaddress.ip_address(text).packed)


def identity(text: str, port: int = 8080) -> bytes:
    return ip(text) + port.to_bytes(2, "big")


def frontend(text: str, port: int, protocol: int = 6) -> bytes:
    return IPV4.frontend.pack(ip(text), port.to_bytes(2, "big"), protocol)


def endpoint(text: str, **more: object) -> Endpoint:
    return Endpoint(text, (ip(text),), **more)  # type: ignore[arg-type]


def service(**more: object) -> Service:
    values: dict[str, object] = {"cluster_ips": (ip("10.96.0.1"),), "ports": (HTTP,), **more}
    return Service("ns", "web", **values)  # type: ignore[arg-type]


def one(view: ServiceView, *node: str) -> PortPlan:
    (plan,) = compile_view(view, IPV4, [ip(text) for text in node])
    return plan


def test_a_cluster_ip_has_one_set_for_both_sides() -> None:
    plan = one(ServiceView(service(), (endpoint("10.0.0.1"), endpoint("10.0.0.2", local=True))))
    assert plan.key == PortKey("ns/web", "http", 6)
    assert plan.endpoints == {identity("10.0.0.1"): LIVE, identity("10.0.0.2"): LIVE | LOCAL}
    assert plan.sets == (SlotSet((identity("10.0.0.1"), identity("10.0.0.2"))),)
    assert [row[:4] for row in plan.frontends] == [(frontend("10.96.0.1", 80), 0, 0, 0)]


def test_every_kind_of_address_becomes_a_frontend() -> None:
    view = ServiceView(
        service(external_ips=(ip("192.0.2.9"),), load_balancer_ips=(ip("203.0.113.7"), ip("2001:db8::7"))),
        (endpoint("10.0.0.1"),),
    )
    keys = {row.key for row in one(view, "192.0.2.1", "192.0.2.2").frontends}
    assert keys == {
        frontend("10.96.0.1", 80),
        frontend("192.0.2.9", 80),
        frontend("203.0.113.7", 80),
        frontend("192.0.2.1", 30080),
        frontend("192.0.2.2", 30080),
    }


def test_policy_local_of_outsiders_leaves_insiders_alone() -> None:
    near = endpoint("10.0.0.1", local=True, scopes=ALL)
    far = endpoint("10.0.0.2", scopes=Scope.INTERNAL | Scope.CLUSTER)
    plan = one(
        ServiceView(service(load_balancer_ips=(ip("203.0.113.7"),), external_traffic_local=True), (near, far))
    )
    rows = {row.key: row for row in plan.frontends}
    outer = rows[frontend("203.0.113.7", 80)]
    assert plan.sets[outer.outside].choices == (identity("10.0.0.1"),)
    assert plan.sets[outer.inside].choices == (identity("10.0.0.1"), identity("10.0.0.2"))
    assert outer.flags == 0


@pytest.mark.parametrize(
    ("external", "internal", "cluster_flags", "external_flags"),
    [
        (True, False, 0, ServiceFlag.DROP_OUTSIDE),
        (False, True, ServiceFlag.DROP_INSIDE | ServiceFlag.DROP_OUTSIDE, 0),
        (False, False, 0, 0),
    ],
)
def test_without_a_local_endpoint_policy_local_drops(
    external: bool, internal: bool, cluster_flags: int, external_flags: int
) -> None:
    far = endpoint("10.0.0.2", scopes=Scope.CLUSTER)
    plan = one(
        ServiceView(
            service(
                load_balancer_ips=(ip("203.0.113.7"),),
                external_traffic_local=external,
                internal_traffic_local=internal,
            ),
            (far,),
        )
    )
    flags = {row.key: row.flags for row in plan.frontends}
    assert flags == {frontend("10.96.0.1", 80): cluster_flags, frontend("203.0.113.7", 80): external_flags}


@pytest.mark.parametrize("endpoints", [(), (endpoint("10.0.0.2", scopes=Scope.NONE),)])
def test_without_any_endpoint_policy_local_refuses(endpoints: tuple[Endpoint, ...]) -> None:
    local = service(
        load_balancer_ips=(ip("203.0.113.7"),), external_traffic_local=True, internal_traffic_local=True
    )
    assert {row.flags for row in one(ServiceView(local, endpoints)).frontends} == {0}


def test_a_draining_endpoint_is_in_no_set_and_stays_an_endpoint() -> None:
    plan = one(ServiceView(service(), (endpoint("10.0.0.1"), endpoint("10.0.0.2", scopes=Scope.NONE))))
    assert plan.sets == (SlotSet((identity("10.0.0.1"),)),)
    assert plan.endpoints[identity("10.0.0.2")] == LIVE | DRAINING


def test_an_endpoint_that_answers_nobody_is_silent_unless_it_is_chosen_all_the_same() -> None:
    silent = endpoint("10.0.0.1", serving=False, scopes=Scope.NONE)
    chosen = endpoint("10.0.0.2", serving=False)
    assert one(ServiceView(service(), (silent, chosen))).endpoints == {
        identity("10.0.0.1"): LIVE | DRAINING | EndpointFlag.SILENT,
        identity("10.0.0.2"): LIVE,
    }


def test_a_group_s_weight_is_shared_by_its_endpoints() -> None:
    view = ServiceView(
        service(),
        (
            endpoint("10.0.0.1", group=1, weight=70),
            endpoint("10.0.0.2", group=1, weight=70),
            endpoint("10.0.0.3", group=2, weight=30),
            endpoint("10.0.0.4", group=3, weight=0),
        ),
    )
    (slots,) = one(view).sets
    assert dict(zip(slots.choices, slots.weights, strict=True)) == {
        identity("10.0.0.1"): 7,
        identity("10.0.0.2"): 7,
        identity("10.0.0.3"): 6,
    }
    assert one(view).endpoints[identity("10.0.0.4")] == LIVE | DRAINING


def test_a_reject_share_is_a_choice_of_nobody() -> None:
    view = ServiceView(
        service(origin=Origin.GATEWAY_LISTENER, ports=(PortMapping("", Protocol.UDP, 53),)),
        (endpoint("10.0.0.1", group=1, weight=1), Endpoint("reject", reject=True, group=2, weight=3)),
    )
    plan = one(view)
    assert plan.sets == (SlotSet((identity("10.0.0.1", 53), None), (1, 3)),)
    assert plan.frontends[0].flags == ServiceFlag.DROP_UDP_REJECTS
    assert plan.key == PortKey("ns/web", "53", 17)


def test_a_share_whose_endpoints_are_of_the_other_family_is_refused() -> None:
    members = (endpoint("10.0.0.1", group=0, weight=1), endpoint("fd00::2", group=1, weight=3))
    route = ServiceView(service(origin=Origin.GATEWAY_LISTENER), members)
    assert one(route).sets == (SlotSet((identity("10.0.0.1"), None), (1, 3)),)
    plain = ServiceView(service(), members)
    assert one(plain).sets == (SlotSet((identity("10.0.0.1"),)),)


def test_a_share_of_weight_0_is_refused_by_nobody() -> None:
    members = (endpoint("10.0.0.1", group=0), endpoint("fd00::2", group=1, weight=0, scopes=Scope.NONE))
    route = ServiceView(service(origin=Origin.GATEWAY_LISTENER), members)
    assert one(route).sets == (SlotSet((identity("10.0.0.1"),)),)


def test_one_address_in_two_groups_gets_both_shares() -> None:
    view = ServiceView(
        service(), (endpoint("10.0.0.1", group=1, weight=1), endpoint("10.0.0.1", group=2, weight=2))
    )
    assert one(view).sets == (SlotSet((identity("10.0.0.1"),)),)


def test_an_endpoint_s_own_port_and_a_port_that_it_lacks() -> None:
    named = endpoint("10.0.0.1", port_overrides=(("http", 9090),))
    other = endpoint("10.0.0.2", port_overrides=(("metrics", 9100),))
    assert list(one(ServiceView(service(), (named, other))).endpoints) == [identity("10.0.0.1", 9090)]


def test_families_are_kept_apart() -> None:
    both = Endpoint("a", (ip("10.0.0.1"), ip("fd00::1")))
    view = ServiceView(service(cluster_ips=(ip("10.96.0.1"), ip("fd00:96::1"))), (both,))
    (six,) = compile_view(view, IPV6, [])
    assert list(six.endpoints) == [identity("fd00::1")]
    assert list(one(view).endpoints) == [identity("10.0.0.1")]


def test_a_service_without_an_address_of_the_family_is_nothing() -> None:
    assert compile_view(ServiceView(service(), (endpoint("10.0.0.1"),)), IPV6, []) == []


def test_sctp_is_a_protocol_as_others() -> None:
    ports = (HTTP, PortMapping("sig", Protocol.SCTP, 5060))
    plans = compile_view(ServiceView(service(ports=ports)), IPV4, [])
    assert [(plan.key.port, plan.key.protocol) for plan in plans] == [("http", 6), ("sig", 132)]
    assert [plan.frontends[0].key[-2] for plan in plans] == [6, 132]


@pytest.mark.parametrize(
    ("algorithm", "service_flags", "endpoint_flags"),
    [
        (Algorithm.WEIGHTED_RANDOM, ServiceFlag(0), LIVE),
        (Algorithm.MAGLEV, ServiceFlag.MAGLEV, LIVE),
        (Algorithm.LEAST_CONNECTIONS, ServiceFlag.LEAST_CONNECTIONS, LIVE | EndpointFlag.COUNTED),
    ],
)
def test_the_algorithm_is_in_every_frontend_and_who_is_counted_in_endpoints(
    algorithm: Algorithm, service_flags: ServiceFlag, endpoint_flags: EndpointFlag
) -> None:
    plan = one(ServiceView(service(algorithm=algorithm), (Endpoint("a", (ip("10.0.0.1"),)),)))
    assert plan.algorithm is algorithm
    assert {row.flags for row in plan.frontends} == {service_flags}
    assert set(plan.endpoints.values()) == {endpoint_flags}


def test_weights_stand_behind_the_columns_that_name_their_endpoints() -> None:
    many, few = identity("10.0.0.1"), identity("10.0.0.2")
    rows = render_weighed_slots(SlotSet((many, few, None), (1 << 40, 1, 1 << 39)), {many: 7, few: 8}, IPV4)
    columns = list(struct.iter_unpack("=3I", rows))
    weights = {7: 0xFFFFFFFF, 8: 1, 0: 0x7FFFFFFF}
    assert len(columns) == 6
    for (_, endpoint, alias), behind in zip(columns[::2], columns[1::2], strict=True):
        assert behind == (weights[endpoint], weights[alias], 0)


def test_source_ranges_guard_only_their_targets() -> None:
    guarded = SourceFilter((ip("203.0.113.7"),), ((ip("198.51.100.77"), 24), (ip("2001:db8::"), 32)))
    view = ServiceView(service(load_balancer_ips=(ip("203.0.113.7"),), source_filters=(guarded,)))
    plan = one(view)
    assert plan.range_sets == (((24, ip("198.51.100.0")),),)
    assert {row.key: (row.flags, row.ranges) for row in plan.frontends} == {
        frontend("10.96.0.1", 80): (0, -1),
        frontend("203.0.113.7", 80): (ServiceFlag.SOURCE_RANGES, 0),
    }


def test_a_filter_of_the_other_family_guards_nothing_and_an_empty_one_lets_nobody_in() -> None:
    address = ip("203.0.113.7")
    for ranges, expected in ((((ip("2001:db8::"), 32),), ()), ((), ((),))):
        guarded = SourceFilter((address,), ranges)
        plan = one(ServiceView(service(load_balancer_ips=(address,), source_filters=(guarded,))))
        assert plan.range_sets == expected
        guards = {row.key: bool(row.flags & ServiceFlag.SOURCE_RANGES) for row in plan.frontends}
        assert guards == {frontend("10.96.0.1", 80): False, frontend("203.0.113.7", 80): bool(expected)}


def test_two_sets_of_ranges_are_told_apart() -> None:
    filters = (
        SourceFilter((ip("203.0.113.7"),), ((ip("198.51.100.0"), 24),)),
        SourceFilter((ip("203.0.113.8"),), ((ip("0.0.0.0"), 0),)),
    )
    view = ServiceView(
        service(load_balancer_ips=(ip("203.0.113.7"), ip("203.0.113.8")), source_filters=filters)
    )
    assert len(one(view).range_sets) == 2
    assert [row.ranges for row in one(view).frontends] == [-1, 0, 1]


@pytest.mark.parametrize(("seconds", "ticks"), [(0, 0), (1, 1), (2, 2), (10800, 10059), (86400, 80467)])
def test_affinity_seconds_become_ticks_rounded_up(seconds: int, ticks: int) -> None:
    assert one(ServiceView(service(affinity_seconds=seconds))).affinity_ticks == ticks


def test_slots_of_equal_choices_throw_no_coin() -> None:
    slots = SlotSet((b"a", None, b"b"))
    assert render_slots(slots, {b"a": 4, b"b": 9}, IPV4) == b"".join(
        IPV4.slot.pack(ALWAYS, index, index) for index in (4, 0, 9)
    )


weighted = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 100), st.booleans()), min_size=1, max_size=12)


@given(weighted)
def test_shares_follow_groups(members: list[tuple[int, int, bool]]) -> None:
    weight_of = {group: weight for group, weight, _ in members}
    endpoints = tuple(
        Endpoint(str(i), () if refuse else (ip(f"10.0.0.{i}"),), group=g, weight=weight_of[g], reject=refuse)
        for i, (g, _, refuse) in enumerate(members)
    )
    (slots,) = one(ServiceView(service(), endpoints)).sets
    total = sum(weight_of.values())
    wanted: dict[bytes | None, Fraction] = {}
    for i, (group, _, refuse) in enumerate(members):
        size = sum(other == group for other, _, _ in members)
        choice = None if refuse else identity(f"10.0.0.{i}")
        wanted[choice] = wanted.get(choice, Fraction()) + Fraction(weight_of[group], max(total, 1) * size)
    weights = slots.weights or (1,) * len(slots.choices)
    got = {
        choice: Fraction(weight, sum(weights)) for choice, weight in zip(slots.choices, weights, strict=True)
    }
    assert got == {choice: share for choice, share in wanted.items() if share}


def test_endpoints_of_other_nodes_are_reached_by_tunnels_where_that_is_asked_for() -> None:
    endpoints = (endpoint("10.0.0.1"), endpoint("10.0.0.2", local=True))
    (plan,) = compile_view(ServiceView(service(), endpoints), IPV4, [], by_tunnel=True)
    tunnelled = LIVE | EndpointFlag.TUNNELLED
    assert plan.endpoints == {identity("10.0.0.1"): tunnelled, identity("10.0.0.2"): LIVE | LOCAL}
    assert plan.ambiguous == frozenset()


def test_a_tunnel_can_t_tell_endpoints_with_one_address_apart() -> None:
    """A route to two backends with the same pod, by two ports."""
    first, other = endpoint("10.0.0.1"), endpoint("10.0.0.2")
    second = replace(first, port_overrides=(("http", 9090),), group=1)
    (plan,) = compile_view(ServiceView(service(), (first, second, other)), IPV4, [], by_tunnel=True)
    assert plan.endpoints == {
        identity("10.0.0.1"): LIVE,
        identity("10.0.0.1", 9090): LIVE,
        identity("10.0.0.2"): LIVE | EndpointFlag.TUNNELLED,
    }
    assert plan.ambiguous == {ip("10.0.0.1")}
