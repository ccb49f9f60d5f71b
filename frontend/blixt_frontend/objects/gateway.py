"""gateway.networking.k8s.io: GatewayClass and Gateway."""

from __future__ import annotations

from typing import ClassVar

from msgspec import field
from msgspec.structs import force_setattr

from blixt_frontend.objects.meta import LabelSelector, Model, Port, Resource

GATEWAY_GROUP = "gateway.networking.k8s.io"


class ParametersRef(Model, frozen=True, kw_only=True):
    group: str
    kind: str
    name: str
    namespace: str = ""


class GatewayClassSpec(Model, frozen=True, kw_only=True):
    controller_name: str
    parameters_ref: ParametersRef | None = None


class GatewayClass(Resource, frozen=True, kw_only=True):
    kind: ClassVar[str] = "GatewayClass"

    spec: GatewayClassSpec


class RouteNamespaces(Model, frozen=True, kw_only=True):
    #: "Same", "All", "Selector" or "None".
    from_: str = field(name="from", default="Same")
    selector: LabelSelector | None = None


class RouteGroupKind(Model, frozen=True, kw_only=True):
    kind: str
    group: str = GATEWAY_GROUP


class AllowedRoutes(Model, frozen=True, kw_only=True):
    namespaces: RouteNamespaces = RouteNamespaces()
    #: Empty: what goes with the listener's protocol.
    kinds: tuple[RouteGroupKind, ...] = ()


class CertificateRef(Model, frozen=True, kw_only=True):
    name: str
    group: str = ""
    kind: str = "Secret"
    #: Empty: the Gateway's own.
    namespace: str = ""


class ListenerTLS(Model, frozen=True, kw_only=True):
    mode: str = "Terminate"
    certificate_refs: tuple[CertificateRef, ...] = ()


class Listener(Model, frozen=True, kw_only=True):
    name: str
    port: Port
    protocol: str
    hostname: str = ""
    tls: ListenerTLS | None = None
    allowed_routes: AllowedRoutes = AllowedRoutes()


class GatewayAddress(Model, frozen=True, kw_only=True):
    type: str = "IPAddress"
    #: Empty: the implementation chooses (Gateway API's GatewayAddressEmpty).
    value: str = ""


class Infrastructure(Model, frozen=True, kw_only=True):
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    parameters_ref: ParametersRef | None = None


class GatewaySpec(Model, frozen=True, kw_only=True):
    gateway_class_name: str
    listeners: tuple[Listener, ...] = ()
    addresses: tuple[GatewayAddress, ...] = ()
    infrastructure: Infrastructure = Infrastructure()


class GatewayCondition(Model, frozen=True, kw_only=True):
    type: str
    status: str = "Unknown"


_DECIDED = (GatewayCondition(type="Accepted", status="True"),)


class GatewayStatus(Model, frozen=True, kw_only=True):
    addresses: tuple[GatewayAddress, ...] = ()
    #: Boiled down to what `decided` tells: the rest is our own word, and no news.
    conditions: tuple[GatewayCondition, ...] = ()

    def __post_init__(self) -> None:
        decided = any(one.type == "Accepted" and one.status != "Unknown" for one in self.conditions)
        force_setattr(self, "conditions", _DECIDED if decided else ())

    @property
    def decided(self) -> bool:
        """Whether the Gateway has been accepted, or not, at any time."""
        return bool(self.conditions)


class Gateway(Resource, frozen=True, kw_only=True):
    kind: ClassVar[str] = "Gateway"

    spec: GatewaySpec
    status: GatewayStatus = GatewayStatus()
