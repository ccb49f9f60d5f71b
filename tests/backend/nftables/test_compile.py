"""What a service comes to, in each family."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from blixt_backend.model import (
    Endpoint,
    Origin,
    PortMapping,
    Protocol,
    Scope,
    Service,
    ServiceView,
    SourceFilter,
)
from blixt_backend.planes.nftables.choice import DROP, REFUSE, Choice
from blixt_backend.planes.nftables.compile import Entry, Frontend, compile_view
from blixt_backend.planes.nftables.family import IPV4, IPV6
from blixt_views import packed

CLUSTER, OUTSIDE, NODE = (
    Frontend("10.96.0.1", "tcp", 80),
    Frontend("192.0.2.1", "tcp", 80),
    Frontend("172.18.0.11", "tcp", 30080),
)
ONE, TWO = ("10.0.0.1", 8080), ("10.0.0.2", 8080)
HTTP = PortMapping("http", Protocol.TCP, 80, node_port=30080, target_port=8080)
NOT_EXTERNAL = Scope.INTERNAL | Scope.CLUSTER


def service(*endpoints: Endpoint, **fields: Any) -> ServiceView:
    usual: dict[str, Any] = {
        "cluster_ips": packed("10.96.0.1", "fd00::1"),
        "external_ips": packed("192.0.2.1"),
        "ports": (HTTP,),
    }
    return ServiceView(Service("ns", "web", **(usual | fields)), endpoints)


def pod(number: int, **fields: Any) -> Endpoint:
    return Endpoint(f"pod-{number}", packed(f"10.0.0.{number}", f"fd01::{number}"), **fields)


def compiled(view: ServiceView) -> dict[Frontend, Entry]:
    return dict(compile_view(view, IPV4, packed("172.18.0.11", "fd00:172::11")).entries)


def test_every_address_leads_to_the_endpoints() -> None:
    entries = compiled(service(pod(1), pod(2)))
    assert entries.keys() == {CLUSTER, OUTSIDE, NODE}
    for entry in entries.values():
        assert (entry.inside.choice, entry.inside.slots, entry.outside) == (Choice(2), (ONE, TWO), None)
        assert entry.title == "ns/web:http"


def test_families_have_nothing_to_do_with_each_other() -> None:
    only4 = replace(pod(1), addresses=packed("10.0.0.1"))
    plan = compile_view(service(only4, pod(2)), IPV6, packed("172.18.0.11", "fd00:172::11"))
    assert plan.entries.keys() == {Frontend("fd00::1", "tcp", 80), Frontend("fd00:172::11", "tcp", 30080)}
    assert {entry.inside.slots for entry in plan.entries.values()} == {(("fd01::2", 8080),)}


def test_without_an_endpoint_all_is_refused_whatever_the_policy() -> None:
    view = service(external_traffic_local=True, internal_traffic_local=True)
    assert {(each.inside.choice, each.outside) for each in compiled(view).values()} == {(REFUSE, None)}


def test_policies_drop_where_only_others_have_endpoints() -> None:
    far = pod(1, scopes=Scope.CLUSTER)
    entries = compiled(service(far, external_traffic_local=True, internal_traffic_local=True))
    assert entries[CLUSTER].inside.choice == DROP
    outside = entries[OUTSIDE].outside
    assert outside is not None
    assert outside.choice == DROP
    assert entries[OUTSIDE].inside.slots == (ONE,)


def test_outsiders_get_the_endpoints_that_are_for_them() -> None:
    entries = compiled(service(pod(1), pod(2, scopes=NOT_EXTERNAL), external_traffic_local=True))
    outside = entries[NODE].outside
    assert outside is not None
    assert (outside.slots, entries[NODE].inside.slots) == ((ONE,), (ONE, TWO))


def test_weights_are_shared_by_groups() -> None:
    view = service(pod(1, group=1, weight=3), pod(2, group=1, weight=3), pod(3, group=2, weight=1))
    slots = compiled(view)[CLUSTER].inside.slots
    assert Counter(slots) == {ONE: 3, TWO: 3, ("10.0.0.3", 8080): 2}


def test_a_weight_of_zero_gets_nothing_and_keeps_what_it_has() -> None:
    entry = compiled(service(pod(1, group=1, weight=0), pod(2, group=2, weight=1)))[CLUSTER]
    assert entry.inside.slots == (TWO,)
    assert entry.keeps == {ONE, TWO}
    assert compiled(service(pod(1, weight=0)))[CLUSTER].inside.choice == REFUSE


@pytest.mark.parametrize(
    ("origin", "protocol", "drops"),
    [
        (Origin.GATEWAY_LISTENER, Protocol.UDP, True),
        (Origin.GATEWAY_LISTENER, Protocol.TCP, False),
        (Origin.SERVICE, Protocol.UDP, False),
    ],
)
def test_a_share_to_refuse_has_slots_with_nobody(origin: Origin, protocol: Protocol, drops: bool) -> None:
    refused = Endpoint("none", reject=True, group=2)
    view = service(pod(1, group=1), refused, origin=origin, ports=(replace(HTTP, protocol=protocol),))
    (entry,) = {each.inside for each in compiled(view).values()}
    assert Counter(entry.slots) == {ONE: 1, None: 1}
    assert entry.choice == Choice(2, drops=drops)


def test_a_routes_backend_of_the_other_family_keeps_its_share() -> None:
    six = Endpoint("six", packed("fd01::9"), group=2)
    view = service(pod(1, group=1), six, origin=Origin.GATEWAY_LISTENER)
    assert Counter(compiled(view)[CLUSTER].inside.slots) == {ONE: 1, None: 1}
    assert compiled(replace(view, service=replace(view.service, origin=Origin.SERVICE)))[
        CLUSTER
    ].inside.slots == (ONE,)


def test_affinity_is_part_of_the_choice_where_there_is_one() -> None:
    assert compiled(service(pod(1), affinity_seconds=60))[CLUSTER].inside.choice == Choice(1, 60)
    assert compiled(service(affinity_seconds=60))[CLUSTER].inside.choice == REFUSE


def test_ports_by_name_and_endpoints_that_lack_one() -> None:
    view = service(pod(1, port_overrides=(("http", 81),)), pod(2, port_overrides=(("other", 82),)))
    assert compiled(view)[CLUSTER].inside.slots == (("10.0.0.1", 81),)


def test_of_one_address_and_port_the_first_has_it() -> None:
    other = PortMapping("other", Protocol.TCP, 80, target_port=9090)
    assert compiled(service(pod(1), ports=(HTTP, other)))[CLUSTER].title == "ns/web:http"
    twice = service(pod(1, scopes=Scope.INTERNAL), external_ips=packed("10.96.0.1"))
    assert compiled(twice)[CLUSTER].inside.slots == (ONE,)


def test_udp_keeps_those_that_serve_and_tcp_all_that_are_there() -> None:
    silent = pod(1, scopes=Scope.NONE, serving=False, terminating=True)
    draining = pod(2, scopes=Scope.NONE, terminating=True)
    assert compiled(service(silent, draining))[CLUSTER].keeps == {ONE, TWO}
    udp = compiled(service(silent, draining, ports=(replace(HTTP, protocol=Protocol.UDP),)))
    assert udp[CLUSTER._replace(protocol="udp")].keeps == {TWO}


def test_source_ranges_guard_their_addresses_only_and_dont_overlap() -> None:
    def ranged(*texts: str) -> SourceFilter:
        pairs = [text.split("/") for text in texts]
        return SourceFilter(
            packed("192.0.2.1"), tuple((packed(address)[0], int(length)) for address, length in pairs)
        )

    def ranges_of(*filters: SourceFilter) -> tuple[str, ...] | None:
        entries = compiled(service(pod(1), source_filters=filters))
        assert entries[CLUSTER].ranges is None
        assert entries[NODE].ranges is None
        return entries[OUTSIDE].ranges

    assert ranges_of(ranged("10.1.2.3/8", "10.2.0.0/16"), ranged("192.0.2.7/32")) == (
        "10.0.0.0/8",
        "192.0.2.7/32",
    )
    assert ranges_of(ranged("fd00::/8")) is None
    assert ranges_of(ranged()) == ()


def test_the_node_knows_its_own_endpoints_and_cluster_ips() -> None:
    plan = compile_view(service(pod(1, local=True), pod(2)), IPV4, ())
    assert plan.local == {"10.0.0.1"}
    assert plan.cluster_ips == {"10.96.0.1"}
