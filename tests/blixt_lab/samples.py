"""A working copy of a folder of manifests: what it says of shares, and edits of its EndpointSlices."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from blixt_lab.host import Host

_SERVICE_NAME = "kubernetes.io/service-name"

Endpoint = dict[str, Any]


class Samples:
    """A copy of a folder of manifests, edited as a person would, one file at a time."""

    def __init__(self, source: Path, folder: Path) -> None:
        shutil.copytree(source, folder)
        self.folder = folder

    def route_shares(self, kind: str, name: str) -> dict[str, float]:
        """Each backend Service of a route, and its part of the weights (Gateway API: BackendRef.weight)."""
        (route,) = (
            found for found in self._objects() if found["kind"] == kind and found["metadata"]["name"] == name
        )
        weights = {
            reference["name"]: reference.get("weight", 1)
            for rule in route["spec"]["rules"]
            for reference in rule["backendRefs"]
        }
        return {service: weight / sum(weights.values()) for service, weight in weights.items()}

    def endpoint_addresses(self, service: str, family: str) -> list[str]:
        """The ready endpoints' addresses of a Service; `family` is IPv4 or IPv6."""
        return [
            endpoint["addresses"][0]
            for found in self._objects()
            if _is_slice_of(found, service) and found["addressType"] == family
            for endpoint in found["endpoints"]
            if endpoint["conditions"]["ready"]
        ]

    def terminate(self, pod: Host) -> None:
        """Write what a cluster writes when a pod is told to end: it serves, and isn't ready."""

        def mark(endpoint: Endpoint) -> Endpoint:
            return {**endpoint, "conditions": {"ready": False, "serving": True, "terminating": True}}

        self._edit(pod, mark)

    def remove(self, pod: Host) -> None:
        """Write what a cluster writes when a pod has ended."""
        self._edit(pod, lambda endpoint: None)

    def restore(self, source: Path) -> None:
        """Bring back all files as they are in `source`."""
        for file in source.iterdir():
            self._replace(self.folder / file.name, file.read_text())

    def _objects(self) -> list[Mapping[str, Any]]:
        return [
            found
            for file in sorted(self.folder.glob("*.yaml"))
            for found in yaml.safe_load_all(file.read_text())
            if found
        ]

    def _edit(self, pod: Host, change: Callable[[Endpoint], Endpoint | None]) -> None:
        for file in sorted(self.folder.glob("*.yaml")):
            objects = [found for found in yaml.safe_load_all(file.read_text()) if found]
            slices = [found for found in objects if found["kind"] == "EndpointSlice"]
            for found in slices:
                edited = [
                    change(entry) if {pod.address4, pod.address6} & set(entry["addresses"]) else entry
                    for entry in found["endpoints"]
                ]
                found["endpoints"] = [entry for entry in edited if entry]
            if slices:
                self._replace(file, yaml.safe_dump_all(objects, sort_keys=False))

    def _replace(self, file: Path, text: str) -> None:
        staged = self.folder.with_name(f"{self.folder.name}.{file.name}.new")
        staged.write_text(text)
        staged.replace(file)


def _is_slice_of(found: Mapping[str, Any], service: str) -> bool:
    if found["kind"] != "EndpointSlice":
        return False
    labels: Mapping[str, str] = found["metadata"].get("labels", {})
    return labels.get(_SERVICE_NAME) == service
