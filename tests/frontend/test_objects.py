from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from blixt_frontend.decode import decode
from blixt_frontend.objects import (
    AllowedRoutes,
    BackendRef,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Gateway,
    GatewayAddress,
    GatewayStatus,
    LabelSelector,
    Listener,
    LoadBalancerIngress,
    Node,
    Object,
    ObjectMeta,
    ParentRef,
    ReferenceGrant,
    Route,
    RouteSpec,
    Service,
    ServicePort,
    ServiceSpec,
    TCPRoute,
    UDPRoute,
)
from blixt_frontend.objects.gateway import GatewayCondition


@pytest.mark.parametrize(
    ("ready", "serving", "terminating", "expected"),
    [
        (None, None, None, (True, True, False)),
        (True, None, None, (True, True, False)),
        (False, None, None, (False, False, False)),
        (None, False, None, (True, False, False)),
        (False, True, True, (False, True, True)),
        (False, False, True, (False, False, True)),
        (True, True, False, (True, True, False)),
    ],
)
def test_unknown_conditions_mean_ready_serving_and_not_terminating(
    ready: bool | None, serving: bool | None, terminating: bool | None, expected: tuple[bool, bool, bool]
) -> None:
    conditions = {"ready": ready, "serving": serving, "terminating": terminating}
    endpoint = msgspec.convert({"addresses": ["10.0.0.1"], "conditions": conditions}, Endpoint)
    assert (endpoint.ready, endpoint.serving, endpoint.terminating) == expected


@pytest.mark.parametrize(
    ("model", "wire", "field", "expected"),
    [
        (ServicePort, {"port": 80}, "protocol", "TCP"),
        (ServicePort, {"port": 80}, "target_port", 80),
        (ServicePort, {"port": 80, "targetPort": 0}, "target_port", 80),
        (ServicePort, {"port": 80, "targetPort": ""}, "target_port", 80),
        (ServicePort, {"port": 80, "targetPort": 8080}, "target_port", 8080),
        (ServicePort, {"port": 80, "targetPort": "http"}, "target_port", "http"),
        (ServicePort, {"port": 80}, "node_port", 0),
        (ServiceSpec, {}, "type", "ClusterIP"),
        (ServiceSpec, {}, "internal_traffic_policy", "Cluster"),
        (ServiceSpec, {}, "external_traffic_policy", "Cluster"),
        (ServiceSpec, {}, "session_affinity", "None"),
        (ServiceSpec, {}, "affinity_seconds", 0),
        (ServiceSpec, {"sessionAffinity": "ClientIP"}, "affinity_seconds", 10800),
        (ServiceSpec, {}, "allocate_load_balancer_node_ports", True),
        (ServiceSpec, {"clusterIP": "10.0.0.1"}, "cluster_ips", ("10.0.0.1",)),
        (ServiceSpec, {"clusterIPs": ["10.0.0.1", "fd00::1"]}, "cluster_ip", "10.0.0.1"),
        (ServiceSpec, {"clusterIPs": ["fd00::1", "10.0.0.1"]}, "ip_families", ("IPv6", "IPv4")),
        (ServiceSpec, {"clusterIP": "None"}, "headless", True),
        (ServiceSpec, {"clusterIP": "None"}, "ip_families", ()),
        (ServiceSpec, {}, "headless", False),
        (LoadBalancerIngress, {"ip": "192.0.2.1"}, "ip_mode", "VIP"),
        (EndpointPort, {}, "port", None),
        (EndpointPort, {}, "protocol", "TCP"),
        (BackendRef, {"name": "a"}, "weight", 1),
        (BackendRef, {"name": "a"}, "kind", "Service"),
        (BackendRef, {"name": "a"}, "group", ""),
        (ParentRef, {"name": "a"}, "kind", "Gateway"),
        (ParentRef, {"name": "a"}, "group", "gateway.networking.k8s.io"),
        (AllowedRoutes, {"namespaces": {}}, "kinds", ()),
        (GatewayAddress, {}, "type", "IPAddress"),
    ],
)
def test_absent_fields_hold_what_the_api_server_fills_in(
    model: type[Any], wire: dict[str, Any], field: str, expected: object
) -> None:
    assert getattr(msgspec.convert(wire, model), field) == expected


def test_a_listener_takes_routes_of_its_own_namespace_unless_told_otherwise() -> None:
    listener = msgspec.convert({"name": "a", "port": 80, "protocol": "TCP"}, Listener)
    assert listener.allowed_routes.namespaces.from_ == "Same"


def test_an_endpoint_slice_knows_its_service_and_when_it_was_triggered() -> None:
    metadata = ObjectMeta(
        name="a-1",
        labels={"kubernetes.io/service-name": "a"},
        annotations={"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z"},
    )
    known = EndpointSlice(metadata=metadata, address_type="IPv4")
    unknown = EndpointSlice(metadata=ObjectMeta(name="a-1"), address_type="IPv4")
    assert (known.service_name, known.trigger_time) == ("a", "2026-01-01T00:00:00Z")
    assert (unknown.service_name, unknown.trigger_time) == ("", "")


FULL: list[dict[str, Any]] = [
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "a",
            "namespace": "n",
            "uid": "1-2",
            "generation": 3,
            "labels": {"l": "1"},
            "annotations": {"a": "2"},
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "deletionTimestamp": "2026-01-02T03:04:06Z",
        },
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": "10.0.0.1",
            "clusterIPs": ["10.0.0.1", "fd00::1"],
            "ipFamilies": ["IPv4", "IPv6"],
            "externalIPs": ["192.0.2.1"],
            "externalName": "x.example",
            "externalTrafficPolicy": "Local",
            "internalTrafficPolicy": "Local",
            "trafficDistribution": "PreferClose",
            "healthCheckNodePort": 30000,
            "loadBalancerClass": "example/x",
            "loadBalancerIP": "192.0.2.9",
            "loadBalancerSourceRanges": ["10.0.0.0/8"],
            "allocateLoadBalancerNodePorts": False,
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}},
            "publishNotReadyAddresses": True,
            "ports": [
                {
                    "port": 80,
                    "name": "w",
                    "protocol": "UDP",
                    "targetPort": "x",
                    "nodePort": 30001,
                    "appProtocol": "h2c",
                }
            ],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.2", "hostname": "h", "ipMode": "Proxy"}]}},
    },
    {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "a", "namespace": "n"},
        "addressType": "IPv6",
        "endpoints": [
            {
                "addresses": ["fd00::1"],
                "conditions": {"ready": False, "serving": True, "terminating": True},
                "hostname": "h",
                "nodeName": "node1",
                "zone": "z",
                "targetRef": {"kind": "Pod", "name": "p"},
                "hints": {"forZones": [{"name": "z"}], "forNodes": [{"name": "node1"}]},
            }
        ],
        "ports": [{"name": "w", "port": 1, "protocol": "SCTP", "appProtocol": "h2c"}],
    },
    {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "node1", "labels": {"topology.kubernetes.io/zone": "z"}},
        "spec": {
            "taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}],
            "unschedulable": True,
            "podCIDRs": ["10.244.1.0/24"],
        },
    },
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "labels": {"a": "b"}}},
    {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": "c"},
        "spec": {
            "controllerName": "example/c",
            "parametersRef": {"group": "g", "kind": "k", "name": "n", "namespace": "s"},
        },
    },
    {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "g", "namespace": "n"},
        "spec": {
            "gatewayClassName": "c",
            "listeners": [
                {
                    "name": "l",
                    "port": 1,
                    "protocol": "TLS",
                    "hostname": "h",
                    "tls": {
                        "mode": "Passthrough",
                        "certificateRefs": [{"name": "s", "group": "g", "kind": "K", "namespace": "o"}],
                    },
                    "allowedRoutes": {
                        "namespaces": {
                            "from": "Selector",
                            "selector": {
                                "matchLabels": {"a": "b"},
                                "matchExpressions": [{"key": "k", "operator": "In", "values": ["v"]}],
                            },
                        },
                        "kinds": [{"kind": "TCPRoute", "group": "g"}],
                    },
                }
            ],
            "addresses": [{"type": "Hostname", "value": "h"}],
            "infrastructure": {
                "labels": {"a": "b"},
                "annotations": {"c": "d"},
                "parametersRef": {"group": "g", "kind": "k", "name": "n"},
            },
        },
        "status": {"addresses": [{"type": "Hostname", "value": "h"}]},
    },
    *(
        {
            "apiVersion": f"gateway.networking.k8s.io/{version}",
            "kind": kind,
            "metadata": {"name": "r", "namespace": "n"},
            "spec": {
                "parentRefs": [
                    {
                        "name": "g",
                        "group": "x",
                        "kind": "Mesh",
                        "namespace": "o",
                        "sectionName": "l",
                        "port": 1,
                    }
                ],
                "rules": [
                    {
                        "name": "first",
                        "backendRefs": [
                            {
                                "name": "s",
                                "group": "x",
                                "kind": "Y",
                                "namespace": "o",
                                "port": 2,
                                "weight": 0,
                            }
                        ],
                    }
                ],
            },
        }
        for kind in ("TCPRoute", "UDPRoute")
        for version in ("v1", "v1alpha2")
    ),
    *(
        {
            "apiVersion": f"gateway.networking.k8s.io/{version}",
            "kind": "ReferenceGrant",
            "metadata": {"name": "r", "namespace": "n"},
            "spec": {
                "from": [{"group": "g", "kind": "TCPRoute", "namespace": "o"}],
                "to": [{"group": "", "kind": "Service", "name": "s"}],
            },
        }
        for version in ("v1", "v1beta1")
    ),
]


@pytest.mark.parametrize("wire", FULL, ids=lambda wire: f"{wire['apiVersion']} {wire['kind']}")
def test_every_field_that_is_kept_comes_back_as_it_was(wire: dict[str, Any]) -> None:
    """Each value above differs from its default, and the defaults are left out of what comes back."""
    decoded = decode(wire)
    assert decoded is not None
    back = msgspec.json.decode(msgspec.json.encode(decoded))
    assert back == {name: value for name, value in wire.items() if name not in ("apiVersion", "kind")}
    assert decoded.key == (wire["kind"], wire["metadata"].get("namespace", ""), wire["metadata"]["name"])


def test_fields_that_nothing_reads_do_not_make_a_difference() -> None:
    plain = decode(FULL[0])
    noisy = {**FULL[0], "metadata": {**FULL[0]["metadata"], "resourceVersion": "7", "managedFields": [{}]}}
    assert decode(noisy) == plain


@pytest.mark.parametrize(
    ("conditions", "decided"),
    [
        ([], False),
        ([{"type": "Accepted", "status": "Unknown", "reason": "Pending"}], False),
        ([{"type": "Programmed", "status": "True"}], False),
        ([{"type": "Accepted", "status": "True", "reason": "Accepted"}], True),
        ([{"type": "Theirs", "status": "Unknown"}, {"type": "Accepted", "status": "False"}], True),
    ],
)
def test_of_a_gateways_conditions_only_that_it_was_decided_on_counts(
    conditions: list[dict[str, str]], decided: bool
) -> None:
    status = msgspec.convert({"conditions": conditions}, GatewayStatus)
    assert status.decided is decided
    told = [GatewayCondition(type="Accepted", status="True")] if decided else []
    assert status == GatewayStatus(conditions=tuple(told))


def test_hints_and_taints_can_be_asked_for() -> None:
    endpoints, node = decode(FULL[1]), decode(FULL[2])
    assert isinstance(endpoints, EndpointSlice)
    assert isinstance(node, Node)
    hints = endpoints.endpoints[0].hints
    assert (hints.zones, hints.nodes) == (frozenset({"z"}), frozenset({"node1"}))
    assert (node.zone, node.spec.taints[0].key) == ("z", "k")


def test_both_routes_are_routes_and_never_equal() -> None:
    metadata = ObjectMeta(name="r")
    routes: list[Route] = [
        TCPRoute(metadata=metadata, spec=RouteSpec()),
        UDPRoute(metadata=metadata, spec=RouteSpec()),
    ]
    assert [route.kind for route in routes] == ["TCPRoute", "UDPRoute"]
    assert routes[0] != routes[1]


def test_objects_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Service(metadata=ObjectMeta(name="a")).metadata.name = "b"  # type: ignore[misc]  # the point of it


def test_the_oldest_comes_first_then_by_name_and_the_undated_last() -> None:
    def grant(name: str, namespace: str = "n", created: datetime | None = None) -> ReferenceGrant:
        metadata = ObjectMeta(name=name, namespace=namespace, creation_timestamp=created)
        return ReferenceGrant(metadata=metadata)

    old, new = datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    expected: list[Object] = [
        grant("z", created=old),
        grant("b", namespace="m", created=new),
        grant("a", created=new),
        grant("c", created=new),
        grant("a"),
        grant("b"),
    ]
    shuffled = expected[::-1]
    assert sorted(shuffled, key=lambda one: one.age_key) == expected


def test_times_with_different_offsets_compare_by_the_moment() -> None:
    def gateway(created: str) -> Gateway:
        wire = {"metadata": {"name": "g", "creationTimestamp": created}, "spec": {"gatewayClassName": "c"}}
        return msgspec.convert(wire, Gateway)

    assert gateway("2026-01-01T01:00:00+02:00").age_key < gateway("2026-01-01T00:00:00Z").age_key


LABELS = {"env": "prod", "tier": "web"}


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        ({}, True),
        ({"matchLabels": {"env": "prod"}}, True),
        ({"matchLabels": {"env": "prod", "tier": "db"}}, False),
        ({"matchLabels": {"absent": ""}}, False),
        ({"matchExpressions": [{"key": "env", "operator": "In", "values": ["dev", "prod"]}]}, True),
        ({"matchExpressions": [{"key": "env", "operator": "In", "values": ["dev"]}]}, False),
        ({"matchExpressions": [{"key": "absent", "operator": "In", "values": ["x"]}]}, False),
        ({"matchExpressions": [{"key": "env", "operator": "NotIn", "values": ["dev"]}]}, True),
        ({"matchExpressions": [{"key": "env", "operator": "NotIn", "values": ["prod"]}]}, False),
        ({"matchExpressions": [{"key": "absent", "operator": "NotIn", "values": ["x"]}]}, True),
        ({"matchExpressions": [{"key": "env", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "absent", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "absent", "operator": "DoesNotExist"}]}, True),
        ({"matchExpressions": [{"key": "env", "operator": "DoesNotExist"}]}, False),
        ({"matchExpressions": [{"key": "env", "operator": "Near"}]}, False),
        (
            {
                "matchLabels": {"env": "prod"},
                "matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}],
            },
            False,
        ),
    ],
)
def test_label_selectors(selector: dict[str, Any], matches: bool) -> None:
    assert msgspec.convert(selector, LabelSelector).matches(LABELS) is matches
