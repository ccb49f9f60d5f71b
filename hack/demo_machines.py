"""What the demo on loopback starts: endpoints and Blixt's own daemons, each a process of this user's."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "config" / "samples"
#: What the userspace plane logs of a frontend that is mapped.
_PLACE = re.compile(r"INFO \S+: (\S+) is at 127\.0\.0\.1:(\d+)$", re.MULTILINE)
_LOCALHOST = "127.0.0.1"


class Program:
    """A process that ends with the demo. Its output goes to a file."""

    def __init__(self, name: str, argv: Sequence[str], folder: Path, stack: ExitStack, **more: Any) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        with self._log.open("wb") as out:
            # Ctrl-C is for the demo, which ends the others one by one.
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **more,
            )
        stack.callback(self.kill9)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def kill9(self) -> None:
        """SIGKILL, if it runs."""
        self._process.kill()
        self._process.wait()

    def terminate(self) -> int:
        """SIGTERM; its exit code. Raises subprocess.TimeoutExpired."""
        self._process.terminate()
        return self._process.wait(20)


class Endpoint(Program):
    """A server on two ports of loopback, which nobody else can have got."""

    def __init__(self, name: str, folder: Path, stack: ExitStack) -> None:
        with socket.socket() as streams, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            for each in (streams, datagrams):
                each.bind((_LOCALHOST, 0))
            # From here on connections wait for the process to come up.
            streams.listen(1024)
            self.tcp, self.udp = (each.getsockname()[1] for each in (streams, datagrams))
            numbers = (streams.fileno(), datagrams.fileno())
            argv = [sys.executable, str(ROOT / "hack/demo_endpoint.py"), name, *map(str, numbers)]
            super().__init__(name, argv, folder, stack, pass_fds=numbers)


class Manifests:
    """The samples, with other endpoints: an EndpointSlice for each, since each has ports of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for file in SAMPLES.glob("*.yaml"):
            if file.name != "endpoints.yaml":
                (folder / file.name).write_text(file.read_text())

    def endpoints(self, of: Mapping[str, Sequence[Endpoint]]) -> None:
        """Let these be the endpoints of the services, by name."""
        objects = [_slice(service, each) for service, those in of.items() for each in those]
        # Beside it, since the folder is watched, and then at once.
        staged = self.folder.with_name("endpoints.new")
        staged.write_text(yaml.safe_dump_all(objects, sort_keys=False))
        staged.replace(self.folder / "endpoints.yaml")

    def addresses(self) -> list[str]:
        """Every IPv4 address that something in there asks for."""
        texts = [
            file.read_text() for file in sorted(self.folder.glob("*.yaml")) if "endpoints" not in file.name
        ]
        found = re.findall(r"\b(?:10\.96|192\.0\.2)(?:\.\d+)+\b", "\n".join(texts))
        return list(dict.fromkeys(found))


def places(log: str) -> dict[str, int]:
    """Where the backend says it listens: the port of loopback by 192.0.2.10:8080/tcp."""
    return {frontend: int(port) for frontend, port in _PLACE.findall(log)}


def _slice(service: str, endpoint: Endpoint) -> Mapping[str, Any]:
    ports = [
        {"name": "web", "port": endpoint.tcp, "protocol": "TCP"},
        {"name": "dns", "port": endpoint.udp, "protocol": "UDP"},
    ]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service}-{endpoint.name}",
            "namespace": "demo",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": [
            {
                "addresses": [_LOCALHOST],
                "conditions": {"ready": True},
                "nodeName": "node1",
                "targetRef": {"kind": "Pod", "name": endpoint.name, "namespace": "demo"},
            }
        ],
    }
