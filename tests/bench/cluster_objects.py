"""The objects of a large cluster, as users and controllers would write them. Same input, same objects.

Service number i has one port, no selector and an EndpointSlice of its own. Endpoints are pods, used once,
that go round robin over the nodes, and nodes go round robin over three zones. Every hundredth Service has a
Gateway and a TCPRoute that lead to it, so that their number grows with that of the Services.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, NamedTuple

NAMESPACE = "bench"
GATEWAY_CLASS = "blixt"
#: Gateways' addresses are given out of it.
ADDRESS_POOL = "bench=198.18.0.0/16"
SERVICES_A_GATEWAY = 100

_GATEWAY_API = "gateway.networking.k8s.io/v1"
_PODS = IPv4Address("10.128.0.1")
_MOVED_PODS = IPv4Address("10.112.0.1")
_ZONES = ("zone-a", "zone-b", "zone-c")

Object = dict[str, Any]


class Creation(NamedTuple):
    """An object, and the collection to post it to."""

    path: str
    body: Object


@dataclass(frozen=True, slots=True)
class Cluster:
    nodes: int
    endpoints: int

    def node_objects(self) -> Iterator[Creation]:
        for number in range(self.nodes):
            labels = {"topology.kubernetes.io/zone": _ZONES[number % len(_ZONES)]}
            yield Creation("/api/v1/nodes", {"metadata": {"name": node_name(number), "labels": labels}})

    def services(self, first: int, end: int) -> Iterator[Creation]:
        """Services, their slices, and the Gateways and TCPRoutes to some of them."""
        namespace = f"namespaces/{NAMESPACE}"
        for number in range(first, end):
            yield Creation(f"/api/v1/{namespace}/services", service(number))
            yield Creation(slices_path(), self.slice(number))
            if number % SERVICES_A_GATEWAY == 0:
                yield Creation(f"/apis/{_GATEWAY_API}/{namespace}/gateways", gateway(number))
                yield Creation(f"/apis/{_GATEWAY_API}/{namespace}/tcproutes", route(number))

    def slice(self, number: int) -> Object:
        first = number * self.endpoints
        name = service_name(number)
        return {
            "metadata": {
                "name": slice_name(number),
                "labels": {
                    "kubernetes.io/service-name": name,
                    "endpointslice.kubernetes.io/managed-by": "bench",
                },
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [self._endpoint(name, index) for index in range(first, first + self.endpoints)],
        }

    def _endpoint(self, service: str, index: int) -> Object:
        on = index % self.nodes
        return {
            "addresses": [str(_PODS + index)],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": node_name(on),
            "zone": _ZONES[on % len(_ZONES)],
            "targetRef": {"kind": "Pod", "namespace": NAMESPACE, "name": f"{service}-{index % 9973:05}"},
        }


def service(number: int) -> Object:
    return {
        "metadata": {"name": service_name(number), "labels": {"app": service_name(number)}},
        "spec": {"ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}]},
    }


def gateway(number: int) -> Object:
    return {
        "apiVersion": _GATEWAY_API,
        "kind": "Gateway",
        "metadata": {"name": service_name(number)},
        "spec": {
            "gatewayClassName": GATEWAY_CLASS,
            "listeners": [{"name": "http", "port": 80, "protocol": "TCP"}],
        },
    }


def route(number: int) -> Object:
    name = service_name(number)
    return {
        "apiVersion": _GATEWAY_API,
        "kind": "TCPRoute",
        "metadata": {"name": name},
        "spec": {"parentRefs": [{"name": name}], "rules": [{"backendRefs": [{"name": name, "port": 80}]}]},
    }


def node_name(number: int) -> str:
    return f"node-{number:04}"


def service_name(number: int) -> str:
    return f"service-{number:05}"


def slice_name(number: int) -> str:
    return f"{service_name(number)}-v4"


def slices_path() -> str:
    """The collection of the EndpointSlices."""
    return f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"


def moved_address(number: int) -> str:
    """An address that no pod has had yet, for the change of that number."""
    return str(_MOVED_PODS + number)
