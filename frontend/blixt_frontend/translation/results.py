"""What became of a Gateway, its listeners and the routes that name it: as it will stand in their status.

Reasons are those of the Gateway API (v1.6). Items are made from the same structures, so that status never
says anything else than what is served.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from blixt_frontend.objects import (
    BackendRef,
    Listener,
    ParentRef,
    Route,
    RouteGroupKind,
    Service,
    ServicePort,
)
from blixt_frontend.source import ObjectKey
from blixt_frontend.translation.addresses import Addresses

ConditionType = Literal[
    "Accepted",
    "Programmed",
    "ResolvedRefs",
    "Conflicted",
    "OverlappingTLSConfig",
    "PartiallyInvalid",
    "SupportedVersion",
]
#: Those that are there only where something is wrong.
NEGATIVE: frozenset[ConditionType] = frozenset({"Conflicted", "OverlappingTLSConfig", "PartiallyInvalid"})
Reason = Literal[
    "Accepted",
    "AddressNotAssigned",
    "AddressNotUsable",
    "BackendNotFound",
    "Invalid",
    "InvalidCertificateRef",
    "InvalidKind",
    "InvalidParameters",
    "InvalidRouteKinds",
    "ListenersNotValid",
    "NoMatchingParent",
    "NoResources",
    "NotAllowedByListeners",
    "OverlappingHostnames",
    "Pending",
    "PortUnavailable",
    "Programmed",
    "ProtocolConflict",
    "HostnameConflict",
    "RefNotPermitted",
    "ResolvedRefs",
    "SupportedVersion",
    "UnsupportedAddress",
    "UnsupportedProtocol",
    "UnsupportedValue",
    "UnsupportedVersion",
]


@dataclass(frozen=True, slots=True)
class Condition:
    type: ConditionType
    #: None: it can't be said (yet), which Kubernetes calls Unknown.
    status: bool | None
    reason: Reason
    message: str = ""

    @property
    def status_text(self) -> str:
        """As metav1.Condition has it."""
        return "Unknown" if self.status is None else str(self.status)

    @property
    def is_fault(self) -> bool:
        """Whether somebody should look at it."""
        return self.status is (self.type in NEGATIVE)


class Conditions(tuple[Condition, ...]):
    """At most one of each type."""

    __slots__ = ()

    def holds(self, condition: ConditionType) -> bool:
        """Whether the condition is there and true."""
        return any(c.type == condition and c.status for c in self)

    def fails(self, condition: ConditionType) -> bool:
        """Whether the condition is there and false, which isn't to say that it would hold otherwise."""
        return any(c.type == condition and c.status is False for c in self)

    def reason(self, condition: ConditionType) -> Reason | None:
        return next((c.reason for c in self if c.type == condition), None)


@dataclass(frozen=True, slots=True)
class ListenerResult:
    listener: Listener
    supported_kinds: tuple[RouteGroupKind, ...]
    conditions: Conditions
    #: Accepted routes, the oldest first. All count; only the first carries traffic.
    attached: tuple[Route, ...] = ()
    #: How many routes of kinds that we don't carry attach to it.
    attached_elsewhere: int = 0

    @property
    def attached_routes(self) -> int:
        return len(self.attached) + self.attached_elsewhere

    @property
    def active(self) -> Route | None:
        """The route that carries the listener's traffic."""
        return self.attached[0] if self.attached else None


@dataclass(frozen=True, slots=True)
class BackendResult:
    """One backend reference of a route's first rule. Without `port`, its share is refused."""

    ref: BackendRef
    namespace: str
    service: Service | None = None
    port: ServicePort | None = None
    reason: Reason = "ResolvedRefs"
    message: str = ""


@dataclass(frozen=True, slots=True)
class ParentResult:
    """What became of one parent reference of one route. A route has as many as it names this Gateway."""

    route: ObjectKey
    parent: ParentRef
    observed_generation: int
    conditions: Conditions


@dataclass(frozen=True, slots=True)
class GatewayResult:
    gateway: ObjectKey
    observed_generation: int
    conditions: Conditions
    #: The addresses that its listeners listen on.
    addresses: Addresses
    listeners: tuple[ListenerResult, ...]
    parents: tuple[ParentResult, ...]
