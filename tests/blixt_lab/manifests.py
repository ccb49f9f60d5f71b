"""Kubernetes objects as tests need them, and a folder of them that a frontend watches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from blixt_lab.host import Host

Manifest = Mapping[str, Any]

TCP_PORT, UDP_PORT = 8080, 5353
CONTROLLER = "gateway.networking.k8s.io/blixt"


@dataclass(frozen=True, slots=True)
class Ready:
    """One endpoint of a slice: a pod, in which state it is, and for which zones and nodes it is meant."""

    pod: Host
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    zones: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()


def terminating(pod: Host) -> Ready:
    """A pod that was told to end, and still serves."""
    return Ready(pod, ready=False, terminating=True)


def node(name: str, zone: str = "", **spec: Any) -> Manifest:
    """A Node object, in a zone."""
    labels = {"topology.kubernetes.io/zone": zone} if zone else {}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": spec}


def node_of(endpoint: Host) -> str:
    """pod-1-2 is on node1; a node's own endpoint is on that node."""
    parts = endpoint.name.split("-")
    return f"node{parts[1]}" if parts[0] == "pod" else endpoint.name


def service(
    name: str,
    addresses: Sequence[str],
    *,
    external: Sequence[str] = (),
    balancers: Sequence[str] = (),
    tcp: int = 80,
    udp: int = 53,
    **spec: Any,
) -> Manifest:
    """A Service with cluster IPs, external IPs and load balancer IPs, ports `tcp` and `udp` (0: without)."""
    ports = []
    if tcp:
        ports.append({"name": "tcp", "protocol": "TCP", "port": tcp, "targetPort": TCP_PORT})
    if udp:
        ports.append({"name": "udp", "protocol": "UDP", "port": udp, "targetPort": UDP_PORT})
    families = ["IPv6" if ":" in address else "IPv4" for address in addresses]
    made: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "type": "LoadBalancer" if balancers else "ClusterIP",
            "clusterIP": addresses[0],
            "clusterIPs": list(addresses),
            "ipFamilies": families,
            "ipFamilyPolicy": "RequireDualStack" if len(families) > 1 else "SingleStack",
            "ports": ports,
            **spec,
        },
    }
    if external:
        made["spec"]["externalIPs"] = list(external)
    if balancers:
        made["status"] = {"loadBalancer": {"ingress": [{"ip": address} for address in balancers]}}
    return made


def slices(
    name: str,
    endpoints: Iterable[Host | Ready],
    *,
    tcp: int = TCP_PORT,
    udp: int = UDP_PORT,
    trigger: str = "",
) -> list[Manifest]:
    """A Service's EndpointSlices, one for each family, both protocols; `trigger`: of when (RFC 3339)."""
    listed = [entry if isinstance(entry, Ready) else Ready(entry) for entry in endpoints]
    made = [_slice(name, family, listed, tcp, udp) for family in ("IPv4", "IPv6")]
    for piece in made if trigger else ():
        piece["metadata"]["annotations"] = {"endpoints.kubernetes.io/last-change-trigger-time": trigger}
    return made


def _slice(name: str, family: str, endpoints: list[Ready], tcp: int, udp: int) -> Manifest:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name}-{family.lower()}",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": family,
        "ports": [
            {"name": "tcp", "protocol": "TCP", "port": tcp},
            {"name": "udp", "protocol": "UDP", "port": udp},
        ],
        "endpoints": [
            {
                "addresses": [entry.pod.address4 if family == "IPv4" else entry.pod.address6],
                "nodeName": node_of(entry.pod),
                "conditions": {
                    "ready": entry.ready,
                    "serving": entry.serving,
                    "terminating": entry.terminating,
                },
                "targetRef": {"kind": "Pod", "namespace": "default", "name": entry.pod.name},
                "hints": {
                    "forZones": [{"name": zone} for zone in entry.zones],
                    "forNodes": [{"name": name} for name in entry.nodes],
                },
            }
            for entry in endpoints
        ],
    }


def backend_services(names: Mapping[str, Sequence[Host | Ready]], number: int) -> list[Manifest]:
    """Services that routes refer to, with cluster IPs 10.96.<number>.n, and their slices."""
    made: list[Manifest] = []
    for position, (name, endpoints) in enumerate(names.items(), 1):
        made.append(service(name, [f"10.96.{number}.{position}", f"fd00:10:96::{number}:{position}"]))
        made += slices(name, endpoints)
    return made


def gateway(name: str, addresses: Sequence[str], *, tcp: int = 80, udp: int = 53) -> list[Manifest]:
    """A Gateway with a TCP and a UDP listener, named so, on each address; and its class."""
    return [
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": {"name": f"class-of-{name}"},
            "spec": {"controllerName": CONTROLLER},
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "gatewayClassName": f"class-of-{name}",
                "addresses": [{"type": "IPAddress", "value": address} for address in addresses],
                "listeners": [
                    {"name": "tcp", "protocol": "TCP", "port": tcp},
                    {"name": "udp", "protocol": "UDP", "port": udp},
                ],
            },
        },
    ]


def routes(gateway_name: str, weights: Mapping[str, int]) -> list[Manifest]:
    """A TCPRoute and a UDPRoute from a Gateway's listeners to Services' ports 80 and 53, by weight."""
    return [
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": f"{gateway_name}-{section}", "namespace": "default"},
            "spec": {
                "parentRefs": [{"name": gateway_name, "sectionName": section}],
                "rules": [
                    {
                        "backendRefs": [
                            {"name": name, "port": port, "weight": weight} for name, weight in weights.items()
                        ]
                    }
                ],
            },
        }
        for kind, section, port in (("TCPRoute", "tcp", 80), ("UDPRoute", "udp", 53))
    ]


class Folder:
    """A folder of manifests, each file replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, objects: Iterable[Manifest]) -> None:
        """Put objects into `<name>.yaml`; a reader sees the old file or the new one."""
        staged = self.path.with_name(f"{self.path.name}.{name}.new")
        staged.write_text(yaml.safe_dump_all(list(objects), sort_keys=False))
        staged.replace(self.path / f"{name}.yaml")

    def remove(self, name: str) -> None:
        (self.path / f"{name}.yaml").unlink(missing_ok=True)
