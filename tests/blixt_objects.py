"""Kubernetes objects in one line each, and what nodes see of the items made from them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import trustme

from blixt_api import localv1_pb2 as wire
from blixt_frontend.items import Item, ItemKind, Topology
from blixt_frontend.objects import (
    AllowedRoutes,
    BackendRef,
    CertificateRef,
    Endpoint,
    EndpointConditions,
    EndpointHints,
    EndpointPort,
    EndpointSlice,
    Gateway,
    GatewayAddress,
    GatewayClass,
    GatewayClassSpec,
    GatewaySpec,
    GatewayStatus,
    GrantFrom,
    GrantTo,
    HostRouteSpec,
    HTTPRoute,
    Infrastructure,
    Listener,
    ListenerTLS,
    LoadBalancerIngress,
    LoadBalancerStatus,
    Namespace,
    Node,
    NodeHint,
    Object,
    ObjectMeta,
    ParametersRef,
    ParentRef,
    ReferenceGrant,
    ReferenceGrantSpec,
    RouteNamespaces,
    RouteRule,
    RouteSpec,
    Secret,
    Service,
    ServicePort,
    ServiceSpec,
    ServiceStatus,
    TargetRef,
    TCPRoute,
    TLSRoute,
    UDPRoute,
    ZoneHint,
)
from blixt_frontend.objects.core import ZONE_LABEL
from blixt_frontend.objects.discovery import SERVICE_NAME_LABEL, TRIGGER_TIME_ANNOTATION
from blixt_frontend.objects.gateway import GATEWAY_GROUP, GatewayCondition
from blixt_frontend.translation.options import CONTROLLER_NAME

Scopes = tuple[bool, bool, bool]
ALL: Scopes = (True, True, True)
NONE: Scopes = (False, False, False)


def port(number: int = 80, target: int | str = 8080, name: str = "", **fields: Any) -> ServicePort:
    return ServicePort(port=number, target_port=target, name=name, **fields)


def service(
    name: str = "web",
    *ports: ServicePort,
    namespace: str = "default",
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    ingress: Sequence[LoadBalancerIngress] = (),
    cluster_ips: Sequence[str] = ("10.96.0.1",),
    **spec: Any,
) -> Service:
    return Service(
        metadata=ObjectMeta(
            name=name, namespace=namespace, labels=dict(labels or {}), annotations=dict(annotations or {})
        ),
        spec=ServiceSpec(cluster_ips=tuple(cluster_ips), ports=ports or (port(),), **spec),
        status=ServiceStatus(load_balancer=LoadBalancerStatus(ingress=tuple(ingress))),
    )


def endpoint(
    address: str = "10.0.0.1",
    pod: str = "",
    *,
    node: str = "",
    zone: str = "",
    ready: bool | None = None,
    serving: bool | None = None,
    terminating: bool | None = None,
    zones: Iterable[str] = (),
    nodes: Iterable[str] = (),
    hostname: str = "",
) -> Endpoint:
    return Endpoint(
        addresses=(address,),
        conditions=EndpointConditions(ready=ready, serving=serving, terminating=terminating),
        hostname=hostname,
        node_name=node,
        zone=zone,
        target_ref=TargetRef(kind="Pod", name=pod) if pod else None,
        hints=EndpointHints(
            for_zones=tuple(ZoneHint(name=name) for name in zones),
            for_nodes=tuple(NodeHint(name=name) for name in nodes),
        ),
    )


def terminating(address: str, pod: str = "", *, serving: bool = True, **fields: Any) -> Endpoint:
    return endpoint(address, pod, ready=False, serving=serving, terminating=True, **fields)


def endpoint_slice(
    *endpoints: Endpoint,
    of: str = "web",
    name: str = "",
    namespace: str = "default",
    address_type: str = "IPv4",
    ports: Sequence[EndpointPort] | None = None,
    time: str = "",
) -> EndpointSlice:
    return EndpointSlice(
        metadata=ObjectMeta(
            name=name or f"{of}-{address_type.lower()}",
            namespace=namespace,
            labels={SERVICE_NAME_LABEL: of},
            annotations={TRIGGER_TIME_ANNOTATION: time} if time else {},
        ),
        address_type=address_type,
        endpoints=endpoints,
        ports=tuple(ports) if ports is not None else (EndpointPort(port=8080),),
    )


def node(name: str, zone: str = "") -> Node:
    return Node(metadata=ObjectMeta(name=name, labels={ZONE_LABEL: zone} if zone else {}))


def namespace(name: str, **labels: str) -> Namespace:
    return Namespace(metadata=ObjectMeta(name=name, labels=labels))


def gateway_class(
    name: str = "blixt", controller: str = CONTROLLER_NAME, parameters: ParametersRef | None = None
) -> GatewayClass:
    return GatewayClass(
        metadata=ObjectMeta(name=name),
        spec=GatewayClassSpec(controller_name=controller, parameters_ref=parameters),
    )


def listener(name: str = "tcp", number: int = 80, protocol: str = "TCP", **fields: Any) -> Listener:
    return Listener(name=name, port=number, protocol=protocol, **fields)


@cache
def key_pair() -> tuple[bytes, bytes]:
    """A certificate with the authority's, and its key, in PEM."""
    made = trustme.CA().issue_cert("example.org")
    return b"".join(pem.bytes() for pem in made.cert_chain_pems), made.private_key_pem.bytes()


def tls_secret(
    name: str = "cert",
    namespace: str = "default",
    *,
    certificate: bytes | None = None,
    key: bytes | None = None,
    type: str = "kubernetes.io/tls",  # noqa: A002
) -> Secret:
    good_certificate, good_key = key_pair()
    parts = {
        "tls.crt": good_certificate if certificate is None else certificate,
        "tls.key": good_key if key is None else key,
    }
    data = {part: b64encode(content).decode() for part, content in parts.items()}
    return Secret(metadata=ObjectMeta(name=name, namespace=namespace), type=type, data=data)


def https(name: str = "https", number: int = 443, *refs: CertificateRef, **fields: Any) -> Listener:
    """With the Secret "cert", if no other certificates are given."""
    tls = ListenerTLS(certificate_refs=refs or (CertificateRef(name="cert"),))
    return listener(name, number, fields.pop("protocol", "HTTPS"), **{"tls": tls, **fields})


def lets_in(from_: str, selector: Any = None, kinds: Sequence[Any] = ()) -> AllowedRoutes:
    return AllowedRoutes(namespaces=RouteNamespaces(from_=from_, selector=selector), kinds=tuple(kinds))


def gateway(
    *listeners: Listener,
    name: str = "gw",
    namespace: str = "default",
    addresses: Sequence[GatewayAddress] = (GatewayAddress(value="192.0.2.1"),),
    assigned: Sequence[GatewayAddress] = (),
    infrastructure: Infrastructure | None = None,
    class_name: str = "blixt",
    annotations: Mapping[str, str] | None = None,
    accepted: str = "",
) -> Gateway:
    """`accepted`: the condition of that type in its status, if there is one."""
    return Gateway(
        metadata=ObjectMeta(
            name=name, namespace=namespace, generation=3, annotations=dict(annotations or {})
        ),
        spec=GatewaySpec(
            gateway_class_name=class_name,
            listeners=listeners,
            addresses=tuple(addresses),
            infrastructure=infrastructure or Infrastructure(),
        ),
        status=GatewayStatus(
            addresses=tuple(assigned),
            conditions=(GatewayCondition(type="Accepted", status=accepted),) if accepted else (),
        ),
    )


def backend(name: str = "web", port: int | None = 80, **fields: Any) -> BackendRef:
    return BackendRef(name=name, port=port, **fields)


def tcp_route(
    *backends: BackendRef,
    name: str = "route",
    namespace: str = "default",
    parents: Sequence[ParentRef] = (ParentRef(name="gw"),),
    age: int | None = None,
    kind: type[TCPRoute] | type[UDPRoute] = TCPRoute,
    rules: Sequence[RouteRule] | None = None,
) -> TCPRoute | UDPRoute:
    """`age` in days; None: it doesn't say when it was created."""
    created = None if age is None else datetime(2026, 1, 1, tzinfo=UTC) - timedelta(days=age)
    return kind(
        metadata=ObjectMeta(name=name, namespace=namespace, creation_timestamp=created, generation=7),
        spec=RouteSpec(
            parent_refs=tuple(parents),
            rules=tuple(rules) if rules is not None else (RouteRule(backend_refs=backends),),
        ),
    )


def udp_route(*backends: BackendRef, **fields: Any) -> TCPRoute | UDPRoute:
    return tcp_route(*backends, kind=UDPRoute, **fields)


def http_route(
    *hostnames: str,
    name: str = "route",
    namespace: str = "default",
    parents: Sequence[ParentRef] = (ParentRef(name="gw"),),
    kind: type[HTTPRoute] | type[TLSRoute] = HTTPRoute,
) -> HTTPRoute | TLSRoute:
    return kind(
        metadata=ObjectMeta(name=name, namespace=namespace),
        spec=HostRouteSpec(parent_refs=tuple(parents), hostnames=hostnames),
    )


def tls_route(*hostnames: str, **fields: Any) -> HTTPRoute | TLSRoute:
    return http_route(*hostnames, kind=TLSRoute, **fields)


def grant(
    name: str = "grant",
    namespace: str = "other",
    *,
    from_: Sequence[GrantFrom] = (GrantFrom(group=GATEWAY_GROUP, kind="TCPRoute", namespace="default"),),
    to: Sequence[GrantTo] = (GrantTo(group="", kind="Service"),),
) -> ReferenceGrant:
    return ReferenceGrant(
        metadata=ObjectMeta(name=name, namespace=namespace),
        spec=ReferenceGrantSpec(from_=tuple(from_), to=tuple(to)),
    )


class Seen:
    """What one node sees of items: messages by path."""

    def __init__(self, items: Iterable[Item], node: str = "", zone: str = "") -> None:
        self.services: dict[str, wire.Service] = {}
        self.endpoints: dict[str, wire.Endpoint] = {}
        for item in items:
            encoded = item.variant(Topology(node, zone))
            if encoded is None:
                continue
            if item.kind is ItemKind.SERVICE:
                self.services[item.path] = wire.Service.FromString(encoded)
            else:
                self.endpoints[item.path] = wire.Endpoint.FromString(encoded)

    def service(self) -> wire.Service:
        """The only service."""
        (service,) = self.services.values()
        return service

    def scopes(self) -> dict[str, Scopes]:
        """(internal, external, cluster) of each endpoint, by its key."""
        return {path.split("/")[2]: scopes(message) for path, message in self.endpoints.items()}

    def cluster(self) -> set[str]:
        """The addresses that are in the Cluster set."""
        return {ip for m in self.endpoints.values() if m.Scopes.Cluster for ip in (*m.IPs.V4, *m.IPs.V6)}


def scopes(message: wire.Endpoint) -> Scopes:
    return message.Scopes.Internal, message.Scopes.External, message.Scopes.Cluster


def only(seen: Seen) -> wire.Endpoint:
    (message,) = seen.endpoints.values()
    return message


Objects = Sequence[Object]
