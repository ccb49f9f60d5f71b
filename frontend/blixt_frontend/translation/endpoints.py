"""Endpoint slices to endpoints: one for each pod, as far as what its slices tell goes into one.

Families and ports are independent: whether an endpoint is used is decided among those of its family and port
(KEP-752, KEP-563). What comes out alike for one pod is merged into one endpoint with both addresses and all
ports; what doesn't stays apart, under keys of its own.

An endpoint that stands in several slices, as while the controller moves it, counts once: as ready if any
slice says so, else as the one that still serves, else as in the first slice by name. (Slices can't be
compared by age, and a pod that is used a moment too long does less harm than one that is missing.)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
from xxhash import xxh64_hexdigest

from blixt_frontend.items import ItemKind
from blixt_frontend.objects import Endpoint, EndpointSlice
from blixt_frontend.translation.addresses import FAMILY_OF_SLICE, Family, canonical
from blixt_frontend.translation.topology import Policies, Reach, Standing, ZoneOf, reaches


class PortQuery(NamedTuple):
    """A service port to look up in slices, and the name its number goes by in PortOverrides ("": none)."""

    slice_name: str
    protocol: str
    label: str


#: (label, number) in the order of the service's ports.
Ports = tuple[tuple[str, int], ...]


#: The kind of its item, and its key.
Identity = tuple[ItemKind, str]


# Structs, as there is one for each endpoint in the cluster: see Item.
class State(msgspec.Struct, frozen=True, gc=False):
    """What endpoints must share to become one."""

    hostname: str
    node: str
    zone: str
    terminating: bool
    serving: bool
    reach: Reach


class ServiceEndpoint(msgspec.Struct, frozen=True, gc=False):
    """One endpoint of the model, before it is encoded. At least one of the addresses is there."""

    kind: ItemKind
    key: str
    v4: str
    v6: str
    ports: Ports
    state: State


def resolve(
    queries: Sequence[PortQuery],
    slices: Iterable[EndpointSlice],
    policies: Policies,
    zone_of: ZoneOf,
    problems: list[str],
) -> list[ServiceEndpoint]:
    """The endpoints of one service that are used somewhere, or may still have connections.

    One that is neither ready nor terminating is not gone: it keeps its connections, and gets no new ones.
    Slices whose ports lack a number, and endpoints whose address is none of their family, are left out and
    told of in `problems`.
    """
    decided = [
        (family, _decide(_candidates(numbered, family, problems), policies, zone_of))
        for family, members in _by_family(slices).items()
        for numbered in _port_classes(queries, members, problems)
    ]
    # Nearly always all endpoints are of one family, and have all ports: nothing is to be merged then.
    return _with_unique_keys(_apart(queries, *decided[0]) if len(decided) == 1 else _merged(queries, decided))


#: An endpoint, its address, and its ports' numbers by their index in the queries.
Candidate = tuple[Endpoint, str, tuple[tuple[int, int], ...]]


#: A candidate as what it is told of, with its address and ports.
Decided = tuple[Identity, State, str, tuple[tuple[int, int], ...]]


def _decide(candidates: list[Candidate], policies: Policies, zone_of: ZoneOf) -> list[Decided]:
    """These are decided on together."""
    standings = [_standing(endpoint) for endpoint, _, _ in candidates]
    return [
        (_identity(endpoint, address), _state(endpoint, reach), address, numbers)
        for (endpoint, address, numbers), reach in zip(
            candidates, reaches(standings, policies, zone_of), strict=True
        )
    ]


#: What there is of each endpoint: more than one where its parts differ.
Parts = dict[Identity, list[ServiceEndpoint]]


def _apart(queries: Sequence[PortQuery], family: Family, decided: list[Decided]) -> Parts:
    """Each of them as it is. None is there twice."""
    parts: Parts = {}
    labelled: dict[tuple[tuple[int, int], ...], Ports] = {}
    for identity, state, address, numbers in decided:
        if (ports := labelled.get(numbers)) is None:
            ports = labelled[numbers] = _labelled(queries, numbers)
        v4, v6 = (address, "") if family is Family.V4 else ("", address)
        parts.setdefault(identity, []).append(ServiceEndpoint(*identity, v4, v6, ports, state))
    return parts


def _merged(queries: Sequence[PortQuery], decided: list[tuple[Family, list[Decided]]]) -> Parts:
    """What comes out alike for one identity goes together."""
    found: dict[tuple[Identity, State], Places] = {}
    for family, members in decided:
        for identity, state, address, numbers in members:
            places = found.setdefault((identity, state), {})
            _place(places.setdefault((family, address), []), numbers)
    parts: defaultdict[Identity, list[ServiceEndpoint]] = defaultdict(list)
    for (identity, state), places in found.items():
        by_ports: defaultdict[tuple[tuple[int, int], ...], dict[Family, list[str]]] = defaultdict(dict)
        for (family, address), known in places.items():
            for numbered in known:
                by_ports[tuple(sorted(numbered.items()))].setdefault(family, []).append(address)
        for numbers, families in by_ports.items():
            ports = _labelled(queries, numbers)
            for v4, v6 in _pairs(families.get(Family.V4, []), families.get(Family.V6, [])):
                parts[identity].append(ServiceEndpoint(*identity, v4, v6, ports, state))
    return parts


def _labelled(queries: Sequence[PortQuery], numbers: tuple[tuple[int, int], ...]) -> Ports:
    return tuple((queries[index].label, number) for index, number in numbers if queries[index].label)


#: For each address, the numbers of its ports by their index in the queries; several where they contradict.
Places = dict[tuple[Family, str], list[dict[int, int]]]


def _place(known: list[dict[int, int]], numbers: tuple[tuple[int, int], ...]) -> None:
    for candidate in known:
        if all(candidate.get(index, number) == number for index, number in numbers):
            candidate.update(numbers)
            return
    known.append(dict(numbers))


def _by_family(slices: Iterable[EndpointSlice]) -> dict[Family, list[EndpointSlice]]:
    families: dict[Family, list[EndpointSlice]] = {}
    for piece in sorted(slices, key=_name):
        if (family := FAMILY_OF_SLICE.get(piece.address_type)) is not None:
            families.setdefault(family, []).append(piece)
    return dict(sorted(families.items()))


def _name(piece: EndpointSlice) -> str:
    return piece.metadata.name


#: A slice with the numbers that it has for ports, by their index in the queries.
Numbered = tuple[EndpointSlice, tuple[tuple[int, int], ...]]


def _port_classes(
    queries: Sequence[PortQuery], slices: list[EndpointSlice], problems: list[str]
) -> list[list[Numbered]]:
    """Ports that stand in the same slices have the same endpoints, and are decided on together.

    Not so where slices differ in a number: an address may be two endpoints of one port and one of another.
    """
    numbers = [_numbers(queries, piece, problems) for piece in slices]
    members: defaultdict[int, list[int]] = defaultdict(list)
    for position, known in enumerate(numbers):
        for index in known:
            members[index].append(position)
    together: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
    for index in sorted(members):
        together[tuple(members[index])].append(index)
    classes: list[list[Numbered]] = []
    for positions, indexes in together.items():
        alike = len({tuple(numbers[p][index] for index in indexes) for p in positions}) == 1
        for group in (indexes,) if alike else ([index] for index in indexes):
            classes.append(
                [(slices[p], tuple((index, numbers[p][index]) for index in group)) for p in positions]
            )
    return classes


def _numbers(queries: Sequence[PortQuery], piece: EndpointSlice, problems: list[str]) -> dict[int, int]:
    by_name = {}
    for port in piece.ports:
        if port.port:
            by_name[port.name or "", port.protocol or "TCP"] = port.port
        else:
            problems.append(
                f"EndpointSlice {piece.metadata.name}: port {port.name!r} has no number and is left out"
            )
    return {
        index: number
        for index, query in enumerate(queries)
        if (number := by_name.get((query.slice_name, query.protocol)))
    }


def _candidates(numbered: list[Numbered], family: Family, problems: list[str]) -> list[Candidate]:
    """Each address and ports once."""
    chosen: dict[tuple[str, tuple[tuple[int, int], ...]], Candidate] = {}
    for piece, numbers in numbered:
        for endpoint in piece.endpoints:
            # Kubernetes leaves further addresses undefined.
            address = canonical(endpoint.addresses[0], family) if endpoint.addresses else None
            if address is None:
                problems.append(
                    f"EndpointSlice {piece.metadata.name}: endpoint left out, "
                    f"{list(endpoint.addresses)} is no address of {piece.address_type}"
                )
                continue
            rival = chosen.get((address, numbers))
            if rival is None or _usefulness(endpoint) > _usefulness(rival[0]):
                chosen[address, numbers] = endpoint, address, numbers
    return list(chosen.values())


def _usefulness(endpoint: Endpoint) -> int:
    if endpoint.ready:
        return 3
    return 1 + endpoint.serving if endpoint.terminating else 0


def _standing(endpoint: Endpoint) -> Standing:
    hints, ready = endpoint.hints, endpoint.ready
    return Standing(
        endpoint.node_name,
        ready,
        not ready and endpoint.serving and endpoint.terminating,
        hints.nodes if hints.for_nodes else frozenset(),
        hints.zones if hints.for_zones else frozenset(),
    )


def _state(endpoint: Endpoint, reach: Reach) -> State:
    ready = endpoint.ready
    return State(
        endpoint.hostname,
        endpoint.node_name,
        endpoint.zone,
        # A pod that publishes itself whatever its state arrives as ready and terminating: it is ready.
        not ready and endpoint.terminating,
        ready or endpoint.serving,
        reach,
    )


def _identity(endpoint: Endpoint, address: str) -> Identity:
    reference = endpoint.target_ref
    if reference and reference.kind == "Pod" and reference.name and "/" not in reference.name:
        return ItemKind.POD_ENDPOINT, reference.name
    return ItemKind.ENDPOINT, xxh64_hexdigest(address.encode())


def _pairs(v4: list[str], v6: list[str]) -> list[tuple[str, str]]:
    """One address of each family goes together; where there are several, nobody knows which belong."""
    if len(v4) <= 1 and len(v6) <= 1:
        return [(v4[0] if v4 else "", v6[0] if v6 else "")]
    return [(address, "") for address in v4] + [("", address) for address in v6]


def _with_unique_keys(parts: Parts) -> list[ServiceEndpoint]:
    """The most useful part of each keeps the plain key; the others' tell them by addresses and ports."""
    result, taken = [], set[str]()
    for pieces in parts.values():
        if len(pieces) > 1:
            pieces.sort(key=_precedence)
        for piece in pieces:
            if piece.key in taken:
                digest = xxh64_hexdigest(repr((piece.v4, piece.v6, piece.ports)).encode())
                piece = ServiceEndpoint(
                    piece.kind, f"{piece.key}~{digest}", piece.v4, piece.v6, piece.ports, piece.state
                )
            taken.add(piece.key)
            result.append(piece)
    return result


def _precedence(piece: ServiceEndpoint) -> tuple[bool, bool, bool, str, str, Ports]:
    return piece.state.terminating, not piece.state.serving, not piece.v4, piece.v4, piece.v6, piece.ports
