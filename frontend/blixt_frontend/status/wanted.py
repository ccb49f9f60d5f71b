"""What the status of each object should say, from translation's results and what nodes have applied."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from blixt_frontend.objects import GatewayClass, ParentRef, RouteGroupKind
from blixt_frontend.status.bundle import Bundle
from blixt_frontend.translation import classes
from blixt_frontend.translation.results import (
    Condition,
    GatewayResult,
    ListenerResult,
    ParentResult,
)

#: What the conformance tests call what we do, sorted by name. Not among them: GatewayInfrastructure, since no
#: objects are made for a Gateway that its labels could be found on.
FEATURES = (
    "Gateway",
    "GatewayPort8080",
    "GatewayStaticAddresses",
    "ReferenceGrant",
    "TCPRoute",
    "UDPRoute",
)
#: The same where there are address pools, which an empty address is filled from.
FEATURES_WITH_POOLS = tuple(sorted((*FEATURES, "GatewayAddressEmpty")))


class Reach(Enum):
    """Which of the nodes that watch have applied a Gateway's last change."""

    ALL = "all"
    SOME = "some"
    NO_NODES = "no nodes"


@dataclass(frozen=True, slots=True)
class ListenerWanted:
    name: str
    supported_kinds: tuple[RouteGroupKind, ...]
    attached_routes: int
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class GatewayWanted:
    generation: int
    conditions: tuple[Condition, ...]
    #: IP addresses.
    addresses: tuple[str, ...]
    listeners: tuple[ListenerWanted, ...]
    #: Nodes are still to apply it: this stands in for every Programmed that is true, but for those that
    #: have been true already at this generation and with these addresses.
    waiting: Condition | None = None


@dataclass(frozen=True, slots=True)
class ParentWanted:
    parent: ParentRef
    generation: int
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class RouteWanted:
    """Our entries of a route's parents; none: entries that are there from before have to go."""

    controller: str
    parents: tuple[ParentWanted, ...] = ()


@dataclass(frozen=True, slots=True)
class ClassWanted:
    generation: int
    conditions: tuple[Condition, ...]
    #: Sorted; None where the cluster's definition of a GatewayClass has them in another form.
    features: tuple[str, ...] | None
    #: Gateways use it, so that it has to outlive them.
    used: bool


Wanted = GatewayWanted | RouteWanted | ClassWanted


def gateway_wanted(result: GatewayResult, reach: Reach) -> GatewayWanted:
    return GatewayWanted(
        result.observed_generation,
        result.conditions,
        result.addresses.v4 + result.addresses.v6,
        tuple(map(_listener, result.listeners)),
        _WAITING[reach],
    )


_WAITING = {
    Reach.ALL: None,
    # Not how many, and not which: that would be a write for each node of a large cluster.
    Reach.SOME: Condition("Programmed", False, "Pending", "not every node has applied it yet"),
    Reach.NO_NODES: Condition("Programmed", False, "NoResources", "no node watches any frontend"),
}


def _listener(result: ListenerResult) -> ListenerWanted:
    return ListenerWanted(
        result.listener.name, result.supported_kinds, result.attached_routes, result.conditions
    )


def route_wanted(controller: str, results: Iterable[Sequence[ParentResult]]) -> RouteWanted:
    """`results`: what each of our Gateways that the route names says of it."""
    parents: dict[ParentRef, ParentWanted] = {}
    for result in (result for of_gateway in results for result in of_gateway):
        parents.setdefault(
            result.parent, ParentWanted(result.parent, result.observed_generation, result.conditions)
        )
    return RouteWanted(controller, tuple(parents.values()))


def class_wanted(
    gateway_class: GatewayClass, bundle: Bundle, used: bool, features: tuple[str, ...]
) -> ClassWanted:
    return ClassWanted(
        gateway_class.metadata.generation,
        (classes.accepted(gateway_class), bundle.condition),
        features if bundle.features_have_names else None,
        used,
    )
