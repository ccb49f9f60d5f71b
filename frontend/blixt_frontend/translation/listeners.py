"""A Gateway's listeners: which values they take, which conflict, whom they let in."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from blixt_frontend.objects import HostRoute, Listener, Namespace, Route, RouteGroupKind
from blixt_frontend.objects.gateway import GATEWAY_GROUP
from blixt_frontend.translation.certificates import ends_tls, references
from blixt_frontend.translation.hostnames import any_meets, meet
from blixt_frontend.translation.results import Condition, Reason

#: What each protocol takes. Only TCP and UDP carry traffic here; the others may stand beside them.
KINDS = {"TCP": "TCPRoute", "UDP": "UDPRoute", "TLS": "TLSRoute", "HTTP": "HTTPRoute", "HTTPS": "HTTPRoute"}
#: Listeners of one transport that can't be told apart by more than their port, or by a hostname only.
_STACKS = {"TCP": "TCP", "TLS": "TLS", "HTTPS": "TLS", "HTTP": "HTTP"}
_LAYER_4 = ("TCP", "UDP")
_TLS_MODES = ("Terminate", "Passthrough")
_NAMESPACES_FROM = ("All", "Same", "Selector", "None")

NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"


class Conflict(NamedTuple):
    reason: Reason
    message: str


def carries_traffic(listener: Listener) -> bool:
    return listener.protocol in _LAYER_4


def supported_kinds(listener: Listener) -> tuple[tuple[RouteGroupKind, ...], tuple[RouteGroupKind, ...]]:
    """The kinds that the listener allows and its protocol takes, and those it allows in vain."""
    kind = KINDS.get(listener.protocol)
    if kind is None:
        return (), ()
    good = RouteGroupKind(kind=kind, group=GATEWAY_GROUP)
    wanted = listener.allowed_routes.kinds
    if not wanted:
        return (good,), ()
    return (good,) if good in wanted else (), tuple(kind for kind in wanted if kind != good)


def conflicts(listeners: Sequence[Listener]) -> dict[int, Conflict]:
    """Conflicting listeners, by their index: all of them lose, none wins.

    On one port, UDP stands beside anything else; of TCP, TLS (with HTTPS) and HTTP there
    may only be one. Within it, TLS, HTTPS and HTTP listeners need distinct hostnames;
    TCP and UDP have none, so there is one of each.
    """
    found: dict[int, Conflict] = {}
    by_port: defaultdict[tuple[int, bool], list[int]] = defaultdict(list)
    for index, listener in enumerate(listeners):
        if listener.protocol in KINDS:
            by_port[listener.port, listener.protocol == "UDP"].append(index)
    for (port, _), indexes in by_port.items():
        protocols = sorted({listeners[index].protocol for index in indexes})
        if len({_STACKS.get(protocol) for protocol in protocols}) > 1:
            message = f"port {port} is wanted for {', '.join(protocols)}"
            found.update((index, Conflict("ProtocolConflict", message)) for index in indexes)
        elif protocols[0] in _LAYER_4 and len(indexes) > 1:
            message = f"port {port} is wanted by {len(indexes)} {protocols[0]} listeners"
            found.update((index, Conflict("ProtocolConflict", message)) for index in indexes)
        else:
            found.update(_hostname_conflicts(listeners, indexes))
    return found


def _hostname_conflicts(listeners: Sequence[Listener], indexes: list[int]) -> dict[int, Conflict]:
    uses = Counter(listeners[index].hostname for index in indexes)
    return {
        index: Conflict(
            "HostnameConflict", f"hostname {listeners[index].hostname!r} is wanted more than once"
        )
        for index in indexes
        if uses[listeners[index].hostname] > 1
    }


def overlaps(listeners: Sequence[Listener]) -> dict[int, str]:
    """What to tell of TLS listeners of one port with different hostnames that some name matches both of, by
    their index: a client may use a connection to one for the other as well."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    tls = [(index, one) for index, one in enumerate(listeners) if _STACKS.get(one.protocol) == "TLS"]
    for index, one in tls:
        for _, other in tls:
            differ = one.port == other.port and one.hostname != other.hostname
            if differ and meet(one.hostname, other.hostname):
                found[index].append(other.name)
    return {index: f"hostnames overlap with those of {', '.join(names)}" for index, names in found.items()}


def judged(
    listener: Listener, conflict: Conflict | None, overlap: str, certificates: Condition | None
) -> tuple[tuple[RouteGroupKind, ...], list[Condition]]:
    """The listener's supported kinds and its conditions but for Programmed.

    `overlap`: what `overlaps` tells of it. `certificates`: its ResolvedRefs, if they are not all good.
    """
    kinds, in_vain = supported_kinds(listener)
    conditions = []
    if listener.protocol not in KINDS:
        message = f"protocol {listener.protocol!r} is none of {', '.join(KINDS)}"
        conditions.append(Condition("Accepted", False, "UnsupportedProtocol", message))
    elif conflict is not None:
        conditions.append(Condition("Accepted", False, "PortUnavailable", conflict.message))
        conditions.append(Condition("Conflicted", True, conflict.reason, conflict.message))
    elif problem := _unsupported(listener):
        conditions.append(Condition("Accepted", False, "UnsupportedValue", problem))
    else:
        conditions.append(Condition("Accepted", True, "Accepted"))
    conditions.append(_resolved(in_vain, certificates))
    if overlap:
        conditions.append(Condition("OverlappingTLSConfig", True, "OverlappingHostnames", overlap))
    return kinds, conditions


def _resolved(in_vain: Sequence[RouteGroupKind], certificates: Condition | None) -> Condition:
    """Bad certificates are what is told first: without them, nothing of the listener works."""
    kinds = "unsupported kinds: " + ", ".join(f"{kind.group}/{kind.kind}" for kind in in_vain)
    if certificates is not None and (certificates.status is False or not in_vain):
        return replace(certificates, message=f"{certificates.message}; {kinds}") if in_vain else certificates
    if in_vain:
        return Condition("ResolvedRefs", False, "InvalidRouteKinds", kinds)
    return Condition("ResolvedRefs", True, "ResolvedRefs")


def _unsupported(listener: Listener) -> str:
    """What the listener asks for that is none of the values there are, or does not go with its protocol."""
    origin = listener.allowed_routes.namespaces.from_
    if origin not in _NAMESPACES_FROM:
        return f"allowedRoutes.namespaces.from: {origin!r} is none of {', '.join(_NAMESPACES_FROM)}"
    if listener.tls is not None and listener.tls.mode not in _TLS_MODES:
        return f"tls.mode: {listener.tls.mode!r} is none of {', '.join(_TLS_MODES)}"
    if listener.protocol == "HTTPS" and not ends_tls(listener):
        return "tls.mode: HTTPS can only be Terminate"
    if ends_tls(listener) and not references(listener):
        return f"tls.certificateRefs: required to end TLS ({listener.protocol})"
    return ""


def lets_in(
    listener: Listener,
    kinds: Sequence[RouteGroupKind],
    gateway_namespace: str,
    route: Route | HostRoute,
    namespaces: Mapping[str, Namespace],
) -> bool:
    """Whether allowedRoutes lets the route attach, and they have a hostname in common."""
    if not any(kind.kind == route.kind and kind.group == GATEWAY_GROUP for kind in kinds):
        return False
    if isinstance(route, HostRoute) and not any_meets(listener.hostname, route.spec.hostnames):
        return False
    allowed, namespace = listener.allowed_routes.namespaces, route.metadata.namespace
    match allowed.from_:
        case "All":
            return True
        case "Same":
            return namespace == gateway_namespace
        case "Selector":
            return allowed.selector is not None and allowed.selector.matches(
                namespace_labels(namespace, namespaces)
            )
        case _:
            return False


def namespace_labels(namespace: str, namespaces: Mapping[str, Namespace]) -> dict[str, str]:
    """Labels as the API server shows them: manifests may leave out the name label, or the Namespace."""
    known = namespaces.get(namespace)
    return {NAMESPACE_NAME_LABEL: namespace} | (known.labels if known else {})
