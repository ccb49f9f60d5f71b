"""Floods of new flows from random sources, beside connections to the same service that talk.

The flood runs on one CPU, with all of the node's work on its packets; who talks, and the servers, on another.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from bench import daemons, figures, report, topology
from bench.figures import Figure
from bench.topology import Topology
from blixt_lab import Host, Lab, open_lab, scale
from blixt_lab.daemon import script

_SOURCE = Path(__file__).with_name("flood.c")
_NODE, _PORT, _PODS = "node1", 7100, 4
_UPLINK, _POD_DEVICES = "eth0", "pod*"
_SERVICE = {4: "10.96.0.77", 6: "fd00:10:96::77"}
#: Where the flood's sources are, which have their answers sent to.
_SOURCES = ("10.128.0.0/9", "fd00:f100::/32")
_INTERVAL_MS = 500
_QUIET_SECONDS = 4.0
_MOST_SECONDS = 120
_FLOOD_CPU = 0
#: Of a flood's packets; else the way to the node was what was flooded.
_LEAST_ARRIVED = 0.98


class FloodError(Exception):
    """A run that shows nothing."""


@dataclass(frozen=True, slots=True)
class Phase:
    """What the connections saw between two looks; latencies in ms."""

    open: int
    lost: int
    exchanges: int
    p50: float
    p99: float


class Talk:
    """Connections from the client to the service, each asking again and again."""

    def __init__(self, program: Path, client: Host, address: str, connections: int) -> None:
        arguments = ("talk", str(connections), str(_INTERVAL_MS), str(_PORT), address)
        self._process = _started(program, client, *arguments, cpu=_last_cpu())

    def phase(self) -> Phase:
        """Since the last one. Raises FloodError."""
        self._process.send_signal(signal.SIGUSR1)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise FloodError(f"the talking connections ended with {self._process.wait(5)}")
        return Phase(**json.loads(line))

    def close(self) -> None:
        _end(self._process)


@dataclass(frozen=True, slots=True)
class Node:
    """A network with a backend on its node that serves, and servers in its pods."""

    lab: Lab
    built: Topology
    pins: Path
    program: Path

    def flood(self, protocol: str, version: int, packets: int) -> tuple[int, float]:
        """How many were sent, and the seconds that it took. Raises FloodError."""
        client, node = self.built.client, self.built.node
        arguments = (
            str(packets),
            str(_MOST_SECONDS),
            protocol,
            "1",
            "eth0",
            client.mac,
            node.mac,
            str(_PORT),
        )
        command = _command(self.program, client, "send", *arguments, _SERVICE[version], cpu=_FLOOD_CPU)
        done = subprocess.run(command, capture_output=True, text=True, timeout=_MOST_SECONDS + 30)
        if done.returncode:
            raise FloodError(f"the flood ended with {done.returncode}: {done.stderr.strip()}")
        told = json.loads(done.stdout)
        return int(told["sent"]), float(told["seconds"])

    def drops(self, version: int) -> Mapping[str, int]:
        """What the node's programs dropped, by reason."""
        return {row["reason"]: row[f"ipv{version}"] for row in self._inspect("drops")}

    def flows(self, version: int, protocol: str) -> int:
        """New flows to the service that they have counted."""
        name = f"bench/flooded:{protocol}/{protocol.upper()}"
        rows = (row for row in self._inspect("services") if row["family"] == f"ipv{version}")
        return sum(row["connections"] for row in rows if row["name"] == name)

    def _inspect(self, what: str) -> Any:
        command = [script("blixt-backend"), what, "-o", "json", "--pin-root", str(self.pins)]
        return json.loads(self.built.node.run(*command).stdout)


def compile_flood(folder: Path) -> Path:
    """Raises FloodError."""
    compiler = shutil.which("clang") or shutil.which("cc")
    if compiler is None:
        raise FloodError("no C compiler: install clang (make setup)")
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "flood"
    command = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(program), str(_SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise FloodError(f"{_SOURCE.name} does not compile: {done.stderr.strip()}")
    return program


@contextlib.contextmanager
def serving(lab: Lab, program: Path, services: int, *flags: str) -> Iterator[Node]:
    """The measured service among others, with servers behind it."""
    built = topology.build(lab, "flood", _PODS)
    for network in _SOURCES:
        gateway = built.client.address6 if ":" in network else built.client.address4
        built.node.ip(f"route add {network} via {gateway} dev {_UPLINK} onlink")
    folder, pins = lab.folder / "manifests", lab.bpffs / "flood"
    folder.mkdir()
    pins.mkdir()
    scale.write(folder / "measured.json", _manifests(built))
    scale.write(folder / "others.yaml", scale.Scale(services - 1).manifests())
    address = f"unix:{lab.folder / 'flood'}.sock"
    options = daemons.ebpf_flags(pins, _UPLINK, _POD_DEVICES)
    pair = (
        daemons.frontend(lab, built.node, folder, address),
        daemons.backend(lab, built.node, address, _NODE, *options, *flags),
    )
    applied = f"applied all {services} services"
    daemons.wait_while_running(pair, lambda: applied in pair[1].log.read_text() or None, applied)
    servers = [_started(program, pod, "echo", str(_PORT), cpu=_last_cpu()) for pod in built.pods]
    try:
        yield Node(lab, built, pins, program)
    finally:
        for server in servers:
            _end(server)


def _manifests(built: Topology) -> list[scale.Manifest]:
    ports = [{"name": name, "port": _PORT, "protocol": name.upper()} for name in ("tcp", "udp")]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "flooded", "namespace": "bench"},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": _SERVICE[4],
            "clusterIPs": list(_SERVICE.values()),
            "ipFamilies": ["IPv4", "IPv6"],
            "ipFamilyPolicy": "PreferDualStack",
            "ports": ports,
        },
    }
    slices = [
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"flooded-v{version}",
                "namespace": "bench",
                "labels": {"kubernetes.io/service-name": "flooded"},
            },
            "addressType": f"IPv{version}",
            "ports": ports,
            "endpoints": [
                {"addresses": [address], "conditions": {"ready": True}, "nodeName": _NODE}
                for address in built.pod_addresses(version)
            ],
        }
        for version in (4, 6)
    ]
    head = [
        {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}
        for kind, name in (("Namespace", "bench"), ("Node", _NODE))
    ]
    return [*head, service, *slices]


def measure(node: Node, version: int, packets: int, connections: int) -> list[Figure]:
    """Quiet, a flood of SYNs, one of datagrams, quiet again."""
    address = _SERVICE[version]
    subject = f"IPv{version}: {connections:,} connections"
    talk = Talk(node.program, node.built.client, address, connections)
    try:
        talk.phase()
        time.sleep(_QUIET_SECONDS)
        rows = _rows(subject, "before", talk.phase(), connections)
        for name, protocol in (("SYN flood", "tcp"), ("UDP flood", "udp")):
            before, known = node.drops(version), node.flows(version, protocol)
            talk.phase()
            sent, seconds = node.flood(protocol, version, packets)
            during = talk.phase()
            arrived = (node.flows(version, protocol) - known) / sent
            if arrived < _LEAST_ARRIVED:
                raise FloodError(f"{subject}: the node has seen {arrived:.1%} of the {name} only")
            rows += [
                Figure(subject, f"{name}: packets", "M", sent / 1e6),
                Figure(subject, f"{name}: rate", "M/s", sent / seconds / 1e6),
                Figure(subject, f"{name}: seen by the node", "%", 100 * arrived),
                *_rows(subject, name, during, connections),
                *(
                    Figure(subject, f"{name}: dropped, {reason}", "", count - before[reason])
                    for reason, count in node.drops(version).items()
                    if count > before[reason]
                ),
            ]
        time.sleep(_QUIET_SECONDS)
        return rows + _rows(subject, "afterwards", talk.phase(), connections)
    finally:
        talk.close()


def _rows(subject: str, when: str, phase: Phase, connections: int) -> list[Figure]:
    if not phase.exchanges:
        raise FloodError(f"{subject}, {when}: nothing was exchanged")
    return [
        Figure(subject, f"{when}: connections lost", "", connections - phase.open, 0),
        Figure(subject, f"{when}: exchanges", "", phase.exchanges),
        Figure(subject, f"{when}: p50", "ms", phase.p50),
        Figure(subject, f"{when}: p99", "ms", phase.p99),
    ]


def _command(program: Path, host: Host, *arguments: str, cpu: int) -> list[str]:
    return host.command("taskset", "--cpu-list", str(cpu), str(program), *arguments)


def _started(program: Path, host: Host, *arguments: str, cpu: int) -> subprocess.Popen[str]:
    """Up, and ready. Raises FloodError."""
    process = subprocess.Popen(
        _command(program, host, *arguments, cpu=cpu),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    if process.stdout.readline().strip() != "ready":
        raise FloodError(f"{host.name}: flood {arguments[0]} ended with {process.wait(5)}")
    return process


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait(10)
    if process.stdout is not None:
        process.stdout.close()


def _last_cpu() -> int:
    return max(os.sched_getaffinity(0))


@click.command(context_settings={"show_default": True})
@click.option("--packets", type=click.IntRange(64, 50_000_000), default=5_000_000, help="Of each flood.")
@click.option("--connections", type=click.IntRange(1, 10_000), default=1_000, help="That talk meanwhile.")
@click.option("--services", type=click.IntRange(1, 50_000), default=10_000, help="That the node serves.")
@click.option(
    "--family",
    type=click.Choice(["4", "6"]),
    multiple=True,
    default=("4", "6"),
    help="IP version; repeatable.",
)
def main(packets: int, connections: int, services: int, family: tuple[str, ...]) -> None:
    """Connections lost, and their latency, while floods of SYNs and of datagrams come to their service.

    Needs root. Writes build/bench/flood.json; exits with 1 if a connection was lost.
    """
    try:
        program = compile_flood(report.RESULTS.absolute())
        found: list[Figure] = []
        with open_lab() as lab, serving(lab, program, services) as node:
            for version in map(int, family):
                found += measure(node, version, packets, connections)
    except (FloodError, OSError, RuntimeError, AssertionError) as error:
        click.echo(f"bench: {error}", err=True)
        sys.exit(1)
    click.echo(figures.table(found))
    options: dict[str, object] = {"packets": packets, "connections": connections, "services": services}
    click.echo(f"written to {figures.write('flood', found, options)}")
    if any(figure.missed for figure in found):
        sys.exit(1)


if __name__ == "__main__":
    main()
