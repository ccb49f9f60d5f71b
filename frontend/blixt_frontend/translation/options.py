"""What an operator chooses about translation, and the names by which objects are told to be ours."""

from __future__ import annotations

from dataclasses import dataclass

CONTROLLER_NAME = "gateway.networking.k8s.io/blixt"
PROXY_NAME = "blixt"


@dataclass(frozen=True, slots=True)
class Options:
    #: Services with the label service.kubernetes.io/service-proxy-name are ours if this is its value.
    proxy_name: str = PROXY_NAME
    #: GatewayClasses with this controllerName are ours.
    controller_name: str = CONTROLLER_NAME
