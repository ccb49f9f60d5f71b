"""What a service comes to, frontend by frontend, and whose a frontend is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt_backend.model import (
    Algorithm,
    Endpoint,
    Origin,
    PortMapping,
    Protocol,
    Scope,
    Service,
    ServiceView,
    SourceFilter,
)
from blixt_backend.planes.userspace.choice import Side, Target
from blixt_backend.planes.userspace.compile import Entry, Frontend, compile_view
from blixt_backend.planes.userspace.table import Moved, Table
from blixt_views import packed, views

CLUSTER = Frontend("10.96.0.1", 80, Protocol.TCP)
CLUSTER6 = Frontend("fd00::1", 80, Protocol.TCP)
OUTSIDE = Frontend("192.0.2.1", 80, Protocol.TCP)
NODE = Frontend("172.18.0.11", 30080, Protocol.TCP)
ONE, TWO = Target("10.0.0.1", 8080), Target("10.0.0.2", 8080)
HTTP = PortMapping("http", Protocol.TCP, 80, node_port=30080, target_port=8080)
NOT_EXTERNAL, NOT_INTERNAL = Scope.INTERNAL | Scope.CLUSTER, Scope.EXTERNAL | Scope.CLUSTER


def view(*endpoints: Endpoint, **fields: Any) -> ServiceView:
    usual: dict[str, Any] = {
        "cluster_ips": packed("10.96.0.1", "fd00::1"),
        "external_ips": packed("192.0.2.1"),
        "ports": (HTTP,),
    }
    return ServiceView(Service("ns", "web", **(usual | fields)), endpoints)


def pod(number: int, **fields: Any) -> Endpoint:
    return Endpoint(f"pod-{number}", packed(f"10.0.0.{number}", f"fd01::{number}"), **fields)


def compiled(of: ServiceView) -> dict[Frontend, Entry]:
    return compile_view(of, packed("172.18.0.11"))


def test_every_address_leads_to_the_endpoints_of_its_family() -> None:
    entries = compiled(view(pod(1), pod(2)))
    assert entries.keys() == {CLUSTER, CLUSTER6, OUTSIDE, NODE}
    for frontend in (CLUSTER, OUTSIDE, NODE):
        entry = entries[frontend]
        assert (entry.inside.targets, entry.outside) == ((ONE, TWO), None)
        assert entry.keeps == {ONE, TWO}
    assert entries[CLUSTER6].inside.targets == (Target("fd01::1", 8080), Target("fd01::2", 8080))


def test_other_protocols_are_left_out() -> None:
    assert compiled(view(pod(1), ports=(replace(HTTP, protocol=Protocol.SCTP),))) == {}


def test_policies_for_outsiders_leave_the_cluster_ip_alone() -> None:
    entries = compiled(view(pod(1), pod(2, scopes=NOT_EXTERNAL), external_traffic_local=True))
    assert entries[CLUSTER].outside is None
    outside = entries[OUTSIDE].outside
    assert (entries[OUTSIDE].inside.targets, outside and outside.targets) == ((ONE, TWO), (ONE,))


def test_who_only_keeps_connections_is_kept_and_not_chosen() -> None:
    entry = compiled(view(pod(1, scopes=Scope.NONE, terminating=True), pod(2)))[CLUSTER]
    assert (entry.inside.targets, set(entry.keeps)) == ((TWO,), {ONE, TWO})


@pytest.mark.parametrize(("protocol", "kept"), [(Protocol.TCP, {ONE, TWO}), (Protocol.UDP, {TWO})])
def test_udp_does_not_stay_with_who_serves_no_more(protocol: Protocol, kept: set[Target]) -> None:
    leaving = pod(1, scopes=Scope.NONE, terminating=True, serving=False)
    entries = compiled(view(leaving, pod(2), ports=(replace(HTTP, protocol=protocol),)))
    assert entries[CLUSTER._replace(protocol=protocol)].keeps == kept


@pytest.mark.parametrize(
    ("fields", "endpoints", "answers", "silent"),
    [
        ({}, [], False, False),
        ({}, [pod(1)], True, False),
        ({"origin": Origin.GATEWAY_LISTENER}, [], False, True),
        ({"internal_traffic_local": True}, [pod(1, scopes=NOT_INTERNAL)], False, True),
        ({"internal_traffic_local": True}, [], False, False),
    ],
)
def test_who_is_silent_over_udp_where_nobody_answers(
    fields: dict[str, Any], endpoints: list[Endpoint], answers: bool, silent: bool
) -> None:
    udp = replace(HTTP, protocol=Protocol.UDP)
    entry = compiled(view(*endpoints, ports=(udp,), **fields))[CLUSTER._replace(protocol=Protocol.UDP)]
    assert (entry.answers, entry.silent) == (answers, silent)


def test_source_ranges_are_of_their_addresses_and_family() -> None:
    ranges = ((packed("10.0.0.0")[0], 8), (packed("fd00::")[0], 16))
    filters = (SourceFilter(packed("192.0.2.1"), ranges),)
    entries = compiled(view(pod(1), source_filters=filters))
    assert [str(each) for each in entries[OUTSIDE].ranges or ()] == ["10.0.0.0/8"]
    assert entries[CLUSTER].ranges is None
    none_of_ours = (SourceFilter(packed("192.0.2.1"), ranges[1:]),)
    assert compiled(view(pod(1), source_filters=none_of_ours))[OUTSIDE].ranges is None
    nobody = (SourceFilter(packed("192.0.2.1"), ()),)
    assert compiled(view(pod(1), source_filters=nobody))[OUTSIDE].ranges == ()


def test_a_routes_backend_of_the_other_family_is_a_share_to_refuse() -> None:
    only4 = Endpoint("pod-2", packed("10.0.0.2"), group=2)
    entries = compiled(view(pod(1, group=1), only4, origin=Origin.GATEWAY_LISTENER))
    assert entries[CLUSTER6].inside.targets == (Target("fd01::1", 8080), None)


def test_algorithms() -> None:
    assert compiled(view(pod(1), algorithm=Algorithm.LEAST_CONNECTIONS))[CLUSTER].least
    assert not compiled(view(pod(1)))[CLUSTER].least


def entry_of(name: str) -> Entry:
    return Entry(f"ns/{name}", name, Side())


def test_a_frontend_is_the_first_ones_by_name_as_long_as_it_asks() -> None:
    table = Table()
    assert table.change({"ns/b": {CLUSTER: entry_of("b")}}) == {CLUSTER: Moved(None, entry_of("b"))}
    assert table.change({"ns/c": {CLUSTER: entry_of("c")}}) == {}
    assert table.change({"ns/a": {CLUSTER: entry_of("a")}}) == {CLUSTER: Moved(entry_of("b"), entry_of("a"))}
    assert table.change({"ns/a": {}}) == {CLUSTER: Moved(entry_of("a"), entry_of("b"))}
    assert table.change({"ns/b": {}, "ns/c": {}}) == {CLUSTER: Moved(entry_of("b"), None)}
    assert table.entries == {}


changes_of_three = st.lists(
    st.sampled_from("abc").flatmap(lambda name: st.tuples(st.just(name), st.none() | views(name))), max_size=9
)


@given(changes_of_three)
def test_changes_one_by_one_come_to_the_same_as_all_at_once(
    changes: list[tuple[str, ServiceView | None]],
) -> None:
    table, held, seen = Table(), dict[str, ServiceView | None](), dict[Frontend, Entry]()
    for path, each in changes:
        held[path] = each
        for frontend, (before, after) in table.change({path: compiled(each) if each else {}}).items():
            assert seen.pop(frontend, None) == before
            if after is not None:
                seen[frontend] = after
    whole = Table()
    whole.change({path: compiled(each) for path, each in held.items() if each})
    assert table.entries == whole.entries == seen
