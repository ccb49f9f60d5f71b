"""From the service model to what a family's maps should hold, port by port. Pure; no ids are given out here.

A `PortPlan` speaks of endpoints by identity (address and port joined, network byte order); the reconciler
turns identities into indexes.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from blixt_backend.endpoints import alike
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
from blixt_backend.planes.ebpf.alias import alias_table, scaled
from blixt_backend.planes.ebpf.layout import (
    ALWAYS,
    ENDPOINT_REJECT,
    TICK_SHIFT,
    EndpointFlag,
    Layout,
    ServiceFlag,
)
from blixt_backend.planes.shares import weights, without_this_family

#: Address and port of an endpoint, joined; None stands for the share that is refused.
Identity = bytes
_INTERNAL, _EXTERNAL, _CLUSTER = Scope.INTERNAL.value, Scope.EXTERNAL.value, Scope.CLUSTER.value
_LIVE, _LOCAL, _DRAINING = EndpointFlag.LIVE.value, EndpointFlag.LOCAL.value, EndpointFlag.DRAINING.value
_SILENT = EndpointFlag.SILENT.value
#: (identity, scopes, an endpoint that is like it but for key, addresses and time)
Member = tuple[Identity | None, int, Endpoint]
_COUNTED, _TUNNELLED = EndpointFlag.COUNTED.value, EndpointFlag.TUNNELLED.value
_FLAG_OF_ALGORITHM = {
    Algorithm.WEIGHTED_RANDOM: 0,
    Algorithm.MAGLEV: ServiceFlag.MAGLEV.value,
    Algorithm.LEAST_CONNECTIONS: ServiceFlag.LEAST_CONNECTIONS.value,
}


_NAMES = {int(protocol): protocol.name for protocol in Protocol}


class PortKey(NamedTuple):
    """One port of one service: what keeps a service id."""

    path: str
    port: str  # its name, else its number
    protocol: int

    def __str__(self) -> str:
        return f"{self.path}:{self.port}/{_NAMES[self.protocol]}"


class SlotSet(NamedTuple):
    """Who gets new connections; no weights: all the same."""

    choices: tuple[Identity | None, ...]
    weights: tuple[int, ...] = ()


class FrontendPlan(NamedTuple):
    """A row of `services`. Sets are positions in PortPlan.sets; so is `ranges`
    in PortPlan.range_sets, -1: none."""

    key: bytes
    flags: int
    inside: int
    outside: int
    ranges: int


@dataclass(frozen=True, slots=True)
class PortPlan:
    """What one family should hold of one port. `range_sets`: (prefix length,
    network) each, without the service."""

    key: PortKey
    endpoints: Mapping[Identity, int]
    sets: tuple[SlotSet, ...]
    frontends: tuple[FrontendPlan, ...]
    affinity_ticks: int
    range_sets: tuple[tuple[tuple[int, bytes], ...], ...]
    algorithm: Algorithm = Algorithm.WEIGHTED_RANDOM
    #: Addresses that several endpoints have: a tunnel, which knows no port, can't lead to one of them.
    ambiguous: frozenset[bytes] = frozenset()


def compile_view(
    view: ServiceView, layout: Layout, node_addresses: Sequence[PackedAddress], *, by_tunnel: bool = False
) -> list[PortPlan]:
    """The plans of a service's ports that have a frontend of this family.

    `by_tunnel`: what comes in from the network goes to endpoints of other nodes in a tunnel.
    """
    ports = view.service.ports
    plans = (_compile_port(view, port, layout, node_addresses, by_tunnel) for port in ports)
    return [plan for plan in plans if plan is not None]


def algorithm_of(service_flags: int) -> Algorithm:
    """What a row of `services` says."""
    asked = (name for name, flag in _FLAG_OF_ALGORITHM.items() if flag & service_flags)
    return next(asked, Algorithm.WEIGHTED_RANDOM)


def render_weighed_slots(slots: SlotSet, index_of: Mapping[Identity, int], layout: Layout) -> bytes:
    """The same for a choice by least connections: behind each column the weights of the two that it names."""
    indexes = [ENDPOINT_REJECT if choice is None else index_of[choice] for choice in slots.choices]
    weights = scaled(slots.weights) if slots.weights else (1,) * len(indexes)
    column, behind = layout.slot.pack, layout.slot_weights.pack
    return b"".join(
        column(threshold, indexes[own], indexes[alias]) + behind(weights[own], weights[alias])
        for own, (threshold, alias) in enumerate(alias_table(weights))
    )


def render_slots(slots: SlotSet, index_of: Mapping[Identity, int], layout: Layout) -> bytes:
    """The alias table of a set, joined rows of struct slot."""
    indexes = [ENDPOINT_REJECT if choice is None else index_of[choice] for choice in slots.choices]
    if not slots.weights:
        rows = array("I", [ALWAYS]) * (3 * len(indexes))
        rows[1::3] = rows[2::3] = array("I", indexes)
        return rows.tobytes()
    pack = layout.slot.pack
    table = alias_table(slots.weights)
    return b"".join(
        [pack(threshold, indexes[own], indexes[alias]) for own, (threshold, alias) in enumerate(table)]
    )


def _compile_port(
    view: ServiceView,
    port: PortMapping,
    layout: Layout,
    node_addresses: Sequence[PackedAddress],
    by_tunnel: bool,
) -> PortPlan | None:
    service = view.service
    addresses = _frontend_addresses(service, port, layout, node_addresses)
    if not addresses:
        return None
    members = _members(view.endpoints, port, layout.size)
    members += _shares_without_this_family(view, members)
    internal, external, cluster = _slot_sets(members)
    sets = list(dict.fromkeys((internal, external, cluster)))
    ranges_of, range_sets = _source_ranges(service, layout)
    base = _FLAG_OF_ALGORITHM[service.algorithm]
    if service.origin is Origin.GATEWAY_LISTENER and port.protocol == Protocol.UDP:
        base |= ServiceFlag.DROP_UDP_REJECTS.value
    internal_flags, external_flags = base, base
    # Nobody has an endpoint: that is refused, whatever the policy.
    somewhere = bool(cluster.choices)
    if service.internal_traffic_local and somewhere and not internal.choices:
        internal_flags |= (ServiceFlag.DROP_INSIDE | ServiceFlag.DROP_OUTSIDE).value
    if service.external_traffic_local and somewhere and not external.choices:
        external_flags |= ServiceFlag.DROP_OUTSIDE.value
    inner, outer, whole = sets.index(internal), sets.index(external), sets.index(cluster)
    frontends = []
    for (address, number), is_external in addresses.items():
        key = layout.frontend.pack(address, number.to_bytes(2, "big"), port.protocol)
        ranges = ranges_of.get(address, -1)
        guard = ServiceFlag.SOURCE_RANGES.value if ranges >= 0 else 0
        if is_external:
            frontends.append(FrontendPlan(key, external_flags | guard, whole, outer, ranges))
        else:
            frontends.append(FrontendPlan(key, internal_flags | guard, inner, inner, ranges))
    endpoints = _endpoint_flags(members, sets, service.algorithm)
    ambiguous = _ambiguous(endpoints, layout.size)
    if by_tunnel and port.protocol is not Protocol.SCTP:  # which isn't looked for in a tunnel
        endpoints = _with_tunnels(endpoints, ambiguous, layout.size)
    return PortPlan(
        key=PortKey(service.path, port.name or str(port.port), int(port.protocol)),
        endpoints=endpoints,
        sets=tuple(sets),
        frontends=tuple(frontends),
        affinity_ticks=math.ceil(service.affinity_seconds * 1_000_000_000 / (1 << TICK_SHIFT)),
        range_sets=range_sets,
        algorithm=service.algorithm,
        ambiguous=ambiguous,
    )


def _frontend_addresses(
    service: Service, port: PortMapping, layout: Layout, node_addresses: Sequence[PackedAddress]
) -> dict[tuple[PackedAddress, int], bool]:
    """(address, port in host order) -> whether it is of an external kind; the first mention counts."""
    size = layout.size
    found: dict[tuple[PackedAddress, int], bool] = {}
    for address in service.cluster_ips:
        if len(address) == size:
            found[address, port.port] = False
    for address in (*service.external_ips, *service.load_balancer_ips):
        if len(address) == size:
            found.setdefault((address, port.port), True)
    if port.node_port:
        for address in node_addresses:
            if len(address) == size:
                found.setdefault((address, port.node_port), True)
    return found


def _members(endpoints: Sequence[Endpoint], port: PortMapping, size: int) -> list[Member]:
    """Every endpoint that has this port and an address of this family."""
    # Most endpoints of a service have the same overrides.
    tails: dict[tuple[tuple[str, int], ...], bytes] = {}
    found: list[Member] = []
    for addresses, endpoint in alike(endpoints):
        scopes = int(endpoint.scopes)  # a flag's `value` takes four times as long
        if endpoint.reject:
            found.append((None, scopes, endpoint))
            continue
        tail = tails.get(endpoint.port_overrides)
        if tail is None:
            number = endpoint.port_for(port)
            tail = tails[endpoint.port_overrides] = number.to_bytes(2, "big") if number else b""
        if not tail:
            continue
        for address in addresses:
            if len(address) == size:
                found.append((address + tail, scopes, endpoint))
                break
    return found


def _shares_without_this_family(view: ServiceView, members: Sequence[Member]) -> list[Member]:
    if view.service.origin is not Origin.GATEWAY_LISTENER:
        return []
    present = {endpoint.group for _, scopes, endpoint in members if scopes}
    return [(None, int(each.scopes), each) for each in without_this_family(view, present)]


def _slot_sets(members: Sequence[Member]) -> tuple[SlotSet, SlotSet, SlotSet]:
    """The sets of scope INTERNAL, EXTERNAL and CLUSTER."""
    every = _INTERNAL | _EXTERNAL | _CLUSTER
    if all(scopes & every == every for _, scopes, _ in members):
        same = _slot_set(members)
        return same, same, same
    internal, external, cluster = (
        _slot_set([member for member in members if member[1] & scope])
        for scope in (_INTERNAL, _EXTERNAL, _CLUSTER)
    )
    return internal, external, cluster


def _slot_set(members: Sequence[Member]) -> SlotSet:
    """Of one weight each, as is nearly always so, there is nothing to compute."""
    if not members:
        return SlotSet(())
    group, weight = members[0][2].group, members[0][2].weight
    if all(member[2].group == group and member[2].weight == weight for member in members):
        choices = tuple([member[0] for member in members]) if weight else ()
        if len(set(choices)) == len(choices):
            return SlotSet(choices)
    shares = weights([(identity, endpoint.group, endpoint.weight) for identity, _, endpoint in members])
    reduced = tuple(shares.values())
    return SlotSet(tuple(shares), () if set(reduced) <= {1} else reduced)


def _endpoint_flags(
    members: Sequence[Member], sets: Sequence[SlotSet], algorithm: Algorithm
) -> dict[Identity, int]:
    """Every real endpoint with its flags; one that no set chooses keeps its connections only, and if it
    answers nobody, its UDP flows choose another."""
    chosen = set().union(*(slots.choices for slots in sets))
    flags: dict[Identity, int] = {}
    base = _LIVE | (_COUNTED if algorithm is Algorithm.LEAST_CONNECTIONS else 0)
    for identity, _, endpoint in members:
        if identity is not None:
            own = base | (_LOCAL if endpoint.local else 0)
            if identity not in chosen:
                own |= _DRAINING if endpoint.serving else _DRAINING | _SILENT
            flags[identity] = flags.get(identity, 0) | own
    return flags


def _ambiguous(endpoints: Iterable[Identity], size: int) -> frozenset[bytes]:
    """As one pod is that two backends of a route have, by two ports."""
    addresses = [identity[:size] for identity in endpoints]
    if len(set(addresses)) == len(addresses):
        return frozenset()
    counts = Counter(addresses)
    return frozenset(address for address, count in counts.items() if count > 1)


def _with_tunnels(
    endpoints: Mapping[Identity, int], ambiguous: frozenset[bytes], size: int
) -> dict[Identity, int]:
    """Endpoints of other nodes are reached by a tunnel, if it can lead to them."""
    return {
        identity: flags if flags & _LOCAL or identity[:size] in ambiguous else flags | _TUNNELLED
        for identity, flags in endpoints.items()
    }


def _source_ranges(
    service: Service, layout: Layout
) -> tuple[dict[PackedAddress, int], tuple[tuple[tuple[int, bytes], ...], ...]]:
    """Guarded address -> position of its set of ranges.

    A filter with ranges of the other family only says nothing of this one; without any, nobody gets in.
    """
    wanted: dict[PackedAddress, set[tuple[int, bytes]]] = {}
    for source_filter in service.source_filters:
        ranges = {
            (length, _network(address, length))
            for address, length in source_filter.ranges
            if len(address) == layout.size
        }
        for target in source_filter.targets if ranges or not source_filter.ranges else ():
            if len(target) == layout.size:
                wanted.setdefault(target, set()).update(ranges)
    sets: dict[tuple[tuple[int, bytes], ...], int] = {}
    positions = {target: sets.setdefault(tuple(sorted(found)), len(sets)) for target, found in wanted.items()}
    return positions, tuple(sets)


def _network(address: bytes, length: int) -> bytes:
    bits = len(address) * 8
    mask = ((1 << length) - 1) << (bits - length)
    return (int.from_bytes(address, "big") & mask).to_bytes(len(address), "big")
