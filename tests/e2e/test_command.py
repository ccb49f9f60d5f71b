"""The command itself on a real cluster: what it serves is applied, and the cluster is told."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from blixt_control_plane import ControlPlane
from blixt_lab import wait_for

BIN = Path(sys.executable).parent
GATEWAY = "gateway.networking.k8s.io/v1"
OBJECTS: tuple[dict[str, Any], ...] = (
    {
        "apiVersion": GATEWAY,
        "kind": "GatewayClass",
        "metadata": {"name": "blixt"},
        "spec": {"controllerName": "gateway.networking.k8s.io/blixt"},
    },
    {
        "apiVersion": GATEWAY,
        "kind": "Gateway",
        "metadata": {"name": "edge", "namespace": "command"},
        "spec": {
            "gatewayClassName": "blixt",
            "listeners": [{"name": "web", "port": 8080, "protocol": "TCP"}],
        },
    },
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "hello", "namespace": "command"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
    },
)


@contextmanager
def running(log: Path, command: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [BIN / command, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(timeout=20)


def get(plane: ControlPlane, kind: str, name: str) -> Any:
    return json.loads(plane.kubectl("get", kind, name, "--namespace", "command", "--output", "json"))[
        "status"
    ]


def is_programmed(plane: ControlPlane) -> bool:
    conditions = {c["type"]: c["status"] for c in get(plane, "gateway", "edge")["conditions"]}
    return bool(conditions["Programmed"] == "True")


def test_gateways_become_programmed_and_services_get_addresses(
    shared_control_plane: ControlPlane, tmp_path: Path
) -> None:
    plane = shared_control_plane
    for namespace in ("blixt-system", "command"):
        plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    plane.apply(list(OBJECTS))
    socket = f"unix:{tmp_path / 'frontend.sock'}"
    pool = "--address-pool=lan=198.51.100.1-198.51.100.2"
    with ExitStack() as daemons:
        frontend = daemons.enter_context(
            running(
                tmp_path / "frontend.log",
                "blixt-frontend",
                *("--kubeconfig", str(plane.kubeconfig), "--listen", socket, pool),
            )
        )
        wait_for(
            lambda: "NoResources" in json.dumps(get(plane, "gateway", "edge")),
            "a Gateway that no node has",
        )
        assert not is_programmed(plane)
        daemons.enter_context(
            running(
                tmp_path / "backend.log",
                "blixt-backend",
                *("--plane", "print", "--api", socket, "--node-name", "node1"),
            )
        )
        wait_for(lambda: is_programmed(plane), "a Gateway that the node has applied")
        given = {get(plane, "gateway", "edge")["addresses"][0]["value"]}
        given |= {each["ip"] for each in get(plane, "service", "hello")["loadBalancer"]["ingress"]}
        assert given == {"198.51.100.1", "198.51.100.2"}
        assert frontend.poll() is None
    assert frontend.returncode == 0
