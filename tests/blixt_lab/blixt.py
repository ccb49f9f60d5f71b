"""The real frontend and backends on a lab's cluster."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from blixt_lab.cluster import Cluster
from blixt_lab.daemon import Daemon, script
from blixt_lab.host import Host
from blixt_lab.manifests import Folder, Manifest, service
from blixt_lab.traffic import TalkError, Target, ask
from blixt_lab.wait import wait_for

API_PORT = 12090


class Blixt:
    """A frontend on the control host, over a folder of manifests, and a backend on each node.

    `frontend_options` and `backend_options` are added to their command lines.
    """

    def __init__(
        self,
        cluster: Cluster,
        manifests: Path | None = None,
        *,
        frontend_options: Sequence[str] = (),
        backend_options: Sequence[str] = (),
    ) -> None:
        self.cluster = cluster
        self.folder = Folder(manifests or cluster.lab.folder / "manifests")
        self.api = f"{cluster.control.address4}:{API_PORT}"
        self.frontend = Daemon(
            cluster.lab,
            cluster.control,
            "frontend",
            [
                *(script("blixt-frontend"), "--manifests", str(self.folder.path), "--listen", self.api),
                *frontend_options,
            ],
        )
        self.backends = {
            node.name: Daemon(
                cluster.lab, node, f"backend-{node.name}", self.backend_command(node, *backend_options)
            )
            for node in cluster.nodes
        }
        self._serials = itertools.count(20_000)
        # What tells which state is in force on which node is reached by one address for each.
        cluster.control.ip(
            *(
                f"route replace {_marker_address(number)}/32 via {node.address4}"
                for number, node in enumerate(cluster.nodes, 1)
            )
        )

    @property
    def daemons(self) -> list[Daemon]:
        return [self.frontend, *self.backends.values()]

    def pin_root(self, node: Host) -> Path:
        return self.cluster.lab.bpffs / node.name

    def backend_command(self, node: Host, *more: str) -> list[str]:
        """The command line of a node's backend.

        Without a cgroup of its own it leaves sockets alone: all labs of this machine have one root cgroup.
        """
        arguments = ["--interface", "eth0", "--api", self.api, "--node-name", node.name]
        arguments += ["--cgroup", str(node.cgroup)] if node.cgroup else ["--socket-lb", "off"]
        return [script("blixt-backend"), *arguments, "--pin-root", str(self.pin_root(node)), *more]

    def start(self) -> None:
        for daemon in self.daemons:
            daemon.start()

    def apply(self, name: str, objects: Iterable[Manifest] = ()) -> None:
        """Replace the manifests of that name, and wait until every node has them in force.

        With them goes a Service without endpoints, on a port of its own, which refuses from then on.
        """
        port = next(self._serials)
        addresses = [_marker_address(number) for number in range(1, len(self.cluster.nodes) + 1)]
        marker = service(f"in-force-{name}", ["10.96.254.1"], external=addresses, tcp=port, udp=0)
        self.folder.write(name, [*objects, marker])
        for address in addresses:
            target = Target("tcp", address, port)
            wait_for(partial(self._refused, target), f"{name}'s change at {target}")

    def remove(self, name: str) -> None:
        """Take the manifests of that name away, without waiting."""
        self.folder.remove(name)

    def inspect(self, node: Host, command: str) -> Any:
        """What `blixt-backend <command> -o json` prints on a node."""
        return json.loads(self.tool(node, command, "-o", "json").stdout)

    def tool(self, node: Host, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `blixt-backend` for a node's pinned state."""
        command, *rest = arguments
        return node.run(
            script("blixt-backend"), command, "--pin-root", str(self.pin_root(node)), *rest, check=check
        )

    def logs(self, lines: int = 20) -> str:
        """The ends of all daemons' logs."""
        return "\n".join(f"--- {daemon.name}\n{daemon.log_tail(lines)}" for daemon in self.daemons)

    def _refused(self, target: Target) -> bool:
        ended = [daemon.name for daemon in self.daemons if daemon.exit_code is not None]
        if len(ended) == len(self.daemons):
            raise RuntimeError(f"all daemons ended\n{self.logs()}")
        try:
            self.cluster.control.do(ask(target, patience=0.3))
        except TalkError as trouble:
            return trouble.reason == "refused"
        return False


def _marker_address(number: int) -> str:
    return f"10.96.255.{number}"
