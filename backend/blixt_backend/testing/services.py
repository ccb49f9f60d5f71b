"""Services and endpoints as the checks need them: few words, and every address at once."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final, NamedTuple

from blixt_backend.model import (
    ChangeSet,
    Endpoint,
    PackedAddress,
    PortMapping,
    Protocol,
    Scope,
    Service,
    ServiceView,
)
from blixt_backend.testing.host import Host
from blixt_backend.testing.lab import SCTP_PORT, TCP_PORT, UDP_PORT
from blixt_backend.testing.traffic import Target

ALL: Final = Scope.INTERNAL | Scope.EXTERNAL | Scope.CLUSTER
#: Ports of the services; undefined, and of nodes.
HTTP, DNS, UNDEFINED, NODE_HTTP, NODE_DNS, SIGNALLING = 80, 53, 81, 30080, 30053, 2905


class Kind(NamedTuple):
    """A kind of traffic."""

    protocol: Protocol
    version: int

    def __str__(self) -> str:
        return f"{self.protocol.name}/IPv{self.version}"


class Pair(NamedTuple):
    """A service's addresses of one sort, one of each family."""

    address4: str
    address6: str

    def target(self, kind: Kind, tcp: int = HTTP, udp: int = DNS) -> Target:
        port = tcp if kind.protocol is Protocol.TCP else udp
        return Target(kind.protocol.name.lower(), self.of(kind.version), port)

    def of(self, version: int) -> str:
        return self.address4 if version == 4 else self.address6


CLUSTER = Pair("10.96.0.10", "fd00:10:96::10")
CLUSTER_OTHER = Pair("10.96.0.11", "fd00:10:96::11")
EXTERNAL = Pair("192.0.2.10", "2001:db8:100::10")
BALANCER = Pair("192.0.2.20", "2001:db8:100::20")
#: All addresses that services of the checks ever have.
ADDRESSES: Final = (CLUSTER, CLUSTER_OTHER, EXTERNAL, BALANCER)


def service(
    *endpoints: Endpoint,
    cluster: Pair | None = CLUSTER,
    external: Pair | None = None,
    balancer: Pair | None = None,
    node_ports: bool = False,
    name: str = "web",
    **more: Any,
) -> ServiceView:
    """A service of TCP port HTTP and UDP port DNS; `more` are further fields of Service."""
    ports = (
        PortMapping("http", Protocol.TCP, HTTP, NODE_HTTP if node_ports else 0, TCP_PORT),
        PortMapping("dns", Protocol.UDP, DNS, NODE_DNS if node_ports else 0, UDP_PORT),
    )
    made = Service(
        namespace="kit",
        name=name,
        cluster_ips=packed(cluster or ()),
        external_ips=packed(external or ()),
        load_balancer_ips=packed(balancer or ()),
        ports=ports,
        **more,
    )
    return ServiceView(made, tuple(sorted(endpoints, key=lambda each: each.key)))


def with_sctp(view: ServiceView) -> ServiceView:
    """The service with the SCTP port SIGNALLING, too."""
    ports = (*view.service.ports, PortMapping("sig", Protocol.SCTP, SIGNALLING, 0, SCTP_PORT))
    return replace(view, service=replace(view.service, ports=ports))


def endpoint(pod: Host, scopes: Scope = ALL, **more: Any) -> Endpoint:
    """A pod as an endpoint; `more` are further fields of Endpoint."""
    both = packed((pod.address4, pod.address6))
    return Endpoint(pod.name, both, local=pod.local, scopes=scopes, **more)


def terminating(pod: Host, scopes: Scope = Scope.NONE) -> Endpoint:
    """A pod that was told to end, and still serves."""
    return endpoint(pod, scopes, terminating=True)


def refused_share(group: int, weight: int = 1) -> Endpoint:
    """A route's backend without endpoints."""
    return Endpoint(f"refused-{group}", reject=True, group=group, weight=weight)


def packed(addresses: Iterable[str]) -> tuple[PackedAddress, ...]:
    return tuple(PackedAddress(ipaddress.ip_address(address).packed) for address in addresses)


def difference(before: dict[str, ServiceView], after: dict[str, ServiceView]) -> ChangeSet:
    """The change set from one state to another."""
    changed = {path: view for path, view in after.items() if before.get(path) != view}
    return ChangeSet(changed, frozenset(before.keys() - after.keys()), after)


def everything(desired: dict[str, ServiceView]) -> ChangeSet:
    """What comes first after a start."""
    return ChangeSet(desired, frozenset(), desired, resync=True)
