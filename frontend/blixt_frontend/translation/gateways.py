"""One Gateway, with the routes that name it, to its result: what is accepted and attached, and why not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from blixt_frontend.objects import Gateway, ParentRef, Route
from blixt_frontend.source import ObjectKey
from blixt_frontend.translation import classes
from blixt_frontend.translation.addresses import Addresses, Assignment, sort_out
from blixt_frontend.translation.certificates import LACKING, unresolved
from blixt_frontend.translation.cluster import Cluster, NamespacedName
from blixt_frontend.translation.listeners import conflicts, judged, overlaps
from blixt_frontend.translation.options import Options
from blixt_frontend.translation.results import (
    Condition,
    Conditions,
    GatewayResult,
    ListenerResult,
    ParentResult,
)
from blixt_frontend.translation.routes import attach, parent_name, parent_result, resolve_backends


@dataclass(slots=True)
class _Attachments:
    listeners: list[dict[ObjectKey, Route]]
    parents: list[ParentResult] = field(default_factory=list)


def is_ours(gateway: Gateway, cluster: Cluster, options: Options) -> bool:
    known = cluster.classes.get(gateway.spec.gateway_class_name)
    return known is not None and known.spec.controller_name == options.controller_name


def undecided(gateway: Gateway, cluster: Cluster) -> str:
    """Why it can't be said yet whether a Gateway of ours is accepted; empty: it can.

    One whose class is not accepted waits for that, and nothing of it is served. One that was decided on
    before, as its own status tells, is judged as if its class were good: a Gateway goes by its class as that
    was when the Gateway came, and a change of one class must not end the traffic of all its Gateways.
    """
    known = cluster.classes.get(gateway.spec.gateway_class_name)
    accepted = classes.accepted(known) if known is not None else None
    if accepted is None or accepted.status or gateway.status.decided:
        return ""
    return f"its class {gateway.spec.gateway_class_name} is not accepted: {accepted.message}"


def assess(gateway: Gateway, cluster: Cluster) -> GatewayResult:
    """Judge a Gateway of ours and all that names it. Nothing that it holds makes this fail."""
    listeners = _listeners(gateway, cluster)
    if reason := undecided(gateway, cluster):
        return _pending(gateway, listeners, cluster, reason)
    addresses, addresses_programmed = _addresses(gateway, cluster.assignments.get(gateway.key))
    accepted = _accepted(gateway, listeners)
    programmed = _programmed(accepted, addresses_programmed)
    attachments = _attachments(gateway, listeners, cluster)
    elsewhere = _attached_elsewhere(gateway, listeners, cluster)
    return GatewayResult(
        gateway.key,
        gateway.metadata.generation,
        Conditions((accepted, programmed)),
        addresses,
        tuple(
            replace(
                listener,
                attached=tuple(routes.values()),
                attached_elsewhere=others,
                conditions=Conditions(
                    (*listener.conditions, _listener_programmed(listener, accepted, addresses))
                ),
            )
            for listener, routes, others in zip(listeners, attachments.listeners, elsewhere, strict=True)
        ),
        tuple(attachments.parents),
    )


def _pending(
    gateway: Gateway, listeners: Sequence[ListenerResult], cluster: Cluster, message: str
) -> GatewayResult:
    """Nothing is known of it but its references."""
    accepted = Condition("Accepted", None, "Pending", message)
    programmed = Condition("Programmed", None, "Pending", message)

    def of_listener(result: ListenerResult) -> Conditions:
        resolved = (condition for condition in result.conditions if condition.type == "ResolvedRefs")
        return Conditions((accepted, *resolved, programmed))

    return GatewayResult(
        gateway.key,
        gateway.metadata.generation,
        Conditions((accepted, programmed)),
        Addresses(),
        tuple(replace(result, conditions=of_listener(result)) for result in listeners),
        tuple(
            parent_result(route, parent, accepted, resolve_backends(route, cluster))
            for route, parent in _naming(gateway, cluster)
        ),
    )


def _addresses(gateway: Gateway, assignment: Assignment | None) -> tuple[Addresses, Condition]:
    """The addresses to listen on, and the Programmed condition as far as it hangs on them.

    What our pools assigned; without any, addresses of the spec, and those of the status where the spec leaves
    the choice open: it has none, or an empty value.
    """
    asked = [address.value for address in gateway.spec.addresses if address.type == "IPAddress"]
    given = [address.value for address in gateway.status.addresses if address.type == "IPAddress"]
    ours_to_choose = not gateway.spec.addresses or "" in asked
    addresses, bad = sort_out(asked + given if ours_to_choose else asked)
    if assignment is not None:
        addresses, _ = sort_out(assignment.addresses)
    if bad:
        return addresses, Condition(
            "Programmed", False, "AddressNotUsable", f"no IP addresses: {', '.join(map(repr, bad))}"
        )
    if assignment is not None and assignment.reason is not None:
        return addresses, Condition("Programmed", False, assignment.reason, assignment.problem)
    if not addresses:
        message = "no address: give one in spec.addresses"
        return addresses, Condition("Programmed", False, "AddressNotAssigned", message)
    return addresses, Condition("Programmed", True, "Programmed")


def _listeners(gateway: Gateway, cluster: Cluster) -> list[ListenerResult]:
    listeners = gateway.spec.listeners
    lost, shared = conflicts(listeners), overlaps(listeners)
    results = []
    for index, listener in enumerate(listeners):
        certificates = unresolved(gateway, listener, cluster)
        kinds, conditions = judged(listener, lost.get(index), shared.get(index, ""), certificates)
        results.append(ListenerResult(listener, kinds, Conditions(conditions)))
    return results


def _accepted(gateway: Gateway, listeners: Sequence[ListenerResult]) -> Condition:
    parameters = gateway.spec.infrastructure.parameters_ref
    if parameters is not None:
        message = f"parameters of kind {parameters.group}/{parameters.kind} are not supported"
        return Condition("Accepted", False, "InvalidParameters", message)
    types = sorted({address.type for address in gateway.spec.addresses} - {"IPAddress"})
    if types:
        return Condition("Accepted", False, "UnsupportedAddress", f"address types {', '.join(types)}")
    if not listeners:
        return Condition("Accepted", False, "Invalid", "no listeners")
    faulty = [result.listener.name for result in listeners if not _faultless(result)]
    if faulty:
        message = f"listeners {', '.join(faulty)} are not valid"
        return Condition("Accepted", any(map(_usable, listeners)), "ListenersNotValid", message)
    return Condition("Accepted", True, "Accepted")


def _faultless(result: ListenerResult) -> bool:
    return _usable(result) and not result.conditions.fails("ResolvedRefs")


def _usable(result: ListenerResult) -> bool:
    """A listener that also allows kinds it can't take still serves those it can. Without its certificates it
    can serve nobody."""
    conditions = result.conditions
    return (
        conditions.holds("Accepted")
        and bool(result.supported_kinds)
        and conditions.reason("ResolvedRefs") not in LACKING
    )


def _programmed(accepted: Condition, addresses: Condition) -> Condition:
    if not accepted.status:
        return Condition("Programmed", False, "Invalid", accepted.message)
    return addresses


def _listener_programmed(result: ListenerResult, accepted: Condition, addresses: Addresses) -> Condition:
    if not accepted.status:
        return Condition("Programmed", False, "Invalid", f"the Gateway is not accepted: {accepted.message}")
    if not _usable(result):
        return Condition("Programmed", False, "Invalid", "the listener is not valid")
    if not addresses:
        return Condition("Programmed", False, "Pending", "the Gateway has no address")
    return Condition("Programmed", True, "Programmed")


def _naming(gateway: Gateway, cluster: Cluster) -> Iterator[tuple[Route, ParentRef]]:
    """The routes that carry traffic, the oldest first, with each of their references to the Gateway."""
    name = NamespacedName(gateway.metadata.namespace, gateway.metadata.name)
    for route in sorted(cluster.routes.get(name, {}).values(), key=lambda route: (route.age_key, route.kind)):
        for parent in route.spec.parent_refs:
            if parent_name(route, parent) == name:
                yield route, parent


def _attachments(gateway: Gateway, listeners: Sequence[ListenerResult], cluster: Cluster) -> _Attachments:
    found = _Attachments([{} for _ in listeners])
    for route, parent in _naming(gateway, cluster):
        accepted, taken = attach(gateway, parent, route, listeners, cluster)
        found.parents.append(parent_result(route, parent, accepted, resolve_backends(route, cluster)))
        for index in taken:
            found.listeners[index][route.key] = route
    return found


def _attached_elsewhere(
    gateway: Gateway, listeners: Sequence[ListenerResult], cluster: Cluster
) -> tuple[int, ...]:
    """How many routes of the other kinds attach to each listener."""
    name = NamespacedName(gateway.metadata.namespace, gateway.metadata.name)
    found: list[set[ObjectKey]] = [set() for _ in listeners]
    for route in cluster.host_routes.get(name, {}).values():
        for parent in route.spec.parent_refs:
            if parent_name(route, parent) == name:
                _, taken = attach(gateway, parent, route, listeners, cluster)
                for index in taken:
                    found[index].add(route.key)
    return tuple(map(len, found))
