"""What an API server would refuse, as far as translation relies on it. Types and number ranges are checked by
decoding; here is what spans fields or needs more than a range."""

from __future__ import annotations

import re
import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from ipaddress import ip_network

from blixt_frontend.objects import (
    EndpointSlice,
    Gateway,
    GatewayClass,
    HostRoute,
    LabelSelector,
    Namespace,
    Node,
    Object,
    ReferenceGrant,
    Route,
    Secret,
    Service,
    ServicePort,
)

Path = tuple[str | int, ...]
FieldProblem = tuple[Path, str]

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
_SUBDOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*\Z")
_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")
_MAX_AFFINITY_SECONDS = 86400

_LABEL_RULE = (
    "must be lower case letters, digits and '-', at most 63, beginning and ending with a letter or digit"
)
_SUBDOMAIN_RULE = "must be lower case letters, digits, '-' and '.', at most 253"


def problems(decoded: Object) -> Iterator[FieldProblem]:
    """What is wrong with an object, each with the path of its field."""
    yield from _metadata(decoded)
    match decoded:
        case Service():
            yield from _service(decoded)
        case EndpointSlice():
            yield from _slice(decoded)
        case Gateway():
            yield from _gateway(decoded)
        case Route():
            yield from _route(decoded)
        case ReferenceGrant():
            yield from _grant(decoded)
        case GatewayClass():
            if not re.match(r"[^/]+/.+\Z", decoded.spec.controller_name):
                yield ("spec", "controllerName"), f"{decoded.spec.controller_name!r}: must be DOMAIN/PATH"
        case Node() | Namespace() | Secret() | HostRoute():
            pass  # what is wrong with a Secret's content is told by the listeners that refer to it


def is_ip(text: str) -> bool:
    """As Kubernetes takes addresses: no leading zeros, no zone."""
    return _family(text) is not None


def _family(text: str) -> str | None:
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError):
        return None
    return "IPv6" if ":" in text else "IPv4"


def _metadata(decoded: Object) -> Iterator[FieldProblem]:
    """A Service's name has no dot: `gateway.listener` names listeners on the wire."""
    name, namespace = decoded.metadata.name, decoded.metadata.namespace
    if isinstance(decoded, Service | Namespace):
        if not _LABEL.match(name):
            yield ("metadata", "name"), f"{name!r}: {_LABEL_RULE}"
    elif not _SUBDOMAIN.match(name):
        yield ("metadata", "name"), f"{name!r}: {_SUBDOMAIN_RULE}"
    if namespace and not _LABEL.match(namespace):
        yield ("metadata", "namespace"), f"{namespace!r}: {_LABEL_RULE}"


def _service(service: Service) -> Iterator[FieldProblem]:
    spec = service.spec
    if spec.cluster_ips and spec.cluster_ip != spec.cluster_ips[0]:
        yield ("spec", "clusterIPs", 0), f"{spec.cluster_ips[0]!r}: must be the same as clusterIP"
    if not spec.headless:
        yield from _ips(("spec", "clusterIPs"), spec.cluster_ips)
        families = Counter(_family(address) for address in spec.cluster_ips)
        if len(spec.cluster_ips) > 2 or any(count > 1 for count in families.values()):
            yield ("spec", "clusterIPs"), "at most one address of each family"
    yield from _ips(("spec", "externalIPs"), spec.external_ips)
    for index, cidr in enumerate(spec.load_balancer_source_ranges):
        if not _is_cidr(cidr.strip()):
            yield (
                ("spec", "loadBalancerSourceRanges", index),
                f"{cidr!r}: expected an IP range like 10.0.0.0/8",
            )
    if spec.session_affinity == "ClientIP" and not 0 < spec.affinity_seconds <= _MAX_AFFINITY_SECONDS:
        path = ("spec", "sessionAffinityConfig", "clientIP", "timeoutSeconds")
        yield path, f"{spec.affinity_seconds}: must be 1 to {_MAX_AFFINITY_SECONDS}"
    if spec.type == "ExternalName" and not spec.external_name:
        yield ("spec", "externalName"), "required for a Service of type ExternalName"
    if not spec.ports and not spec.headless and spec.type != "ExternalName":
        yield ("spec", "ports"), "required"
    yield from _service_ports(spec.ports)
    for index, ingress in enumerate(service.ingress):
        if ingress.ip and not is_ip(ingress.ip):
            yield ("status", "loadBalancer", "ingress", index, "ip"), _no_ip(ingress.ip)


def _service_ports(ports: tuple[ServicePort, ...]) -> Iterator[FieldProblem]:
    for index, port in enumerate(ports):
        at = ("spec", "ports", index)
        if not port.name and len(ports) > 1:
            yield (*at, "name"), "required, since there are several ports"
        if port.name and not _LABEL.match(port.name):
            yield (*at, "name"), f"{port.name!r}: {_LABEL_RULE}"
        target = port.target_port
        if isinstance(target, int):
            if not 1 <= target <= 65535:
                yield (*at, "targetPort"), f"{target}: must be 1 to 65535"
        elif len(target) > 15 or not _PORT_NAME.match(target):
            yield (*at, "targetPort"), f"{target!r}: must be a number or the name of a port of the endpoints"
    if len(ports) > 1:
        yield from _twice(("spec", "ports"), "name", (port.name for port in ports))
        yield from _twice(("spec", "ports"), "port", (f"{port.protocol} {port.port}" for port in ports))


def _slice(endpoints: EndpointSlice) -> Iterator[FieldProblem]:
    if endpoints.address_type not in ("IPv4", "IPv6", "FQDN"):
        yield ("addressType",), f"{endpoints.address_type!r}: must be IPv4, IPv6 or FQDN"
    for index, endpoint in enumerate(endpoints.endpoints):
        if not endpoint.addresses:
            yield ("endpoints", index, "addresses"), "required"
        if endpoints.address_type == "FQDN":
            continue
        for position, address in enumerate(endpoint.addresses):
            if _family(address) != endpoints.address_type:
                problem = f"{address!r}: expected an {endpoints.address_type} address, as addressType says"
                yield ("endpoints", index, "addresses", position), problem


def _gateway(gateway: Gateway) -> Iterator[FieldProblem]:
    spec = gateway.spec
    for index, address in enumerate(spec.addresses):
        if address.type == "IPAddress" and address.value and not is_ip(address.value):
            yield ("spec", "addresses", index, "value"), _no_ip(address.value)
    if not spec.listeners:
        yield ("spec", "listeners"), "required"
    for index, listener in enumerate(spec.listeners):
        at = ("spec", "listeners", index)
        if not _SUBDOMAIN.match(listener.name):
            yield (*at, "name"), f"{listener.name!r}: {_SUBDOMAIN_RULE}"
        namespaces = listener.allowed_routes.namespaces
        if namespaces.selector is not None:
            yield from _selector((*at, "allowedRoutes", "namespaces", "selector"), namespaces.selector)
    yield from _twice(("spec", "listeners"), "name", (listener.name for listener in spec.listeners))
    combinations = (f"{one.protocol} {one.port} {one.hostname}".rstrip() for one in spec.listeners)
    yield from _twice(("spec", "listeners"), "port", combinations)


def _selector(at: Path, selector: LabelSelector) -> Iterator[FieldProblem]:
    for index, requirement in enumerate(selector.match_expressions):
        where = (*at, "matchExpressions", index)
        if requirement.operator not in _OPERATORS:
            yield (*where, "operator"), f"{requirement.operator!r}: must be one of {', '.join(_OPERATORS)}"
        elif bool(requirement.values) != (requirement.operator in ("In", "NotIn")):
            yield (*where, "values"), "required with In and NotIn, and only with these"


def _route(route: Route) -> Iterator[FieldProblem]:
    if not route.spec.rules:
        yield ("spec", "rules"), "required"
    for number, rule in enumerate(route.spec.rules):
        at = ("spec", "rules", number, "backendRefs")
        if not rule.backend_refs:
            yield at, "required"
        for index, reference in enumerate(rule.backend_refs):
            if (reference.group, reference.kind) == ("", "Service") and reference.port is None:
                yield (*at, index, "port"), "required to refer to a Service"


def _grant(grant: ReferenceGrant) -> Iterator[FieldProblem]:
    if not grant.spec.from_:
        yield ("spec", "from"), "required"
    if not grant.spec.to:
        yield ("spec", "to"), "required"


def _ips(at: Path, addresses: tuple[str, ...]) -> Iterator[FieldProblem]:
    for index, address in enumerate(addresses):
        if not is_ip(address):
            yield (*at, index), _no_ip(address)


def _no_ip(text: str) -> str:
    return f"{text!r}: expected an IP address"


def _is_cidr(text: str) -> bool:
    address, slash, length = text.partition("/")
    if not slash or not length.isdecimal() or not is_ip(address):
        return False
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _twice(at: Path, field: str, values: Iterable[str]) -> Iterator[FieldProblem]:
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value in seen:
            yield (*at, index, field), f"{value!r} is there twice"
        seen.add(value)
