"""The service model as planes see it: frozen, small, addresses packed in network byte order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum, IntFlag
from typing import NewType

#: An IP address as 4 or 16 bytes in network byte order; its length is its family.
PackedAddress = NewType("PackedAddress", bytes)


class Protocol(IntEnum):
    """IANA protocol numbers, as they stand in an IP header."""

    TCP = 6
    UDP = 17
    SCTP = 132


class Origin(Enum):
    """What a service was made from: a reject share of a UDP route is dropped, a Service's is answered."""

    SERVICE = "Service"
    GATEWAY_LISTENER = "GatewayListener"


class Algorithm(Enum):
    """How an endpoint is chosen for a new connection."""

    WEIGHTED_RANDOM = "WeightedRandom"
    MAGLEV = "Maglev"
    LEAST_CONNECTIONS = "LeastConnections"


class Scope(IntFlag):
    """New connections an endpoint is meant for on this node. NONE: it only keeps those it has."""

    NONE = 0
    #: To a cluster IP.
    INTERNAL = 1
    #: From outside the cluster, to a node port, load balancer or external IP.
    EXTERNAL = 2
    #: From inside the cluster to any of those: traffic policies for outsiders don't apply.
    CLUSTER = 4


@dataclass(frozen=True, slots=True)
class PortMapping:
    """One port of a service. Ports are numbers in host order; 0: none."""

    name: str
    protocol: Protocol
    port: int
    node_port: int = 0
    target_port: int = 0
    target_port_name: str = ""


@dataclass(frozen=True, slots=True)
class SourceFilter:
    """Only sources in one of `ranges` (network, prefix length) reach `targets`."""

    targets: tuple[PackedAddress, ...]
    ranges: tuple[tuple[PackedAddress, int], ...]


@dataclass(frozen=True, slots=True)
class Service:
    """One Service, or one Gateway listener in a Service's shape (its name is `gateway.listener`)."""

    namespace: str
    name: str
    type: str = "ClusterIP"
    origin: Origin = Origin.SERVICE
    algorithm: Algorithm = Algorithm.WEIGHTED_RANDOM
    cluster_ips: tuple[PackedAddress, ...] = ()
    external_ips: tuple[PackedAddress, ...] = ()
    load_balancer_ips: tuple[PackedAddress, ...] = ()
    ports: tuple[PortMapping, ...] = ()
    #: externalTrafficPolicy, internalTrafficPolicy Local: without a local endpoint, drop rather than refuse.
    external_traffic_local: bool = False
    internal_traffic_local: bool = False
    source_filters: tuple[SourceFilter, ...] = ()
    #: ClientIP affinity's time-out; 0: no affinity.
    affinity_seconds: int = 0
    health_check_node_port: int = 0
    #: The load balancer IPs are nobody else's: a node may answer for them on its segment (ARP, NDP).
    announce: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint of one service. Without addresses and with `reject`: a share of connections to refuse."""

    #: The last part of the item's path; unique within the service.
    key: str
    addresses: tuple[PackedAddress, ...] = ()
    hostname: str = ""
    local: bool = False
    #: (port name, port) where the endpoint's port differs from the service's target port.
    port_overrides: tuple[tuple[str, int], ...] = ()
    scopes: Scope = Scope.INTERNAL | Scope.EXTERNAL | Scope.CLUSTER
    #: Endpoints of one group share its weight evenly.
    group: int = 0
    weight: int = 1
    reject: bool = False
    serving: bool = True
    terminating: bool = False
    node: str = ""
    zone: str = ""
    #: Nanoseconds since 1970; 0: unknown.
    trigger_time_ns: int = 0

    def port_for(self, port: PortMapping) -> int | None:
        """The endpoint's own number of a service port; None: it lacks that port (KPNG's rule).

        The port's name, else its target port's name, is looked up in the overrides; a name that isn't there
        means the endpoint lacks the port, unless it overrides nothing. Without a name, the target port.
        """
        name = port.name or port.target_port_name
        if name and self.port_overrides:
            return next((number for key, number in self.port_overrides if key == name), None)
        return port.target_port or port.port


@dataclass(frozen=True, slots=True)
class ServiceView:
    """A service with all its endpoints, in the order of their keys (`endpoints.Endpoints`, as a rule)."""

    service: Service
    endpoints: Sequence[Endpoint] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """This node, as its Node object has it."""

    #: It is being deleted, or about to be: load balancers should send it nobody new.
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """What one Sync brought.

    `changed` holds every service with any difference, whole, by path; `removed` the paths that are gone.
    `desired` is all there is after the change: a live read-only view, for planes that want full state.
    With `resync`, `changed` equals `desired`, and what the plane holds beyond it must go: sent first after a
    start or a Reset, and again after an apply that failed.
    """

    changed: Mapping[str, ServiceView]
    removed: frozenset[str]
    desired: Mapping[str, ServiceView]
    resync: bool = False
    revision: int = 0
    #: What was last said of this node; no plane's business.
    node: Node = Node()
