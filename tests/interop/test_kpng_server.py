"""Our backend under KPNG's own server is told exactly what that serves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from blixt_lab import wait_for
from blixt_lab.daemon import script
from blixt_programs import Program, free_port

pytestmark = pytest.mark.interop

STATE: dict[str, Any] = {
    "nodes": [{"name": "node1"}],
    "services": [
        {
            "service": {
                "namespace": "shop",
                "name": "web",
                "type": "ClusterIP",
                "ips": {"clusterips": {"v4": ["10.96.0.9"], "v6": ["fd00:10:96::9"]}},
                "ports": [{"name": "http", "protocol": 1, "port": 80, "targetport": 8080}],
            },
            "endpoints": [{"endpoint": {"ips": {"v4": [f"10.1.0.{number}"]}}} for number in (1, 2)],
        }
    ],
}


def test_the_state_of_its_file_and_its_changes(kpng_server: Path, tmp_path: Path) -> None:
    port, file = free_port(), tmp_path / "state.yaml"
    file.write_text(yaml.safe_dump(STATE))
    listen = f"tcp://127.0.0.1:{port}"
    server = Program(tmp_path / "server", kpng_server / "server", "--file", file, "--listen", listen)
    options = ("--plane", "print", "--healthz-address", "off", "--node-name", "node1")
    command = (script("blixt-backend"), *options, "--api", f"127.0.0.1:{port}")
    with server, Program(tmp_path / "backend", *command) as backend:
        wait_for(lambda: endpoints(backend) == ["10.1.0.1", "10.1.0.2"], "both endpoints")
        (service,) = held(backend).values()
        assert service["clusterIPs"] == ["10.96.0.9", "fd00:10:96::9"]
        assert service["ports"] == [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}]
        rewrite(file, STATE["services"][0]["endpoints"][1:])
        wait_for(lambda: endpoints(backend) == ["10.1.0.2"], "the one that is left")
        rewrite(file, [])
        wait_for(lambda: endpoints(backend) == [], "no endpoint")


def rewrite(file: Path, endpoints: list[Any]) -> None:
    """It looks at the file's time, in whole moments."""
    service = {**STATE["services"][0], "endpoints": endpoints}
    file.write_text(yaml.safe_dump({**STATE, "services": [service]}))


def held(backend: Program) -> dict[str, Any]:
    """What the plane was told so far."""
    there: dict[str, Any] = {}
    for line in backend.lines():
        there |= {**line["added"], **line["changed"]}
        for path in line["removed"]:
            del there[path]
    return there


def endpoints(backend: Program) -> list[str]:
    return sorted(
        address
        for service in held(backend).values()
        for endpoint in service["endpoints"]
        for address in endpoint["addresses"]
    )
