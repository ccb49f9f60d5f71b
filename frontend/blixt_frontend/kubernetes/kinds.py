"""The kinds that are watched, and where the API serves them."""

from __future__ import annotations

from dataclasses import dataclass

from blixt_frontend.objects import (
    EndpointSlice,
    Gateway,
    GatewayClass,
    HTTPRoute,
    Namespace,
    Node,
    Object,
    ReferenceGrant,
    Secret,
    Service,
    TCPRoute,
    TLSRoute,
    UDPRoute,
)
from blixt_frontend.objects.gateway import GATEWAY_GROUP
from blixt_frontend.objects.secrets import TLS_SECRET_TYPE


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind. `versions`: those that decode to `type`, the best first."""

    type: type[Object]
    group: str
    plural: str
    versions: tuple[str, ...] = ("v1",)
    #: Only those whose fields have these values are asked for: a field selector.
    selector: str = ""
    #: No traffic hangs on it: while it can't be listed, nodes are served all the same.
    status_only: bool = False

    @property
    def name(self) -> str:
        return self.type.kind

    @property
    def resource(self) -> str:
        """As `kubectl` and RBAC's error messages name it: `tcproutes.gateway.networking.k8s.io`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, version: str) -> str:
        """Of the list of all of them, in every namespace."""
        return (
            f"/apis/{self.group}/{version}/{self.plural}" if self.group else f"/api/{version}/{self.plural}"
        )


#: Every API server serves these.
CORE = (
    Kind(Service, "", "services"),
    Kind(EndpointSlice, "discovery.k8s.io", "endpointslices"),
    Kind(Node, "", "nodes"),
    Kind(Namespace, "", "namespaces"),
    # No other Secret than those that listeners may refer to ever comes here.
    Kind(Secret, "", "secrets", selector=f"type={TLS_SECRET_TYPE}", status_only=True),
)
#: Served once their CRDs are there, in whichever versions these have.
GATEWAY = (
    Kind(GatewayClass, GATEWAY_GROUP, "gatewayclasses", ("v1", "v1beta1")),
    Kind(Gateway, GATEWAY_GROUP, "gateways", ("v1", "v1beta1")),
    Kind(TCPRoute, GATEWAY_GROUP, "tcproutes", ("v1", "v1alpha2")),
    Kind(UDPRoute, GATEWAY_GROUP, "udproutes", ("v1", "v1alpha2")),
    Kind(HTTPRoute, GATEWAY_GROUP, "httproutes", ("v1", "v1beta1"), status_only=True),
    Kind(TLSRoute, GATEWAY_GROUP, "tlsroutes", ("v1", "v1alpha3", "v1alpha2"), status_only=True),
    Kind(ReferenceGrant, GATEWAY_GROUP, "referencegrants", ("v1", "v1beta1")),
)
