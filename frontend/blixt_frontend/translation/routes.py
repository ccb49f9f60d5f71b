"""Routes: which listeners they attach to, and what TCPRoutes' and UDPRoutes' backend references lead to.

Of several rules (v1alpha2 allowed 16, v1 allows one) only the first is used: a rule of these kinds has
nothing to match, so the first takes every connection. The PartiallyInvalid condition tells of the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from blixt_frontend.objects import BackendRef, Gateway, HostRoute, ParentRef, Route, Service
from blixt_frontend.objects.gateway import GATEWAY_GROUP
from blixt_frontend.translation.cluster import Cluster, NamespacedName
from blixt_frontend.translation.grants import permits
from blixt_frontend.translation.listeners import lets_in
from blixt_frontend.translation.results import (
    BackendResult,
    Condition,
    Conditions,
    ListenerResult,
    ParentResult,
    Reason,
)

#: The protocol that a service port must have.
PROTOCOL = {"TCPRoute": "TCP", "UDPRoute": "UDP"}


def parent_name(route: Route | HostRoute, parent: ParentRef) -> NamespacedName | None:
    """The Gateway that a parent reference names; None if it names something else."""
    if parent.group != GATEWAY_GROUP or parent.kind != "Gateway":
        return None
    return NamespacedName(parent.namespace or route.metadata.namespace, parent.name)


def backend_names(route: Route) -> Iterator[NamespacedName]:
    """The Services that any rule's references name, there or not."""
    for rule in route.spec.rules:
        for ref in rule.backend_refs:
            if _names_service(ref):
                yield NamespacedName(ref.namespace or route.metadata.namespace, ref.name)


def attach(
    gateway: Gateway,
    parent: ParentRef,
    route: Route | HostRoute,
    listeners: Sequence[ListenerResult],
    cluster: Cluster,
) -> tuple[Condition, tuple[int, ...]]:
    """The route's Accepted condition for this parent, and the indexes of the listeners it attaches to."""
    if isinstance(route, Route) and not route.spec.rules:
        return Condition("Accepted", False, "UnsupportedValue", "there are no rules"), ()
    named = [index for index, result in enumerate(listeners) if _selects(parent, result)]
    if not named:
        wanted = f"sectionName {parent.section_name!r}, port {parent.port}"
        return Condition("Accepted", False, "NoMatchingParent", f"no listener has {wanted}"), ()
    taken = tuple(
        index
        for index in named
        if lets_in(
            listeners[index].listener,
            listeners[index].supported_kinds,
            gateway.metadata.namespace,
            route,
            cluster.namespaces,
        )
    )
    if not taken:
        message = f"no listener named lets in a {route.kind} from namespace {route.metadata.namespace}"
        return Condition("Accepted", False, "NotAllowedByListeners", message), ()
    return Condition("Accepted", True, "Accepted"), taken


def _selects(parent: ParentRef, result: ListenerResult) -> bool:
    listener = result.listener
    return (not parent.section_name or parent.section_name == listener.name) and (
        parent.port is None or parent.port == listener.port
    )


def parent_result(
    route: Route, parent: ParentRef, accepted: Condition, backends: Iterable[BackendResult]
) -> ParentResult:
    bad = [backend for backend in backends if backend.reason != "ResolvedRefs"]
    conditions = [accepted]
    if bad:
        message = "; ".join(backend.message for backend in bad)
        conditions.append(Condition("ResolvedRefs", False, bad[0].reason, message))
    else:
        conditions.append(Condition("ResolvedRefs", True, "ResolvedRefs"))
    if accepted.status and len(route.spec.rules) > 1:
        message = "Dropped Rule: all but the first, which takes every connection"
        conditions.append(Condition("PartiallyInvalid", True, "UnsupportedValue", message))
    return ParentResult(route.key, parent, route.metadata.generation, Conditions(conditions))


def resolve_backends(route: Route, cluster: Cluster) -> tuple[BackendResult, ...]:
    """What the first rule's references lead to, in their order."""
    rules = route.spec.rules
    return tuple(_resolve(route, ref, cluster) for ref in rules[0].backend_refs) if rules else ()


def _resolve(route: Route, ref: BackendRef, cluster: Cluster) -> BackendResult:
    namespace = ref.namespace or route.metadata.namespace
    name = f"{namespace}/{ref.name}"

    def failed(reason: Reason, message: str) -> BackendResult:
        return BackendResult(ref, namespace, reason=reason, message=message)

    if not _names_service(ref):
        return failed("InvalidKind", f"{ref.group or 'core'}/{ref.kind} {name} is no Service")
    grants = cluster.grants.get(namespace, {}).values()
    own = route.metadata.namespace
    if namespace != own and not permits(grants, route.kind, own, Service.kind, ref.name):
        return failed(
            "RefNotPermitted",
            f"no ReferenceGrant lets a {route.kind} of {own} refer to Service {name}",
        )
    service = cluster.services.get(NamespacedName(namespace, ref.name))
    if service is None:
        return failed("BackendNotFound", f"Service {name} is not there")
    if service.spec.type == "ExternalName":
        return failed("BackendNotFound", f"Service {name} is an ExternalName, without endpoints of its own")
    if ref.port is None:
        return failed("BackendNotFound", f"the reference to Service {name} has no port")
    ports = [port for port in service.spec.ports if port.port == ref.port]
    if not ports:
        return failed("BackendNotFound", f"Service {name} has no port {ref.port}")
    protocol = PROTOCOL[route.kind]
    for port in ports:
        if port.protocol == protocol:
            return BackendResult(ref, namespace, service, port)
    return failed("UnsupportedProtocol", f"port {ref.port} of Service {name} is not {protocol}")


def _names_service(ref: BackendRef) -> bool:
    return ref.group == "" and ref.kind == "Service"
