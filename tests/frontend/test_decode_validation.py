"""What decodes, and an API server would refuse all the same."""

from __future__ import annotations

from typing import Any

import pytest

from blixt_frontend.decode import DecodeError, decode

GATEWAY_API = "gateway.networking.k8s.io/v1"


def service(spec: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"ports": [{"port": 80}], **(spec or {})},
        **more,
    }


def endpoints(**more: Any) -> dict[str, Any]:
    meta = {"name": "web-1"}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": meta,
        "addressType": "IPv4",
        **more,
    }


def gateway(spec: dict[str, Any] | None = None) -> dict[str, Any]:
    listeners = [{"name": "a", "port": 80, "protocol": "TCP"}]
    return {
        "apiVersion": GATEWAY_API,
        "kind": "Gateway",
        "metadata": {"name": "g"},
        "spec": {"gatewayClassName": "c", "listeners": listeners, **(spec or {})},
    }


def listening(**more: Any) -> dict[str, Any]:
    return gateway({"listeners": [{"name": "a", "port": 80, "protocol": "TCP", **more}]})


def selecting(**requirement: Any) -> dict[str, Any]:
    selector = {"matchExpressions": [requirement]}
    return listening(allowedRoutes={"namespaces": {"from": "Selector", "selector": selector}})


def route(*rules: dict[str, Any], kind: str = "TCPRoute") -> dict[str, Any]:
    spec = {"parentRefs": [{"name": "g"}], "rules": list(rules)}
    return {"apiVersion": GATEWAY_API, "kind": kind, "metadata": {"name": "r"}, "spec": spec}


def backend(**more: Any) -> dict[str, Any]:
    return route({"backendRefs": [{"name": "s", "port": 80, **more}]})


def grant(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": GATEWAY_API, "kind": "ReferenceGrant", "metadata": {"name": "r"}, "spec": spec}


def named(name: str, kind: str = "Service", namespace: str = "default") -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    base = service() if kind == "Service" else {"apiVersion": "v1", "kind": kind}
    return {**base, "metadata": metadata}


FROM = [{"group": "g", "kind": "k", "namespace": "n"}]
TO = [{"group": "", "kind": "Service"}]
TWO_PORTS = [{"name": "a", "port": 80}, {"name": "b", "port": 81}]


@pytest.mark.parametrize(
    ("value", "path", "problem"),
    [
        (named("Web"), "metadata.name", "'Web': must be lower case"),
        (named(""), "metadata.name", "must be lower case"),
        (named("a.b"), "metadata.name", "must be lower case letters, digits and '-'"),
        (named("a/b"), "metadata.name", "must be lower case"),
        (named("a" * 64), "metadata.name", "at most 63"),
        (named("a/b", kind="Node"), "metadata.name", "must be lower case letters, digits, '-' and '.'"),
        (named("a..b", kind="Node"), "metadata.name", "must be lower case"),
        (named("a" * 254, kind="Node"), "metadata.name", "at most 253"),
        (named("a", namespace="b/c"), "metadata.namespace", "must be lower case"),
        (named("a\n"), "metadata.name", "must be lower case"),
        (service({"clusterIP": "10.0.0"}), "spec.clusterIPs[0]", "'10.0.0': expected an IP address"),
        (service({"clusterIP": "10.0.0.010"}), "spec.clusterIPs[0]", "expected an IP address"),
        (service({"clusterIP": "fe80::1%eth0"}), "spec.clusterIPs[0]", "expected an IP address"),
        (
            service({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.2"]}),
            "spec.clusterIPs[0]",
            "must be the same as clusterIP",
        ),
        (
            service({"clusterIPs": ["10.0.0.1", "10.0.0.2"]}),
            "spec.clusterIPs",
            "at most one address of each family",
        ),
        (service({"externalIPs": ["192.0.2.1", "x"]}), "spec.externalIPs[1]", "'x': expected an IP address"),
        (
            service({"loadBalancerSourceRanges": ["10.0.0.0"]}),
            "spec.loadBalancerSourceRanges[0]",
            "expected an IP range",
        ),
        (
            service({"loadBalancerSourceRanges": ["10.0.0.0/33"]}),
            "spec.loadBalancerSourceRanges[0]",
            "expected an IP range",
        ),
        (
            service({"loadBalancerSourceRanges": ["10.0.0.0/255.0.0.0"]}),
            "spec.loadBalancerSourceRanges[0]",
            "expected an IP range",
        ),
        (
            service(
                {
                    "sessionAffinity": "ClientIP",
                    "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}},
                }
            ),
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
            "86401: must be 1 to 86400",
        ),
        (service({"type": "ExternalName", "ports": []}), "spec.externalName", "required"),
        (service({"ports": []}), "spec.ports", "required"),
        (service({"ports": [{"port": 1}, {"port": 2}]}), "spec.ports[0].name", "required"),
        (service({"ports": [{"port": 1, "name": "A"}]}), "spec.ports[0].name", "'A': must be"),
        (
            service({"ports": [TWO_PORTS[0], {**TWO_PORTS[1], "name": "a"}]}),
            "spec.ports[1].name",
            "'a' is there twice",
        ),
        (
            service({"ports": [TWO_PORTS[0], {**TWO_PORTS[1], "port": 80}]}),
            "spec.ports[1].port",
            "'TCP 80' is there twice",
        ),
        (
            service({"ports": [{"port": 1, "targetPort": 70000}]}),
            "spec.ports[0].targetPort",
            "70000: must be 1 to 65535",
        ),
        (
            service({"ports": [{"port": 1, "targetPort": -1}]}),
            "spec.ports[0].targetPort",
            "must be 1 to 65535",
        ),
        (
            service({"ports": [{"port": 1, "targetPort": "80"}]}),
            "spec.ports[0].targetPort",
            "must be a number",
        ),
        (
            service({"ports": [{"port": 1, "targetPort": "a-name-too-long-to-be"}]}),
            "spec.ports[0].targetPort",
            "must be a number or",
        ),
        (
            service(status={"loadBalancer": {"ingress": [{"ip": "x"}]}}),
            "status.loadBalancer.ingress[0].ip",
            "'x': expected an IP address",
        ),
        (endpoints(addressType="ipv4"), "addressType", "'ipv4': must be IPv4, IPv6 or FQDN"),
        (endpoints(endpoints=[{"addresses": []}]), "endpoints[0].addresses", "required"),
        (
            endpoints(endpoints=[{"addresses": ["10.0.0.1"]}, {"addresses": ["fd00::1"]}]),
            "endpoints[1].addresses[0]",
            "'fd00::1': expected an IPv4 address, as addressType says",
        ),
        (
            endpoints(endpoints=[{"addresses": ["10.0.0.256"]}]),
            "endpoints[0].addresses[0]",
            "expected an IPv4",
        ),
        (gateway({"listeners": []}), "spec.listeners", "required"),
        (
            gateway({"addresses": [{"value": "192.0.2"}]}),
            "spec.addresses[0].value",
            "'192.0.2': expected an IP address",
        ),
        (listening(name="A"), "spec.listeners[0].name", "'A': must be"),
        (
            gateway({"listeners": [{"name": "a", "port": port, "protocol": "TCP"} for port in (80, 81)]}),
            "spec.listeners[1].name",
            "'a' is there twice",
        ),
        (
            gateway({"listeners": [{"name": name, "port": 80, "protocol": "TCP"} for name in "ab"]}),
            "spec.listeners[1].port",
            "'TCP 80' is there twice",
        ),
        (
            selecting(key="k", operator="Near"),
            "spec.listeners[0].allowedRoutes.namespaces.selector.matchExpressions[0].operator",
            "'Near': must be one of In, NotIn, Exists, DoesNotExist",
        ),
        (
            selecting(key="k", operator="In"),
            "spec.listeners[0].allowedRoutes.namespaces.selector.matchExpressions[0].values",
            "required with In and NotIn",
        ),
        (
            selecting(key="k", operator="Exists", values=["v"]),
            "spec.listeners[0].allowedRoutes.namespaces.selector.matchExpressions[0].values",
            "only with these",
        ),
        (route(), "spec.rules", "required"),
        (route({}), "spec.rules[0].backendRefs", "required"),
        (
            route({"backendRefs": [{"name": "s"}]}),
            "spec.rules[0].backendRefs[0].port",
            "required to refer to a Service",
        ),
        (backend(weight=-1), "spec.rules[0].backendRefs[0].weight", "-1: expected int >= 0"),
        (backend(weight=1000001), "spec.rules[0].backendRefs[0].weight", "1000001: expected int <= 1000000"),
        (backend(port=0), "spec.rules[0].backendRefs[0].port", "0: expected int >= 1"),
        (grant(to=TO), "spec.from", "required"),
        (grant(**{"from": FROM}), "spec.to", "required"),
        (
            {
                "apiVersion": GATEWAY_API,
                "kind": "GatewayClass",
                "metadata": {"name": "c"},
                "spec": {"controllerName": "blixt"},
            },
            "spec.controllerName",
            "'blixt': must be DOMAIN/PATH",
        ),
    ],
)
def test_refused_with_the_field_and_the_reason(value: dict[str, Any], path: str, problem: str) -> None:
    with pytest.raises(DecodeError) as raised:
        decode(value)
    where, _, why = str(raised.value).partition(": ")
    assert where == path
    assert problem in why


@pytest.mark.parametrize(
    "value",
    [
        named("a.b", kind="Node"),
        service({"ports": TWO_PORTS}),
        service({"ports": [{"port": 53, "name": "u", "protocol": "UDP"}, {"port": 53, "name": "t"}]}),
        service({"clusterIP": "None", "ports": []}),
        service({"type": "ExternalName", "externalName": "x.example", "ports": []}),
        service({"type": "SomethingNew", "sessionAffinity": "Other", "trafficDistribution": "PreferLuck"}),
        service({"loadBalancerSourceRanges": [" 10.0.0.0/8 ", "fd00::/8", "10.0.0.1/8"]}),
        service({"ports": [{"port": 1, "protocol": "QUIC", "targetPort": "a-name"}]}),
        service({"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 99999}}}),
        service(status={"loadBalancer": {"ingress": [{"hostname": "h"}]}}),
        endpoints(addressType="FQDN", endpoints=[{"addresses": ["x.example"]}]),
        endpoints(addressType="IPv6", endpoints=[{"addresses": ["fd00::1", "fd00::2"]}]),
        endpoints(endpoints=[{"addresses": ["10.0.0.1"]}], ports=[{}]),
        gateway({"addresses": [{}, {"type": "Hostname", "value": "h"}, {"value": "fd00::1"}]}),
        gateway(
            {"listeners": [{"name": n, "port": 80, "protocol": p} for n, p in (("a", "TCP"), ("b", "UDP"))]}
        ),
        listening(protocol="example.com/new", allowedRoutes={"namespaces": {"from": "Somewhere"}}),
        selecting(key="k", operator="NotIn", values=["v"]),
        backend(weight=0),
        backend(weight=1_000_000),
        route({"backendRefs": [{"name": "b", "group": "storage", "kind": "Bucket"}]}, kind="UDPRoute"),
        grant(**{"from": FROM, "to": TO}),
    ],
)
def test_taken(value: dict[str, Any]) -> None:
    assert decode(value) is not None
