"""From the service model to what a family's table should hold, frontend by frontend. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import collapse_addresses, ip_network
from typing import Any, NamedTuple

from blixt_backend.model import (
    Endpoint,
    Origin,
    PackedAddress,
    PortMapping,
    Protocol,
    Scope,
    Service,
    ServiceView,
)
from blixt_backend.planes.nftables.choice import DROP, MOST_SECONDS, MOST_SLOTS, REFUSE, Choice
from blixt_backend.planes.nftables.family import Family
from blixt_backend.planes.nftables.slots import Slots, Target, apportion
from blixt_backend.planes.shares import weights, without_this_family

_PROTOCOLS = {Protocol.TCP: "tcp", Protocol.UDP: "udp", Protocol.SCTP: "sctp"}
_INTERNAL, _EXTERNAL, _CLUSTER = Scope.INTERNAL.value, Scope.EXTERNAL.value, Scope.CLUSTER.value
_ALL = _INTERNAL | _EXTERNAL | _CLUSTER
#: (endpoint's target, None for a share to refuse; scopes; endpoint)
_Member = tuple[Target | None, int, Endpoint]


class Frontend(NamedTuple):
    """Where clients connect to; the port in host order."""

    address: str
    protocol: str
    port: int


class Side(NamedTuple):
    """What new connections of one kind of client get."""

    choice: Choice
    slots: Slots = ()


class Entry(NamedTuple):
    """One frontend. `outside`: for clients in the network, where they get something else than others.

    `ranges`: the only sources in the network that are let in; None: all. `keeps`: the endpoints whose flows
    may go on: all that are there, of UDP only those that serve. `title` is for whoever reads the tables.
    """

    title: str
    inside: Side
    outside: Side | None = None
    ranges: tuple[str, ...] | None = None
    keeps: frozenset[Target] = frozenset()


class Plan(NamedTuple):
    """All that one service has in one family."""

    entries: Mapping[Frontend, Entry] = {}
    cluster_ips: frozenset[str] = frozenset()
    #: Addresses of its endpoints on this node.
    local: frozenset[str] = frozenset()


def compile_view(view: ServiceView, family: Family, node_addresses: Sequence[PackedAddress]) -> Plan:
    """`node_addresses`: where node ports answer, of both families."""
    entries: dict[Frontend, Entry] = {}
    ranges = _source_ranges(view.service, family)
    for port in view.service.ports:
        # Of a service's own ports, the first that names an address and number has it.
        for frontend, entry in _entries(view, port, family, node_addresses, ranges).items():
            entries.setdefault(frontend, entry)
    size = family.size
    local = {
        family.text(address)
        for endpoint in (view.endpoints if entries else ())
        if endpoint.local
        for address in endpoint.addresses
        if len(address) == size
    }
    ips = {family.text(address) for address in view.service.cluster_ips if len(address) == size}
    return Plan(entries, frozenset(ips), frozenset(local))


def _entries(
    view: ServiceView,
    port: PortMapping,
    family: Family,
    node_addresses: Sequence[PackedAddress],
    ranges: Mapping[str, tuple[str, ...]],
) -> dict[Frontend, Entry]:
    service = view.service
    frontends = _frontends(service, port, family, node_addresses)
    if not frontends:
        return {}
    members = _members(view.endpoints, port, family)
    members += _shares_without_this_family(view, members)
    drops = service.origin is Origin.GATEWAY_LISTENER and port.protocol is Protocol.UDP
    seconds = min(service.affinity_seconds, MOST_SECONDS)
    internal, external, cluster = _sides(members, seconds, drops)
    # Nobody has an endpoint: that is refused, whatever the policy.
    somewhere = bool(cluster.slots)
    if somewhere and service.internal_traffic_local and not internal.slots:
        internal = Side(DROP)
    if somewhere and service.external_traffic_local and not external.slots:
        external = Side(DROP)
    udp = port.protocol is Protocol.UDP
    keeps = frozenset(
        target for target, _, endpoint in members if target is not None and (endpoint.serving or not udp)
    )
    title = f"{service.path}:{port.name or port.port}"
    inner = Entry(title, internal, keeps=keeps)
    outer = Entry(title, cluster, external if external != cluster else None, keeps=keeps)
    return {
        frontend: outer._replace(ranges=ranges.get(frontend.address)) if is_external else inner
        for frontend, is_external in frontends.items()
    }


def _frontends(
    service: Service, port: PortMapping, family: Family, node_addresses: Sequence[PackedAddress]
) -> dict[Frontend, bool]:
    """Each with whether it is of an external kind; the first mention counts."""
    protocol = _PROTOCOLS[port.protocol]
    found: dict[Frontend, bool] = {}

    def add(addresses: Sequence[PackedAddress], number: int, is_external: bool) -> None:
        for address in addresses:
            if len(address) == family.size:
                found.setdefault(Frontend(family.text(address), protocol, number), is_external)

    add(service.cluster_ips, port.port, False)
    add(service.external_ips, port.port, True)
    add(service.load_balancer_ips, port.port, True)
    if port.node_port:
        add(node_addresses, port.node_port, True)
    return found


def _members(endpoints: Sequence[Endpoint], port: PortMapping, family: Family) -> list[_Member]:
    """Every endpoint that has this port and an address of this family, and every share to refuse."""
    size, text = family.size, family.text
    usual = port.target_port or port.port
    found: list[_Member] = []
    for endpoint in endpoints:
        if endpoint.reject:
            found.append((None, endpoint.scopes.value, endpoint))
            continue
        number = endpoint.port_for(port) if endpoint.port_overrides else usual
        if number:
            for address in endpoint.addresses:
                if len(address) == size:
                    found.append(((text(address), number), endpoint.scopes.value, endpoint))
                    break
    return found


def _shares_without_this_family(view: ServiceView, members: Sequence[_Member]) -> list[_Member]:
    present = {endpoint.group for _, scopes, endpoint in members if scopes}
    return [(None, each.scopes.value, each) for each in without_this_family(view, present)]


def _sides(members: Sequence[_Member], seconds: int, drops: bool) -> tuple[Side, Side, Side]:
    """What internal, external and all clients get."""
    if all(scopes == _ALL for _, scopes, _ in members):
        side = _side(members, seconds, drops)
        return side, side, side
    internal, external, cluster = (
        _side([member for member in members if member[1] & scope], seconds, drops)
        for scope in (_INTERNAL, _EXTERNAL, _CLUSTER)
    )
    return internal, external, cluster


def _side(members: Sequence[_Member], seconds: int, drops: bool) -> Side:
    slots = _slots(members)
    return Side(Choice(len(slots), seconds, drops), slots) if slots else Side(REFUSE)


def _slots(members: Sequence[_Member]) -> Slots:
    """Of one weight each, as is nearly always so, there is nothing to compute."""
    if len({(endpoint.group, endpoint.weight) for _, _, endpoint in members}) <= 1:
        if not members or not members[0][2].weight:
            return ()
        return tuple(dict.fromkeys(target for target, _, _ in members))[:MOST_SLOTS]
    shares = weights([(target, endpoint.group, endpoint.weight) for target, _, endpoint in members])
    return tuple(apportion(dict(list(shares.items())[:MOST_SLOTS])).elements())


def _source_ranges(service: Service, family: Family) -> dict[str, tuple[str, ...]]:
    """By guarded address, networks that don't overlap.

    A filter with ranges of the other family only says nothing of this one; without any, nobody gets in.
    """
    wanted: dict[str, list[Any]] = {}
    for source_filter in service.source_filters:
        ranges = [
            ip_network((bytes(address), length), strict=False)
            for address, length in source_filter.ranges
            if len(address) == family.size
        ]
        for target in source_filter.targets if ranges or not source_filter.ranges else ():
            if len(target) == family.size:
                wanted.setdefault(family.text(target), []).extend(ranges)
    return {
        target: tuple(str(network) for network in collapse_addresses(found))
        for target, found in wanted.items()
    }
