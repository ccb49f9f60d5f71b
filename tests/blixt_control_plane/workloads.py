"""Nodes and pods without a kubelet: made as the API has them, their status written as a kubelet would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from blixt_control_plane.api import Api


def add_node(api: Api, name: str, addresses: Sequence[str] = (), zone: str | None = None) -> None:
    """A ready node. Pods on a node that doesn't exist are soon deleted by a controller."""
    labels = {"kubernetes.io/hostname": name, **({"topology.kubernetes.io/zone": zone} if zone else {})}
    api.post("/api/v1/nodes", {"metadata": {"name": name, "labels": labels}})
    status = {
        "conditions": [{"type": "Ready", "status": "True"}],
        "addresses": [{"type": "InternalIP", "address": address} for address in addresses],
    }
    api.patch(f"/api/v1/nodes/{name}/status", {"status": status})


def run_pod(
    api: Api,
    namespace: str,
    name: str,
    node: str,
    addresses: Sequence[str],
    labels: Mapping[str, str],
) -> None:
    """A pod that runs on a node, and is ready at these addresses (one of each family at most, IPv4 first)."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    spec = {"nodeName": node, "containers": [{"name": "app", "image": "app"}]}
    api.post(path, {"metadata": {"name": name, "labels": dict(labels)}, "spec": spec})
    api.patch(f"{path}/{name}/status", {"status": ready_status(addresses)})


def ready_status(addresses: Sequence[str]) -> dict[str, Any]:
    """The status of a pod whose containers run and are ready."""
    conditions = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    return {
        "phase": "Running",
        "podIP": addresses[0],
        "podIPs": [{"ip": address} for address in addresses],
        "conditions": [{"type": condition, "status": "True"} for condition in conditions],
    }


def set_ready(api: Api, namespace: str, name: str, ready: bool) -> None:
    """What the kubelet says when a readiness probe changes its mind."""
    path = f"/api/v1/namespaces/{namespace}/pods/{name}/status"
    conditions = api.get(path)["status"]["conditions"]
    status = "True" if ready else "False"
    changed = [
        {**condition, "status": status} if condition["type"] in ("ContainersReady", "Ready") else condition
        for condition in conditions
    ]
    api.patch(path, {"status": {"conditions": changed}})


def terminate_pod(api: Api, namespace: str, name: str) -> None:
    """Begin to delete it: it is terminating until `remove_pod`."""
    api.delete(f"/api/v1/namespaces/{namespace}/pods/{name}")


def remove_pod(api: Api, namespace: str, name: str) -> None:
    """Delete it at once, as a kubelet does when its containers have ended."""
    api.delete(f"/api/v1/namespaces/{namespace}/pods/{name}", {"gracePeriodSeconds": 0})
