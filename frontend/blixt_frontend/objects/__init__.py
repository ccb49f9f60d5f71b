"""The Kubernetes objects that translation reads, each with only the fields that matter to it.

Frozen and comparable: two objects are equal if nothing that Blixt reads differs. An absent field holds what
the API server would fill in. Lists are tuples, so that an object can be shared between threads and kept.
Values from Kubernetes' open enumerations (protocols, policies, kinds) stay `str`: an unknown one must not
lose the object.
"""

from blixt_frontend.objects.core import (
    ClientIPConfig,
    LoadBalancerIngress,
    LoadBalancerStatus,
    Namespace,
    Node,
    NodeSpec,
    Service,
    ServicePort,
    ServiceSpec,
    ServiceStatus,
    SessionAffinityConfig,
    Taint,
)
from blixt_frontend.objects.discovery import (
    Endpoint,
    EndpointConditions,
    EndpointHints,
    EndpointPort,
    EndpointSlice,
    NodeHint,
    TargetRef,
    ZoneHint,
)
from blixt_frontend.objects.gateway import (
    AllowedRoutes,
    CertificateRef,
    Gateway,
    GatewayAddress,
    GatewayClass,
    GatewayClassSpec,
    GatewaySpec,
    GatewayStatus,
    Infrastructure,
    Listener,
    ListenerTLS,
    ParametersRef,
    RouteGroupKind,
    RouteNamespaces,
)
from blixt_frontend.objects.meta import LabelSelector, ObjectMeta, Resource, SelectorRequirement
from blixt_frontend.objects.routes import (
    BackendRef,
    GrantFrom,
    GrantTo,
    HostRoute,
    HostRouteSpec,
    HTTPRoute,
    ParentRef,
    ReferenceGrant,
    ReferenceGrantSpec,
    Route,
    RouteRule,
    RouteSpec,
    TCPRoute,
    TLSRoute,
    UDPRoute,
)
from blixt_frontend.objects.secrets import Secret
from blixt_frontend.source import ObjectKey

Object = (
    Service
    | EndpointSlice
    | Node
    | Namespace
    | Secret
    | GatewayClass
    | Gateway
    | TCPRoute
    | UDPRoute
    | HTTPRoute
    | TLSRoute
    | ReferenceGrant
)

__all__ = [
    "AllowedRoutes",
    "BackendRef",
    "CertificateRef",
    "ClientIPConfig",
    "Endpoint",
    "EndpointConditions",
    "EndpointHints",
    "EndpointPort",
    "EndpointSlice",
    "Gateway",
    "GatewayAddress",
    "GatewayClass",
    "GatewayClassSpec",
    "GatewaySpec",
    "GatewayStatus",
    "GrantFrom",
    "GrantTo",
    "HTTPRoute",
    "HostRoute",
    "HostRouteSpec",
    "Infrastructure",
    "LabelSelector",
    "Listener",
    "ListenerTLS",
    "LoadBalancerIngress",
    "LoadBalancerStatus",
    "Namespace",
    "Node",
    "NodeHint",
    "NodeSpec",
    "Object",
    "ObjectKey",
    "ObjectMeta",
    "ParametersRef",
    "ParentRef",
    "ReferenceGrant",
    "ReferenceGrantSpec",
    "Resource",
    "Route",
    "RouteGroupKind",
    "RouteNamespaces",
    "RouteRule",
    "RouteSpec",
    "Secret",
    "SelectorRequirement",
    "Service",
    "ServicePort",
    "ServiceSpec",
    "ServiceStatus",
    "SessionAffinityConfig",
    "TCPRoute",
    "TLSRoute",
    "Taint",
    "TargetRef",
    "UDPRoute",
    "ZoneHint",
]
