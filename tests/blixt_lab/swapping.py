"""A node whose planes are swapped, and traffic through it from outside and from a pod of its own."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict
from pathlib import Path

from blixt_lab.blixt import Blixt
from blixt_lab.cluster import Cluster
from blixt_lab.daemon import Daemon, script
from blixt_lab.host import Host
from blixt_lab.manifests import Manifest, service, slices
from blixt_lab.rules import Proxy, Translation, objects, proxying
from blixt_lab.stream import Load, Outcome, Streaming
from blixt_lab.traffic import Target, spread
from blixt_lab.wait import wait_for

CLUSTER = ("10.96.1.1", "fd00:10:96::1")
OUTSIDE = ("198.18.1.1", "2001:db8:100::1")
#: Where figures go.
RESULTS = Path("build/swap.json")

_COUNTER = "blixt_lab_taken"
_COUNTED = f"""
table inet {_COUNTER} {{
    counter taken {{ }}
    chain onward {{
        type filter hook forward priority 0
        ct state new ct status dnat counter name taken
    }}
}}
"""


class Swapped:
    """The first node of a cluster; on the others plane ebpf stays."""

    def __init__(self, built: Cluster, program: Path, *ebpf_options: str) -> None:
        self.built = built
        self.node: Host = built.nodes[0]
        self.blixt = Blixt(built)
        self.backend: Daemon = self.blixt.backends[self.node.name]
        self._ebpf = [*self.backend.argv, *ebpf_options]
        self._program = program
        self._logged = 0

    @property
    def pins(self) -> Path:
        return self.blixt.pin_root(self.node)

    def prepare(self, plane: str) -> None:
        """The frontend, with one service whose endpoints are all pods, and all backends but the node's own,
        which will have this plane."""
        self.node.run("nft", "-f", "-", stdin=_COUNTED)
        self.backend.argv = self.command(plane)
        self.blixt.folder.write("swap", self.manifests(self.built.pods))
        for daemon in self.blixt.daemons:
            if daemon is not self.backend:
                daemon.start()

    def start(self, plane: str) -> None:
        """All of them, and wait until they serve."""
        self.prepare(plane)
        self.backend.start()
        self.serve(self.built.pods)

    def manifests(self, pods: list[Host]) -> list[Manifest]:
        return [service("swap", CLUSTER, external=OUTSIDE), *slices("swap", pods)]

    def serve(self, pods: list[Host]) -> None:
        self.blixt.apply("swap", self.manifests(pods))

    def command(self, plane: str, *more: str) -> list[str]:
        """Of the node's backend."""
        if plane == "ebpf":
            return [*self._ebpf, *more]
        arguments = ["--plane", plane, "--interface", "eth0", "--api", self.blixt.api]
        arguments += ["--node-name", self.node.name, "--pin-root", str(self.pins)]
        return [script("blixt-backend"), *arguments, *more]

    def swap(self, plane: str, *more: str) -> None:
        """Stop the backend, and start one with this plane."""
        if self.backend.running:
            self.backend.terminate()
        self._logged = len(self.backend.log.read_text())
        self.backend.argv = self.command(plane, *more)
        self.backend.start()

    def logged(self) -> str:
        """What the backend has said since the last swap."""
        return self.backend.log.read_text()[self._logged :]

    def wait_for_log(self, text: str, timeout: float = 30) -> None:
        wait_for(lambda: text in self.logged(), f"{text!r} in the backend's log", timeout)

    def taken(self, plane: str) -> int:
        """New flows that the plane has taken so far: the node's conntrack counts those of rules."""
        if plane == "ebpf":
            rows = self.blixt.inspect(self.node, "services")
            return sum(row["connections"] for row in rows if row["name"].startswith("default/swap:"))
        (found,) = (
            entry["counter"]["packets"]
            for entry in objects(self.node, "list", "counter", "inet", _COUNTER, "taken")
            if "counter" in entry
        )
        return int(found)

    def streaming(self, *, datagrams: bool = True) -> Streaming:
        """Both families from outside, and a pod of this node: over 200 connections, 700 new ones a second."""
        client, pod = self.built.client, self.built.pods[1]
        return Streaming(
            self._program,
            [
                *(Load(client, address, 100, 325, 100 * datagrams) for address in OUTSIDE),
                Load(pod, CLUSTER[0], 30, 50, 20 * datagrams),
            ],
        )

    def is_there(self, plane: str) -> bool:
        """Whether anything of the plane is on the node."""
        if plane == "ebpf":
            return self.pins.is_dir() and any(self.pins.iterdir())
        return "table ip blixt-" in self.node.run("nft", "list", "tables").stdout

    def keeps_ports_apart(self) -> bool:
        """Whether other proxies' masquerading is kept off the ports of plane ebpf."""
        return "blixt_apart" in self.node.run("nft", "list", "tables").stdout

    def answers(self, names: set[str]) -> None:
        """New conversations of every kind are answered, by all of these pods; none fails."""
        for address in OUTSIDE:
            for target in (Target("tcp", address, 80), Target("udp", address, 53)):
                seen = self.built.client.do(spread(target, 60))
                assert (dict(seen.failures), set(seen.answers)) == ({}, names), target

    def proxying(self) -> contextlib.AbstractContextManager[Proxy]:
        """Rules of another proxy's for the same service."""
        pods = self.built.pods
        translations = [
            Translation(
                address,
                (80, 53),
                [pod.address6 if ":" in address else pod.address4 for pod in pods],
                (8080, 5353),
            )
            for address in OUTSIDE
        ]
        local = [address for pod in self.built.pods_of(self.node) for address in (pod.address4, pod.address6)]
        return proxying(self.node, translations, local)


def record(name: str, outcome: Outcome) -> None:
    """Show a swap's figures, and keep them."""
    RESULTS.parent.mkdir(exist_ok=True)
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept[name] = asdict(outcome) | {"new_per_second": round(outcome.rate)}
    RESULTS.write_text(json.dumps(kept, indent=2) + "\n")
    print(f"{name}: {outcome}, {outcome.rate:.0f} new connections/s")
