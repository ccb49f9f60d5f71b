"""What a plane may claim to do, and what a service asks of it.

Each capability is one line of what a Service's proxy must honour, as kube-proxy does, or of the Gateway API's
TCPRoute and UDPRoute. What the frontend decides (topology, which endpoints are usable) and what the backend
answers beside any plane (health check node ports) is none of a plane's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final

from blixt_backend.model import Algorithm, Endpoint, Protocol, ServiceView


class Capability(Enum):
    """What a plane claims; `key` is its name in JSON and in tables, `text` completes "asks for ..."."""

    TCP = "tcp", "TCP"
    UDP = "udp", "UDP"
    SCTP = "sctp", "SCTP"
    IPV4 = "ipv4", "IPv4"
    IPV6 = "ipv6", "IPv6, whose endpoints have nothing to do with those of IPv4"

    CLUSTER_IPS = "cluster-ips", "cluster IPs, for pods"
    NODE_CLIENTS = "node-clients", "cluster IPs, for programs of the node itself"
    NODE_PORTS = "node-ports", "node ports on the node's addresses"
    EXTERNAL_IPS = "external-ips", "external IPs"
    LOAD_BALANCER_IPS = "load-balancer-ips", "load balancer IPs, and addresses of Gateways"
    SOURCE_RANGES = "source-ranges", "source ranges: nobody else is let in"
    UNDEFINED_PORTS = "undefined-ports", "connections to a cluster IP's undefined ports being refused"

    WEIGHTS = "weights", "weights: a group's endpoints share its weight evenly"
    REJECT_SHARES = "reject-shares", "a share of new connections being refused"
    AFFINITY = "affinity", "session affinity by the client's address"
    MAGLEV = "maglev", "Maglev: few connections' choice changes with the endpoints"
    LEAST_CONNECTIONS = "least-connections", "the endpoint with the fewest connections"
    EXTERNAL_LOCAL = "external-local", "externalTrafficPolicy Local: only this node's endpoints"
    INTERNAL_LOCAL = "internal-local", "internalTrafficPolicy Local: only this node's endpoints"
    LOCAL_DROPS = "local-drops", "policy Local without an endpoint on this node: dropped, not refused"
    SHORT_CIRCUIT = (
        "short-circuit",
        "pods reaching all endpoints by external addresses, under policy Local too",
    )
    REFUSES = "refuses", "being refused at once without an endpoint: a TCP reset, an ICMP error for UDP"

    KEEPS_CONNECTIONS = "keeps-connections", "established connections that no change of the service touches"
    RESETS = "resets", "TCP to an endpoint that is gone being reset"
    DRAINING = "draining", "terminating endpoints that keep their connections and get no new ones"
    TERMINATING_FALLBACK = "terminating-fallback", "terminating endpoints, when no other is there"
    UDP_MOVES = "udp-moves", "UDP flows that go to another endpoint when theirs goes, or when the first comes"
    OUTLIVES_PROCESS = "outlives-process", "connections and services that go on without the backend's process"

    SOURCE_KEPT = "source-kept", "endpoints of this node that see the client's own address"
    MASQUERADE = "masquerade", "endpoints of other nodes, for clients that are not on this one"
    HAIRPIN = "hairpin", "a pod that reaches itself through its service"

    def __init__(self, key: str, text: str) -> None:
        self.key = key
        self.text = text


def _effective(endpoint: Endpoint) -> bool:
    return bool(endpoint.scopes) and not endpoint.reject


def _weighted(view: ServiceView) -> bool:
    chosen = [each for each in view.endpoints if _effective(each)]
    return len({(each.group, each.weight) for each in chosen}) > 1


def _terminating(view: ServiceView, chosen: bool) -> bool:
    return any(each.terminating and bool(each.scopes) is chosen for each in view.endpoints)


def _has(protocol: Protocol) -> Callable[[ServiceView], bool]:
    return lambda view: any(port.protocol is protocol for port in view.service.ports)


def _has_family(size: int) -> Callable[[ServiceView], bool]:
    def asked(view: ServiceView) -> bool:
        service = view.service
        addresses = (*service.cluster_ips, *service.external_ips, *service.load_balancer_ips)
        return any(len(address) == size for address in addresses)

    return asked


def _by(algorithm: Algorithm) -> Callable[[ServiceView], bool]:
    return lambda view: view.service.algorithm is algorithm


#: What can be seen in a service. The rest is asked for by all of them.
_ASKED: Final[Mapping[Capability, Callable[[ServiceView], bool]]] = {
    Capability.TCP: _has(Protocol.TCP),
    Capability.UDP: _has(Protocol.UDP),
    Capability.SCTP: _has(Protocol.SCTP),
    Capability.IPV4: _has_family(4),
    Capability.IPV6: _has_family(16),
    Capability.CLUSTER_IPS: lambda view: bool(view.service.cluster_ips),
    Capability.NODE_PORTS: lambda view: any(port.node_port for port in view.service.ports),
    Capability.EXTERNAL_IPS: lambda view: bool(view.service.external_ips),
    Capability.LOAD_BALANCER_IPS: lambda view: bool(view.service.load_balancer_ips),
    Capability.SOURCE_RANGES: lambda view: bool(view.service.source_filters),
    Capability.WEIGHTS: _weighted,
    Capability.REJECT_SHARES: lambda view: any(each.reject and each.scopes for each in view.endpoints),
    Capability.AFFINITY: lambda view: view.service.affinity_seconds > 0,
    Capability.MAGLEV: _by(Algorithm.MAGLEV),
    Capability.LEAST_CONNECTIONS: _by(Algorithm.LEAST_CONNECTIONS),
    Capability.EXTERNAL_LOCAL: lambda view: view.service.external_traffic_local,
    Capability.INTERNAL_LOCAL: lambda view: view.service.internal_traffic_local,
    Capability.LOCAL_DROPS: lambda view: (
        view.service.external_traffic_local or view.service.internal_traffic_local
    ),
    Capability.SHORT_CIRCUIT: lambda view: view.service.external_traffic_local,
    Capability.DRAINING: lambda view: _terminating(view, chosen=False),
    Capability.TERMINATING_FALLBACK: lambda view: _terminating(view, chosen=True),
    Capability.UDP_MOVES: _has(Protocol.UDP),
}

#: What each service asks for, whatever is in it.
ALWAYS_ASKED: Final = frozenset(Capability) - _ASKED.keys()


def asked(view: ServiceView) -> frozenset[Capability]:
    """What this service asks for beyond what all of them do."""
    return frozenset(capability for capability, seen in _ASKED.items() if seen(view))


def lacking(view: ServiceView, capabilities: frozenset[Capability]) -> list[Capability]:
    """What the service asks for and a plane of these capabilities can't do, in the order of the enum.

    It costs what is missing: nothing is asked of the service that the plane can do.
    """
    return [
        capability for capability, seen in _ASKED.items() if capability not in capabilities and seen(view)
    ]
