"""From the service model to what each frontend does with whom. Pure."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final, NamedTuple

from blixt_backend.model import (
    Algorithm,
    Endpoint,
    Origin,
    PackedAddress,
    PortMapping,
    Protocol,
    Scope,
    Service,
    ServiceView,
)
from blixt_backend.planes.shares import without_this_family
from blixt_backend.planes.userspace.choice import Member, Side, Target, side

Network = IPv4Network | IPv6Network
CARRIED: Final = (Protocol.TCP, Protocol.UDP)
_SIZES: Final = (4, 16)
_ALL: Final = Scope.INTERNAL | Scope.EXTERNAL | Scope.CLUSTER


class Frontend(NamedTuple):
    """Where clients connect to; the address in readable form, the port in host order."""

    address: str
    port: int
    protocol: Protocol

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}/{self.protocol.name.lower()}"


@dataclass(frozen=True, slots=True)
class Entry:
    """What one frontend does. `outside`: for clients outside the cluster, if they get something else."""

    service: str
    #: Names the service's port and family: what affinity holds for.
    port: str
    inside: Side
    outside: Side | None = None
    #: The only sources outside the cluster that are let in; None: all.
    ranges: tuple[Network, ...] | None = None
    #: Whose connections may go on: all endpoints that are there, of UDP only those that serve.
    keeps: frozenset[Target] = frozenset()
    affinity_seconds: int = 0
    #: Least connections rather than weighted random.
    least: bool = False
    #: Who gets no endpoint gets no word either, as far as the protocol lets us be silent.
    silent: bool = False

    @property
    def answers(self) -> bool:
        """Whether anybody may get an endpoint."""
        return self.inside.answers or (self.outside is not None and self.outside.answers)


Plan = Mapping[Frontend, Entry]


def compile_view(view: ServiceView, node_addresses: Sequence[PackedAddress]) -> dict[Frontend, Entry]:
    """All that one service asks for. `node_addresses`: where node ports answer."""
    entries: dict[Frontend, Entry] = {}
    for port in view.service.ports:
        for size in _SIZES if port.protocol in CARRIED else ():
            # Of a service's own ports, the first that names an address and number has it.
            for frontend, entry in _entries(view, port, size, node_addresses).items():
                entries.setdefault(frontend, entry)
    return entries


def _entries(
    view: ServiceView, port: PortMapping, size: int, node_addresses: Sequence[PackedAddress]
) -> dict[Frontend, Entry]:
    service = view.service
    internal, external = _frontends(service, port, size, node_addresses)
    if not internal and not external:
        return {}
    members = _members(view, port, size)
    inside, outside, cluster = _sides(members)
    udp = port.protocol is Protocol.UDP
    of_route = udp and service.origin is Origin.GATEWAY_LISTENER
    # Where nobody has an endpoint, that is refused, whatever the policy.
    elsewhere = udp and bool(cluster.targets)
    inner = Entry(
        service=service.path,
        port=f"{service.path}:{port.port}/{port.protocol.name}/{size}",
        inside=inside,
        keeps=frozenset(t for t, each in members if t is not None and (each.serving or not udp)),
        affinity_seconds=service.affinity_seconds,
        least=service.algorithm is Algorithm.LEAST_CONNECTIONS,
        silent=of_route or (elsewhere and service.internal_traffic_local),
    )
    outer = replace(
        inner,
        inside=cluster,
        outside=outside if outside != cluster else None,
        silent=of_route or (elsewhere and service.external_traffic_local),
    )
    ranges = _source_ranges(service, size)
    # An address that is both is a cluster IP.
    return {each: replace(outer, ranges=ranges.get(each.address)) for each in external} | dict.fromkeys(
        internal, inner
    )


def _frontends(
    service: Service, port: PortMapping, size: int, node_addresses: Sequence[PackedAddress]
) -> tuple[list[Frontend], list[Frontend]]:
    """At cluster IPs, and at addresses for outsiders, node ports among them."""

    def at(addresses: Iterable[PackedAddress], number: int) -> list[Frontend]:
        return [Frontend(readable(each), number, port.protocol) for each in addresses if len(each) == size]

    external = at((*service.external_ips, *service.load_balancer_ips), port.port)
    on_node = at(node_addresses, port.node_port) if port.node_port else []
    return at(service.cluster_ips, port.port), [*external, *on_node]


def _members(view: ServiceView, port: PortMapping, size: int) -> list[tuple[Target | None, Endpoint]]:
    """Every endpoint that has this port and an address of this family, and every share to refuse."""
    found: list[tuple[Target | None, Endpoint]] = []
    for endpoint in view.endpoints:
        if endpoint.reject:
            found.append((None, endpoint))
        elif number := endpoint.port_for(port):
            own = [address for address in endpoint.addresses if len(address) == size]
            found += [(Target(readable(address), number), endpoint) for address in own[:1]]
    present = {endpoint.group for _, endpoint in found if endpoint.scopes}
    return found + [(None, endpoint) for endpoint in without_this_family(view, present)]


def _sides(members: Sequence[tuple[Target | None, Endpoint]]) -> tuple[Side, Side, Side]:
    """For the cluster IP, for clients outside, and for those of the cluster at addresses for outsiders."""
    inside = _side(members, Scope.INTERNAL)
    if all(each.scopes in (_ALL, Scope.NONE) for _, each in members):
        return inside, inside, inside
    return inside, _side(members, Scope.EXTERNAL), _side(members, Scope.CLUSTER)


def _side(members: Iterable[tuple[Target | None, Endpoint]], scope: Scope) -> Side:
    flag = scope.value
    return side(
        [Member(target, each.group, each.weight) for target, each in members if each.scopes.value & flag]
    )


def _source_ranges(service: Service, size: int) -> dict[str, tuple[Network, ...]]:
    """By guarded address. A filter with ranges of the other family only says nothing of this one."""
    wanted: dict[str, tuple[Network, ...]] = {}
    for source_filter in service.source_filters:
        ranges = tuple(
            ip_network((bytes(address), length), strict=False)
            for address, length in source_filter.ranges
            if len(address) == size
        )
        for target in source_filter.targets if ranges or not source_filter.ranges else ():
            if len(target) == size:
                wanted[readable(target)] = wanted.get(readable(target), ()) + ranges
    return wanted


def readable(address: PackedAddress) -> str:
    """As a socket gives a peer's."""
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)
