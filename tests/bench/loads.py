"""The loads: what each metric sends, and what it counts. The generators are load.c."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.topology import Topology
from blixt_lab import Host

_SOURCE = Path(__file__).with_name("load.c")
CRR_PORT, UDP_PORT, BULK_PORT, ECHO_PORT = 7001, 7002, 7003, 7004
#: Connections at once; more add nothing on one CPU.
_CRR_WORKERS = 4
_UDP_FLOWS = 64


class LoadError(Exception):
    """A load that measured nothing."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement. `delivered`: the share of datagrams that arrived, or of connections that succeeded."""

    value: float
    delivered: float


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    unit: str


CONNECTIONS = Metric("connect, request, response, close", "connections/s")
PACKETS = Metric("UDP, known flows", "packets/s")
BULK = Metric("TCP, one stream", "Gbit/s")
DATAGRAMS = Metric("UDP, request and reply, not connected", "exchanges/s")


def compile_generator(folder: Path) -> Path:
    """Build load.c into `folder` with the system's compiler; the program. Raises LoadError."""
    compiler = shutil.which("clang") or shutil.which("cc")
    if compiler is None:
        raise LoadError("no C compiler: install clang (make setup)")
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "load"
    done = subprocess.run(
        [compiler, "-O2", "-Wall", "-Wextra", "-o", str(program), str(_SOURCE)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode != 0:
        raise LoadError(f"{_SOURCE.name} does not compile: {done.stderr.strip()}")
    return program


@dataclass(frozen=True, slots=True)
class Generator:
    """Runs the loads from one topology's client to `targets`, whose servers run in its pods."""

    program: Path
    seconds: int

    def measure(self, metric: Metric, topology: Topology, targets: list[str]) -> Sample:
        """Raises LoadError when nothing arrived."""
        run = {
            CONNECTIONS: self._connections,
            PACKETS: self._packets,
            BULK: self._bulk,
            DATAGRAMS: self._datagrams,
        }[metric]
        sample = run(topology, targets)
        if sample.value <= 0:
            raise LoadError(f"{topology.name}: {metric.name}: nothing arrived at {', '.join(targets)}")
        return sample

    def _connections(self, topology: Topology, targets: list[str]) -> Sample:
        return self._exchanges(topology, targets, "crr-server", "crr-client", CRR_PORT)

    def _datagrams(self, topology: Topology, targets: list[str]) -> Sample:
        return self._exchanges(topology, targets, "udp-echo", "udp-client", ECHO_PORT)

    def _exchanges(
        self, topology: Topology, targets: list[str], server: str, client: str, port: int
    ) -> Sample:
        """On one CPU: on two, the scheduler's placement of client and server decides the figure."""
        with self._servers(topology, server, port, cpu=0):
            counted = self._client(topology.client, 0, client, self.seconds, _CRR_WORKERS, port, *targets)
        tried = counted["count"] + counted["errors"]
        return Sample(counted["count"] / counted["seconds"], counted["count"] / max(tried, 1))

    def _packets(self, topology: Topology, targets: list[str]) -> Sample:
        """Sender on one CPU, receivers on another; counted by the receivers."""
        with self._servers(topology, "udp-sink", UDP_PORT, cpu=_last_cpu()) as sinks:
            sent = self._client(topology.client, 0, "udp-blast", self.seconds, _UDP_FLOWS, UDP_PORT, *targets)
            time.sleep(0.05)  # what is under way arrives
            received = [_finish(sink)["count"] for sink in sinks]
        if not all(received):
            raise LoadError(f"{topology.name}: a pod got no datagram of {_UDP_FLOWS} flows: {received}")
        return Sample(sum(received) / sent["seconds"], sum(received) / max(sent["count"], 1))

    def _bulk(self, topology: Topology, targets: list[str]) -> Sample:
        with self._servers(topology, "bulk-server", BULK_PORT, cpu=None):
            counted = self._client(topology.client, None, "bulk-client", self.seconds, BULK_PORT, targets[0])
        return Sample(counted["bytes"] * 8 / counted["seconds"] / 1e9, 1.0)

    @contextlib.contextmanager
    def _servers(
        self, topology: Topology, command: str, port: int, cpu: int | None
    ) -> Iterator[list[subprocess.Popen[str]]]:
        servers = [self._popen(pod, cpu, command, port) for pod in topology.pods]
        try:
            for server in servers:
                assert server.stdout is not None
                if server.stdout.readline().strip() != "ready":
                    raise LoadError(f"{topology.name}: {command} did not start")
            yield servers
        finally:
            for server in servers:
                server.terminate()
            for server in servers:
                server.wait(timeout=10)
                assert server.stdout is not None
                server.stdout.close()

    def _client(self, host: Host, cpu: int | None, *arguments: str | int) -> dict[str, float]:
        process = self._popen(host, cpu, *arguments)
        output, _ = process.communicate(timeout=self.seconds + 20)
        if process.returncode != 0:
            raise LoadError(f"{host.name}: load {arguments[0]} ended with {process.returncode}")
        counted: dict[str, float] = json.loads(output)
        return counted

    def _popen(self, host: Host, cpu: int | None, *arguments: str | int) -> subprocess.Popen[str]:
        pinned = [] if cpu is None else ["taskset", "--cpu-list", str(cpu)]
        return subprocess.Popen(
            host.command(*pinned, str(self.program), *map(str, arguments)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )


def _finish(server: subprocess.Popen[str]) -> dict[str, float]:
    server.terminate()
    output, _ = server.communicate(timeout=10)
    counted: dict[str, float] = json.loads(output)
    return counted


def _last_cpu() -> int:
    return max(os.sched_getaffinity(0))
