"""The rules of the Gateway API: what a Gateway's result says, and what its items are."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from blixt_api import localv1_pb2 as wire
from blixt_frontend.items import Item
from blixt_frontend.objects import (
    AllowedRoutes,
    BackendRef,
    EndpointPort,
    GatewayAddress,
    GrantFrom,
    GrantTo,
    Infrastructure,
    LabelSelector,
    Listener,
    Object,
    ParametersRef,
    ParentRef,
    ReferenceGrant,
    RouteGroupKind,
    RouteRule,
    SelectorRequirement,
)
from blixt_frontend.objects.gateway import GATEWAY_GROUP
from blixt_frontend.translation.addresses import Addresses
from blixt_frontend.translation.cluster import NamespacedName
from blixt_frontend.translation.gateway_items import GatewayTranslation, translate_gateway
from blixt_frontend.translation.index import Index
from blixt_frontend.translation.options import Options
from blixt_frontend.translation.placeholders import placeholders
from blixt_frontend.translation.results import Condition, GatewayResult
from blixt_objects import (
    ALL,
    NONE,
    Objects,
    Seen,
    backend,
    endpoint,
    endpoint_slice,
    gateway,
    gateway_class,
    grant,
    lets_in,
    listener,
    namespace,
    port,
    scopes,
    service,
    tcp_route,
    terminating,
    udp_route,
)

GW = NamespacedName("default", "gw")
WEB: Objects = (service(), endpoint_slice(endpoint("10.0.0.1", "web-0"), endpoint("10.0.0.2", "web-1")))
API: Objects = (
    service("api", cluster_ips=("10.96.0.2",)),
    endpoint_slice(endpoint("10.0.1.1", "api-0"), of="api"),
)


def translate(*objects: Object, name: NamespacedName = GW) -> GatewayTranslation:
    index = Index()
    for one in (gateway_class(), *objects):
        list(index.put(one))
    return translate_gateway(name, index.cluster, Options())


def result(*objects: Object) -> GatewayResult:
    found = translate(*objects).result
    assert found is not None
    return found


def items(*objects: Object) -> tuple[Item, ...]:
    return translate(*objects).translation.items


def seen(*objects: Object) -> Seen:
    return Seen(items(*objects))


def accepted(*objects: Object) -> list[str]:
    """The reasons of all routes' Accepted conditions."""
    return [str(parent.conditions.reason("Accepted")) for parent in result(*objects).parents]


def resolved(*objects: Object) -> str:
    (parent,) = result(*objects).parents
    return str(parent.conditions.reason("ResolvedRefs"))


def test_a_listener_travels_as_a_service() -> None:
    view = seen(gateway(listener("tcp", 8000)), tcp_route(backend()), *WEB)
    made = view.service()
    (placeholder,) = made.IPs.ClusterIPs.V4
    assert made == wire.Service(
        Namespace="default",
        Name="gw.tcp",
        Type="LoadBalancer",
        IPs=wire.ServiceIPs(
            ClusterIPs=wire.IPSet(V4=[placeholder]),
            ExternalIPs=wire.IPSet(),  # there, and empty
            LoadBalancerIPs=wire.IPSet(V4=["192.0.2.1"]),
        ),
        Ports=[
            wire.PortMapping(Name="tcp", Protocol=wire.TCP, Port=8000, TargetPort=8080, TargetPortName="tcp")
        ],
        Labels={"gateway.networking.k8s.io/gateway-name": "gw"},
        Origin=wire.GatewayListener,
        Announce=True,
    )
    assert set(view.endpoints) == {
        "default/gw.tcp/default.web.80.web-0",
        "default/gw.tcp/default.web.80.web-1",
    }
    for message in view.endpoints.values():
        assert [(o.Name, o.Port) for o in message.PortOverrides] == [("tcp", 8080)]
        assert (message.Group, message.Weight, scopes(message)) == (0, 1, ALL)


def test_a_listeners_placeholders_are_nobodys_and_the_same_again() -> None:
    both = Addresses(("192.0.2.1",), ("2001:db8::1",))
    made = placeholders("default/gw.tcp", both)
    assert ip_address(made.v4[0]) in ip_network("240.0.0.0/4")
    assert ip_address(made.v6[0]) in ip_network("100::/64")
    assert made == placeholders("default/gw.tcp", both) != placeholders("default/gw.udp", both)
    assert placeholders("default/gw.tcp", Addresses(v6=both.v6)) == Addresses(v6=made.v6)
    assert placeholders("default/gw.tcp", Addresses()) == Addresses()


def test_a_gateway_of_another_class_or_of_none_is_not_ours() -> None:
    assert translate(gateway(listener(), class_name="other")).result is None
    assert translate(gateway(listener(), class_name="x"), gateway_class("x", "example.org/x")).result is None


def test_names_with_dots_do_not_collide() -> None:
    one = translate(gateway(listener("c"), name="a.b"), name=NamespacedName("default", "a.b"))
    other = translate(gateway(listener("b.c"), name="a"), name=NamespacedName("default", "a"))
    assert one.translation.items[0].path != other.translation.items[0].path


def test_udp() -> None:
    dns = service("dns", port(53, 5353, protocol="UDP"))
    slices = endpoint_slice(endpoint(), of="dns", ports=(EndpointPort(port=5353, protocol="UDP"),))
    view = seen(gateway(listener("dns", 53, "UDP")), udp_route(backend("dns", 53)), dns, slices)
    assert view.service().Ports[0].Protocol == wire.UDP
    assert [o.Port for m in view.endpoints.values() for o in m.PortOverrides] == [5353]


def test_named_target_ports() -> None:
    web = service("web", port(80, "http", "http"))
    slices = endpoint_slice(endpoint(), ports=(EndpointPort(name="http", port=9999),))
    view = seen(gateway(listener()), tcp_route(backend()), web, slices)
    assert [(o.Name, o.Port) for m in view.endpoints.values() for o in m.PortOverrides] == [("tcp", 9999)]


def test_a_listener_without_a_route_is_there_without_endpoints() -> None:
    view = seen(gateway(listener()))
    assert list(view.services) == ["default/gw.tcp"]
    assert not view.endpoints


def test_infrastructure_goes_onto_the_items() -> None:
    infrastructure = Infrastructure(labels={"team": "a"}, annotations={"note": "b"})
    message = seen(gateway(listener(), infrastructure=infrastructure)).service()
    assert message.Labels == {"team": "a", "gateway.networking.k8s.io/gateway-name": "gw"}
    assert message.Annotations == {"note": "b"}


def test_algorithm_by_annotation() -> None:
    message = seen(gateway(listener(), annotations={"blixt.dev/algorithm": "maglev"})).service()
    assert message.Algorithm == wire.Maglev


def test_observed_generations() -> None:
    found = result(gateway(listener()), tcp_route(backend()), *WEB)
    assert (found.observed_generation, found.parents[0].observed_generation) == (3, 7)


class TestWeights:
    def test_default_and_given(self) -> None:
        view = seen(gateway(listener()), tcp_route(backend(weight=70), backend("api", weight=30)), *WEB, *API)
        assert {(p.split("/")[2], m.Group, m.Weight) for p, m in view.endpoints.items()} == {
            ("default.web.80.web-0", 0, 70),
            ("default.web.80.web-1", 0, 70),
            ("default.api.80.api-0", 1, 30),
        }

    def test_none(self) -> None:
        """No new connections, and those that it has go on."""
        made = items(gateway(listener()), tcp_route(backend(weight=0), backend("api")), *WEB, *API)
        assert Seen(made).scopes() == {
            "default.web.80.web-0": NONE,
            "default.web.80.web-1": NONE,
            "default.api.80.api-0": ALL,
        }
        assert [i.path.split(".")[-1] for i in made if i.blixt_only] == ["web-0", "web-1"]

    def test_a_draining_endpoint_is_still_local(self) -> None:
        slices = endpoint_slice(endpoint("10.0.0.1", "web-0", node="a"))
        made = items(gateway(listener()), tcp_route(backend(weight=0)), service(), slices)
        assert [m.Local for m in Seen(made, "a").endpoints.values()] == [True]

    def test_none_of_nothing_is_no_share(self) -> None:
        assert not seen(gateway(listener()), tcp_route(backend("gone", weight=0))).endpoints

    def test_the_same_service_twice(self) -> None:
        view = seen(gateway(listener()), tcp_route(backend(weight=1), backend(weight=2)), *WEB)
        assert {(p.split("/")[2], m.Group) for p, m in view.endpoints.items()} == {
            ("default.web.80.web-0", 0),
            ("default.web.80.web-1", 0),
            ("default.web.80+2.web-0", 1),
            ("default.web.80+2.web-1", 1),
        }

    def test_another_reference_before_it_changes_no_path(self) -> None:
        one = seen(gateway(listener()), tcp_route(backend()), *WEB, *API)
        two = seen(gateway(listener()), tcp_route(backend("api"), backend()), *WEB, *API)
        assert set(one.endpoints) < set(two.endpoints)


REJECTED = {
    "missing service": ((backend("gone", weight=30),), (), "BackendNotFound"),
    "missing port": ((backend("api", 81, weight=30),), API, "BackendNotFound"),
    "no port": ((backend("api", None, weight=30),), API, "BackendNotFound"),
    "ExternalName": (
        (backend("api", weight=30),),
        (service("api", type="ExternalName", cluster_ips=()),),
        "BackendNotFound",
    ),
    "another kind": ((backend("api", kind="Bucket", group="x.io", weight=30),), API, "InvalidKind"),
    "another protocol": (
        (backend("api", weight=30),),
        (service("api", port(80, protocol="UDP")),),
        "UnsupportedProtocol",
    ),
    "not permitted": ((backend("api", namespace="other", weight=30),), (), "RefNotPermitted"),
    "no endpoints": ((backend("api", weight=30),), API[:1], "ResolvedRefs"),
    "none ready": (
        (backend("api", weight=30),),
        (API[0], endpoint_slice(endpoint(ready=False), of="api")),
        "ResolvedRefs",
    ),
}


@pytest.mark.parametrize(("refs", "objects", "reason"), REJECTED.values(), ids=REJECTED)
def test_what_leads_to_nothing_keeps_its_share_which_is_refused(
    refs: tuple[BackendRef, ...], objects: Objects, reason: str
) -> None:
    scene = (gateway(listener()), tcp_route(backend(weight=70), *refs), *WEB, *objects)
    made = items(*scene)
    rejects = [(m.Group, m.Weight, scopes(m)) for m in Seen(made).endpoints.values() if m.Reject]
    assert rejects == [(1, 30, ALL)]
    assert [item.blixt_only for item in made if item.path.endswith("!reject")] == [True]
    assert all(not m.IPs.V4 for m in Seen(made).endpoints.values() if m.Reject)
    assert resolved(*scene) == reason
    assert accepted(*scene) == ["Accepted"]


def test_terminating_endpoints_take_over_a_group_where_none_is_ready() -> None:
    slices = endpoint_slice(terminating("10.0.0.1", "web-0"))
    view = seen(gateway(listener()), tcp_route(backend()), service(), slices)
    assert view.scopes() == {"default.web.80.web-0": ALL}


def test_a_group_whose_endpoints_only_drain_is_refused() -> None:
    slices = endpoint_slice(terminating("10.0.0.1", "web-0", serving=False))
    view = seen(gateway(listener()), tcp_route(backend()), service(), slices)
    assert view.scopes() == {"default.web.80.web-0": NONE, "default.web.80!reject": ALL}


def test_traffic_policies_of_the_service_do_not_count() -> None:
    local = service(internal_traffic_policy="Local", external_traffic_policy="Local")
    view = seen(gateway(listener()), tcp_route(backend()), local, WEB[1])
    assert set(view.scopes().values()) == {ALL}


def test_a_headless_service_is_a_backend_like_any_other() -> None:
    view = seen(gateway(listener()), tcp_route(backend()), service(cluster_ips=("None",)), WEB[1])
    assert len(view.endpoints) == 2


class TestAttachment:
    TWO = gateway(listener("a", 80), listener("b", 81), listener("u", 80, "UDP"), listener("h", 82, "HTTP"))

    @pytest.mark.parametrize(
        ("parent", "attached", "reason"),
        [
            (ParentRef(name="gw"), ["a", "b"], "Accepted"),
            (ParentRef(name="gw", section_name="a"), ["a"], "Accepted"),
            (ParentRef(name="gw", port=81), ["b"], "Accepted"),
            (ParentRef(name="gw", port=80), ["a"], "Accepted"),
            (ParentRef(name="gw", port=80, section_name="a"), ["a"], "Accepted"),
            (ParentRef(name="gw", port=81, section_name="a"), [], "NoMatchingParent"),
            (ParentRef(name="gw", section_name="none"), [], "NoMatchingParent"),
            (ParentRef(name="gw", section_name="h"), [], "NotAllowedByListeners"),
            (ParentRef(name="gw", section_name="u"), [], "NotAllowedByListeners"),
        ],
    )
    def test_section_name_and_port(self, parent: ParentRef, attached: list[str], reason: str) -> None:
        scene = (self.TWO, tcp_route(backend(), parents=(parent,)), *WEB)
        assert [r.listener.name for r in result(*scene).listeners if r.attached_routes] == attached
        assert accepted(*scene) == [reason]
        assert {path.split("/")[1] for path in seen(*scene).endpoints} == {f"gw.{name}" for name in attached}

    def test_other_parents_are_not_our_concern(self) -> None:
        others = (
            ParentRef(name="gw", namespace="other"),
            ParentRef(name="gw", kind="Service", group=""),
            ParentRef(name="another"),
        )
        assert result(self.TWO, tcp_route(backend(), parents=others)).parents == ()

    def test_each_parent_reference_has_its_own_result_and_a_listener_counts_a_route_once(self) -> None:
        parents = (ParentRef(name="gw", section_name="a"), ParentRef(name="gw"), ParentRef(name="gw", port=9))
        found = result(self.TWO, tcp_route(backend(), parents=parents))
        assert [p.conditions.reason("Accepted") for p in found.parents] == [
            "Accepted",
            "Accepted",
            "NoMatchingParent",
        ]
        assert [r.attached_routes for r in found.listeners] == [1, 1, 0, 0]

    @pytest.mark.parametrize(
        ("allowed", "ok"),
        [
            (lets_in("Same"), False),
            (lets_in("All"), True),
            (lets_in("None"), False),
            (lets_in("Selector", LabelSelector(match_labels={"team": "a"})), True),
            (lets_in("Selector", LabelSelector(match_labels={"team": "b"})), False),
            (lets_in("Selector", LabelSelector(match_labels={"kubernetes.io/metadata.name": "apps"})), True),
            (
                lets_in(
                    "Selector",
                    LabelSelector(
                        match_expressions=(SelectorRequirement(key="team", operator="In", values=("a", "c")),)
                    ),
                ),
                True,
            ),
            (
                lets_in(
                    "Selector",
                    LabelSelector(
                        match_expressions=(SelectorRequirement(key="team", operator="DoesNotExist"),)
                    ),
                ),
                False,
            ),
            (lets_in("Selector"), False),
        ],
    )
    def test_allowed_namespaces(self, allowed: AllowedRoutes, ok: bool) -> None:
        route = tcp_route(backend(), namespace="apps", parents=(ParentRef(name="gw", namespace="default"),))
        scene = (gateway(listener(allowed_routes=allowed)), route, namespace("apps", team="a"))
        assert accepted(*scene) == ["Accepted" if ok else "NotAllowedByListeners"]

    def test_same_lets_in_its_own(self) -> None:
        assert accepted(gateway(listener(allowed_routes=lets_in("Same"))), tcp_route(backend())) == [
            "Accepted"
        ]

    def test_the_oldest_carries_the_traffic_and_all_count(self) -> None:
        scene = (
            gateway(listener()),
            tcp_route(backend(), name="a-young", age=1),
            tcp_route(backend("api"), name="old", age=9),
            tcp_route(backend(), name="undated"),
            *WEB,
            *API,
        )
        (only,) = result(*scene).listeners
        assert [route.metadata.name for route in only.attached] == ["old", "a-young", "undated"]
        assert [path.split("/")[2] for path in seen(*scene).endpoints] == ["default.api.80.api-0"]
        assert accepted(*scene) == ["Accepted"] * 3

    def test_of_equal_age_the_first_by_name(self) -> None:
        routes = [tcp_route(backend(), name=name, age=1) for name in ("b", "a")]
        (only,) = result(gateway(listener()), *routes).listeners
        assert only.active is not None
        assert only.active.metadata.name == "a"

    def test_only_the_first_rule_counts(self) -> None:
        rules = (RouteRule(backend_refs=(backend(),)), RouteRule(backend_refs=(backend("api"),)))
        scene = (gateway(listener()), tcp_route(rules=rules), *WEB, *API)
        assert len(seen(*scene).endpoints) == 2
        (parent,) = result(*scene).parents
        assert parent.conditions.holds("PartiallyInvalid")

    def test_a_route_without_rules_or_references_has_no_endpoints(self) -> None:
        assert not seen(gateway(listener()), tcp_route(rules=())).endpoints
        assert not seen(gateway(listener()), tcp_route()).endpoints


class TestGrants:
    ROUTE = tcp_route(backend(namespace="other"))
    THERE = (
        service(namespace="other"),
        endpoint_slice(endpoint("10.0.0.1", "web-0"), namespace="other"),
    )

    @pytest.mark.parametrize(
        ("given", "ok"),
        [
            pytest.param(grant(), True, id="any Service"),
            pytest.param(grant(to=(GrantTo(group="", kind="Service", name="web"),)), True, id="by name"),
            pytest.param(
                grant(to=(GrantTo(group="", kind="Service", name="api"),)), False, id="another name"
            ),
            pytest.param(grant(to=(GrantTo(group="", kind="Secret"),)), False, id="another kind"),
            pytest.param(grant(namespace="default"), False, id="stands elsewhere"),
            pytest.param(
                grant(from_=(GrantFrom(group=GATEWAY_GROUP, kind="UDPRoute", namespace="default"),)),
                False,
                id="from another kind",
            ),
            pytest.param(
                grant(from_=(GrantFrom(group=GATEWAY_GROUP, kind="TCPRoute", namespace="x"),)),
                False,
                id="from elsewhere",
            ),
            pytest.param(
                grant(
                    from_=(
                        GrantFrom(group=GATEWAY_GROUP, kind="UDPRoute", namespace="default"),
                        GrantFrom(group=GATEWAY_GROUP, kind="TCPRoute", namespace="default"),
                    ),
                    to=(GrantTo(group="", kind="Secret"), GrantTo(group="", kind="Service")),
                ),
                True,
                id="any from with any to",
            ),
        ],
    )
    def test_services_of_other_namespaces(self, given: ReferenceGrant, ok: bool) -> None:
        scene = (gateway(listener()), self.ROUTE, *self.THERE, given)
        assert resolved(*scene) == ("ResolvedRefs" if ok else "RefNotPermitted")
        assert [m.Reject for m in seen(*scene).endpoints.values()] == [not ok]

    def test_are_not_needed_within_a_namespace_nor_from_route_to_gateway(self) -> None:
        assert resolved(gateway(listener()), tcp_route(backend()), *WEB) == "ResolvedRefs"


class TestListeners:
    @staticmethod
    def conflicted(*listeners: Listener) -> dict[str, str]:
        return {
            r.listener.name: str(r.conditions.reason("Conflicted"))
            for r in result(gateway(*listeners)).listeners
            if r.conditions.holds("Conflicted")
        }

    @pytest.mark.parametrize(
        ("protocols", "reason"),
        [
            (("TCP", "UDP"), None),
            (("UDP", "HTTP"), None),
            (("TCP", "HTTP"), "ProtocolConflict"),
            (("TCP", "HTTPS"), "ProtocolConflict"),
            (("TCP", "TLS"), "ProtocolConflict"),
            (("HTTP", "HTTPS"), "ProtocolConflict"),
            (("TCP", "TCP"), "ProtocolConflict"),
            (("UDP", "UDP"), "ProtocolConflict"),
            (("HTTP", "HTTP"), "HostnameConflict"),
        ],
    )
    def test_conflicts_on_one_port(self, protocols: tuple[str, str], reason: str | None) -> None:
        found = self.conflicted(listener("a", 80, protocols[0]), listener("b", 80, protocols[1]))
        assert found == ({"a": reason, "b": reason} if reason else {})

    def test_distinct_hostnames_do_not_conflict(self) -> None:
        assert not self.conflicted(
            listener("a", 80, "HTTP", hostname="a.example"), listener("b", 80, "HTTP", hostname="b.example")
        )

    def test_distinct_ports_do_not_conflict(self) -> None:
        assert not self.conflicted(listener("a", 80), listener("b", 81))

    def test_conflicted_ones_carry_nothing_and_still_count_their_routes(self) -> None:
        scene = (
            gateway(listener("a", 80), listener("b", 80, "HTTP"), listener("c", 81)),
            tcp_route(backend()),
        )
        found = result(*scene, *WEB)
        assert found.conditions.holds("Accepted")
        assert found.conditions.reason("Accepted") == "ListenersNotValid"
        assert [r.attached_routes for r in found.listeners] == [1, 0, 1]
        assert [r.conditions.holds("Programmed") for r in found.listeners] == [False, False, True]
        assert list(seen(*scene, *WEB).services) == ["default/gw.c"]

    def test_without_any_valid_listener_the_gateway_is_not_accepted(self) -> None:
        found = result(gateway(listener("a", 80), listener("b", 80)))
        assert not found.conditions.holds("Accepted")
        assert found.conditions.reason("Accepted") == "ListenersNotValid"
        assert not found.conditions.holds("Programmed")

    def test_http_is_programmed_beside_us_and_carries_nothing(self) -> None:
        (only,) = result(gateway(listener("web", 80, "HTTP"))).listeners
        assert only.conditions.holds("Accepted")
        assert only.conditions.holds("Programmed")
        assert [kind.kind for kind in only.supported_kinds] == ["HTTPRoute"]
        assert not items(gateway(listener("web", 80, "HTTP")))

    def test_an_unknown_protocol(self) -> None:
        (only,) = result(gateway(listener("x", 80, "example.org/quic"))).listeners
        assert only.conditions.reason("Accepted") == "UnsupportedProtocol"
        assert only.supported_kinds == ()

    @pytest.mark.parametrize(
        ("kinds", "supported", "reason", "served"),
        [
            ((), ["TCPRoute"], "ResolvedRefs", True),
            ((RouteGroupKind(kind="TCPRoute"),), ["TCPRoute"], "ResolvedRefs", True),
            ((RouteGroupKind(kind="UDPRoute"),), [], "InvalidRouteKinds", False),
            (
                (RouteGroupKind(kind="TCPRoute"), RouteGroupKind(kind="Odd")),
                ["TCPRoute"],
                "InvalidRouteKinds",
                True,
            ),
            ((RouteGroupKind(kind="TCPRoute", group="x.io"),), [], "InvalidRouteKinds", False),
        ],
    )
    def test_kinds(
        self, kinds: tuple[RouteGroupKind, ...], supported: list[str], reason: str, served: bool
    ) -> None:
        scene = gateway(listener(allowed_routes=lets_in("Same", kinds=kinds)))
        (only,) = result(scene).listeners
        assert [kind.kind for kind in only.supported_kinds] == supported
        assert only.conditions.reason("ResolvedRefs") == reason
        assert bool(items(scene)) == served


class TestAddresses:
    @staticmethod
    def given(*asked: GatewayAddress, assigned: tuple[GatewayAddress, ...] = ()) -> tuple[list[str], str]:
        scene = gateway(listener(), addresses=asked, assigned=assigned)
        found = result(scene)
        made = Seen(items(scene)).services.values()
        ips = [ip for m in made for s in (m.IPs.LoadBalancerIPs,) for ip in (*s.V4, *s.V6)]
        return ips, str(found.conditions.reason("Programmed"))

    def test_of_the_spec_in_both_families(self) -> None:
        asked = (GatewayAddress(value="192.0.2.1"), GatewayAddress(value="2001:db8::1"))
        assert self.given(*asked) == (["192.0.2.1", "2001:db8::1"], "Programmed")

    def test_the_specs_go_before_the_statuss(self) -> None:
        assigned = (GatewayAddress(value="192.0.2.9"),)
        assert self.given(GatewayAddress(value="192.0.2.1"), assigned=assigned)[0] == ["192.0.2.1"]

    @pytest.mark.parametrize("asked", [(), (GatewayAddress(),)])
    def test_assigned_ones_where_the_choice_is_ours(self, asked: tuple[GatewayAddress, ...]) -> None:
        assigned = (GatewayAddress(value="192.0.2.9"),)
        assert self.given(*asked, assigned=assigned) == (["192.0.2.9"], "Programmed")

    def test_without_any_nothing_is_served_and_it_is_told_of(self) -> None:
        assert self.given() == ([], "AddressNotAssigned")
        told = translate(gateway(listener(), addresses=())).translation.problems
        assert any("no address" in problem for problem in told)

    def test_what_is_no_address_is_told_of_and_the_others_served(self) -> None:
        asked = (GatewayAddress(value="192.0.2.1"), GatewayAddress(value="nowhere"))
        assert self.given(*asked) == (["192.0.2.1"], "AddressNotUsable")

    def test_another_type_is_unsupported(self) -> None:
        asked = GatewayAddress(type="Hostname", value="lb.example.org")
        assert self.given(asked) == ([], "Invalid")
        assert (
            result(gateway(listener(), addresses=(asked,))).conditions.reason("Accepted")
            == "UnsupportedAddress"
        )

    def test_every_listener_listens_on_every_address(self) -> None:
        asked = [GatewayAddress(value=f"192.0.2.{i}") for i in (1, 2)]
        view = seen(gateway(listener("a", 80), listener("b", 81), addresses=asked))
        assert [len(m.IPs.LoadBalancerIPs.V4) for m in view.services.values()] == [2, 2]


def test_parameters_are_unsupported() -> None:
    parameters = ParametersRef(group="x.io", kind="Config", name="c")
    found = result(gateway(listener(), infrastructure=Infrastructure(parameters_ref=parameters)))
    assert found.conditions.reason("Accepted") == "InvalidParameters"
    assert not found.conditions.holds("Accepted")
    assert found.conditions.reason("Programmed") == "Invalid"


class TestClasses:
    """A class that is not accepted."""

    PARAMETERS = ParametersRef(group="x.io", kind="Config", name="c")
    BAD = gateway_class(parameters=PARAMETERS)
    MESSAGE = "its class blixt is not accepted: parameters of kind x.io/Config are not supported"

    def test_a_new_gateway_waits_for_it(self) -> None:
        found = result(self.BAD, gateway(listener()), tcp_route(backend()), *WEB)
        assert not items(self.BAD, gateway(listener()), tcp_route(backend()), *WEB)
        assert found.conditions == (
            Condition("Accepted", None, "Pending", self.MESSAGE),
            Condition("Programmed", None, "Pending", self.MESSAGE),
        )
        (of_listener,) = found.listeners
        assert [(c.type, c.status) for c in of_listener.conditions] == [
            ("Accepted", None),
            ("ResolvedRefs", True),
            ("Programmed", None),
        ]
        assert (of_listener.attached_routes, found.addresses) == (0, Addresses())
        (parent,) = found.parents
        assert parent.conditions.reason("Accepted") == "Pending"
        assert parent.conditions.holds("ResolvedRefs")

    @pytest.mark.parametrize("decision", ["True", "False"])
    def test_one_that_was_decided_on_keeps_its_traffic(self, decision: str) -> None:
        made = gateway(listener(), accepted=decision)
        scene = (made, tcp_route(backend()), *WEB)
        assert items(self.BAD, *scene) == items(*scene) != ()
        assert result(self.BAD, *scene) == result(*scene)

    def test_that_it_waits_is_no_decision(self) -> None:
        assert not items(self.BAD, gateway(listener(), accepted="Unknown"))


def test_a_gateway_without_listeners_is_invalid() -> None:
    assert result(gateway()).conditions.reason("Accepted") == "Invalid"
