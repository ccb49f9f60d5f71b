"""gateway.networking.k8s.io: routes of all kinds, and ReferenceGrant, in every version that is served."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta, field

from blixt_frontend.objects.gateway import GATEWAY_GROUP
from blixt_frontend.objects.meta import Model, Port, Resource

Weight = Annotated[int, Meta(ge=0, le=1_000_000)]


class ParentRef(Model, frozen=True, kw_only=True):
    name: str
    group: str = GATEWAY_GROUP
    kind: str = "Gateway"
    #: Empty: the route's own.
    namespace: str = ""
    section_name: str = ""
    port: Port | None = None


class BackendRef(Model, frozen=True, kw_only=True):
    name: str
    group: str = ""
    kind: str = "Service"
    #: Empty: the route's own.
    namespace: str = ""
    #: Required by a Service; a reference without one is invalid and keeps its share.
    port: Port | None = None
    weight: Weight = 1


class RouteRule(Model, frozen=True, kw_only=True):
    name: str = ""
    backend_refs: tuple[BackendRef, ...] = ()


class RouteSpec(Model, frozen=True, kw_only=True):
    parent_refs: tuple[ParentRef, ...] = ()
    rules: tuple[RouteRule, ...] = ()


class Route(Resource, frozen=True, kw_only=True):
    """Base of the two kinds that carry traffic here, which differ in nothing but their kind."""

    spec: RouteSpec


class TCPRoute(Route, frozen=True, kw_only=True):
    kind: ClassVar[str] = "TCPRoute"


class UDPRoute(Route, frozen=True, kw_only=True):
    kind: ClassVar[str] = "UDPRoute"


class HostRouteSpec(Model, frozen=True, kw_only=True):
    parent_refs: tuple[ParentRef, ...] = ()
    #: Empty: any.
    hostnames: tuple[str, ...] = ()


class HostRoute(Resource, frozen=True, kw_only=True):
    """Base of the kinds that are carried by others, and only counted here: which listeners they attach to."""

    spec: HostRouteSpec = HostRouteSpec()


class HTTPRoute(HostRoute, frozen=True, kw_only=True):
    kind: ClassVar[str] = "HTTPRoute"


class TLSRoute(HostRoute, frozen=True, kw_only=True):
    kind: ClassVar[str] = "TLSRoute"


class GrantFrom(Model, frozen=True, kw_only=True):
    group: str
    kind: str
    namespace: str


class GrantTo(Model, frozen=True, kw_only=True):
    group: str
    kind: str
    #: Empty: every object of that kind in the grant's namespace.
    name: str = ""


class ReferenceGrantSpec(Model, frozen=True, kw_only=True):
    from_: tuple[GrantFrom, ...] = field(name="from", default=())
    to: tuple[GrantTo, ...] = ()


class ReferenceGrant(Resource, frozen=True, kw_only=True):
    kind: ClassVar[str] = "ReferenceGrant"

    spec: ReferenceGrantSpec = ReferenceGrantSpec()
