"""The objects as translation looks them up, and what it gives back for one unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from blixt_frontend.items import Item
from blixt_frontend.objects import (
    EndpointSlice,
    Gateway,
    GatewayClass,
    HostRoute,
    Namespace,
    Node,
    ReferenceGrant,
    Route,
    Secret,
    Service,
)
from blixt_frontend.source import ObjectKey
from blixt_frontend.translation.addresses import Assignment


class NamespacedName(NamedTuple):
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Cluster:
    """Read-only look-ups. The mappings may be live views: nobody keeps them beyond one translation."""

    services: Mapping[NamespacedName, Service] = field(default_factory=dict)
    #: Slices by their service, then by their own name.
    slices: Mapping[NamespacedName, Mapping[str, EndpointSlice]] = field(default_factory=dict)
    gateways: Mapping[NamespacedName, Gateway] = field(default_factory=dict)
    #: Routes by the Gateway that one of their parent references names.
    routes: Mapping[NamespacedName, Mapping[ObjectKey, Route]] = field(default_factory=dict)
    #: The same for routes that are only counted.
    host_routes: Mapping[NamespacedName, Mapping[ObjectKey, HostRoute]] = field(default_factory=dict)
    #: Those of type kubernetes.io/tls, at least.
    secrets: Mapping[NamespacedName, Secret] = field(default_factory=dict)
    #: Grants by the namespace that they stand in.
    grants: Mapping[str, Mapping[ObjectKey, ReferenceGrant]] = field(default_factory=dict)
    namespaces: Mapping[str, Namespace] = field(default_factory=dict)
    classes: Mapping[str, GatewayClass] = field(default_factory=dict)
    #: What our address pools give to Gateways and Services; the others' addresses come from elsewhere.
    assignments: Mapping[ObjectKey, Assignment] = field(default_factory=dict)
    #: The zone of every node that has one.
    zones: Mapping[str, str] = field(default_factory=dict)
    nodes: Mapping[str, Node] = field(default_factory=dict)
    #: Kinds that only status needs and of which nothing is known, with the reason, for people.
    unread: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Translation:
    """What became of one Service or one Gateway."""

    #: Without TriggerTime: what differs only in it is equal.
    items: tuple[Item, ...] = ()
    #: Of the newest of the slices that were looked at; nanoseconds since 1970, 0: unknown.
    trigger_time: int = 0
    #: What was wrong and left out, for people to read.
    problems: tuple[str, ...] = ()
    #: The nodes whose zone made a difference.
    zones_asked: frozenset[str] = frozenset()
