"""Manifests of N Services with M endpoints each, for tests and benchmarks: same input, same bytes.

Service number i has the ClusterIP 10.96.0.0/12 + 256 + i, port 80 to 8080, and one EndpointSlice. Endpoint
addresses are drawn from 10.128.0.0/9 and every one is used once; endpoints go round robin over the nodes,
and nodes round robin over three zones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

Manifest = dict[str, Any]

ZONES = ("zone-a", "zone-b", "zone-c")
_CLUSTER_IPS = IPv4Address("10.96.1.0")
_POD_IPS = IPv4Address("10.128.0.1")
_PLAIN = re.compile(r"[A-Za-z][\w./-]*\Z")
_NOT_STRINGS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


@dataclass(frozen=True, slots=True)
class Scale:
    services: int
    endpoints: int = 3
    nodes: int = 2
    namespace: str = "scale"

    def manifests(self) -> Iterator[Manifest]:
        """The namespace, the nodes, then Service and EndpointSlice by turns."""
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}
        for number in range(self.nodes):
            yield node(number)
        for number in range(self.services):
            yield self.service(number)
            yield self.slice(number)

    def name(self, number: int) -> str:
        return f"service-{number:06}"

    def service(self, number: int) -> Manifest:
        address = str(_CLUSTER_IPS + number)
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": self.name(number), "namespace": self.namespace, "labels": {"app": "scale"}},
            "spec": {
                "type": "ClusterIP",
                "clusterIP": address,
                "clusterIPs": [address],
                "ipFamilies": ["IPv4"],
                "ipFamilyPolicy": "SingleStack",
                "selector": {"app": self.name(number)},
                "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}],
            },
        }

    def slice(self, number: int, endpoints: int | None = None) -> Manifest:
        """The EndpointSlice of a service, with fewer than `self.endpoints` endpoints on demand."""
        count = self.endpoints if endpoints is None else endpoints
        if count > self.endpoints:
            raise ValueError(
                f"{count} endpoints: the addresses of the next service begin at {self.endpoints}"
            )
        first = number * self.endpoints
        return {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{self.name(number)}-v4",
                "namespace": self.namespace,
                "labels": {"kubernetes.io/service-name": self.name(number)},
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [self._endpoint(index) for index in range(first, first + count)],
        }

    def _endpoint(self, index: int) -> Manifest:
        on = index % self.nodes
        return {
            "addresses": [str(_POD_IPS + index)],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": node_name(on),
            "zone": ZONES[on % len(ZONES)],
        }


def node_name(number: int) -> str:
    return f"node{number + 1}"


def node(number: int) -> Manifest:
    labels = {"topology.kubernetes.io/zone": ZONES[number % len(ZONES)]}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node_name(number), "labels": labels}}


def to_yaml(manifests: Iterable[Manifest]) -> str:
    """Block style with document markers, as people write it (a tenth of PyYAML's time)."""
    return "".join("---\n" + "\n".join(_block(manifest, "")) + "\n" for manifest in manifests)


def to_json(manifests: Iterable[Manifest]) -> str:
    """One `kind: List`, as `kubectl get -o json` prints it."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})


def write(path: Path, manifests: Iterable[Manifest]) -> None:
    """To a file; its suffix (.json or another) tells the format."""
    path.write_text(to_json(manifests) if path.suffix == ".json" else to_yaml(manifests))


def _block(value: Manifest, indent: str) -> Iterator[str]:
    for key, child in value.items():
        if isinstance(child, dict) and child:
            yield f"{indent}{key}:"
            yield from _block(child, indent + "  ")
        elif isinstance(child, list) and child:
            yield f"{indent}{key}:"
            for item in child:
                yield from _item(item, indent)
        else:
            yield f"{indent}{key}: {_scalar(child)}"


def _item(value: object, indent: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{indent}- {_scalar(value)}"
        return
    first, *others = _block(value, indent + "  ")
    yield f"{indent}- {first.lstrip()}"
    yield from others


def _scalar(value: object) -> str:
    if isinstance(value, str) and _PLAIN.match(value) and value.lower() not in _NOT_STRINGS:
        return value
    return json.dumps(value)
