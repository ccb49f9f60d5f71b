"""The loads: what each sends, and what is counted of it. The generators are load*.c."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path

from bench.processes import run_seconds, softirq_thread
from blixt_lab import Host

_SOURCES = Path(__file__).parent
CRR_PORT, UDP_PORT, BULK_PORT, ECHO_PORT, RR_PORT = 7001, 7002, 7003, 7004, 7005
#: Connections at once; more add nothing on one CPU.
_CRR_WORKERS = 4
_UDP_FLOWS = 64
#: New flows of one measurement: as many as fit the tables of all candidates, so that none is measured
#: evicting.
_NEW_FLOWS = 200_000
#: What the sender and whatever its packets pass run on; who answers is on the last one.
_CPU = 0


class LoadError(Exception):
    """A load that measured nothing."""


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    unit: str
    less_is_better: bool = False


CONNECTIONS = Metric("new connections, one request each", "connections/s")
TCP_RATE = Metric("one TCP connection, requests", "exchanges/s")
TCP_P50 = Metric("one TCP connection, p50", "us", less_is_better=True)
TCP_P99 = Metric("one TCP connection, p99", "us", less_is_better=True)
UDP_RATE = Metric("one UDP socket, requests", "exchanges/s")
UDP_P50 = Metric("one UDP socket, p50", "us", less_is_better=True)
UDP_P99 = Metric("one UDP socket, p99", "us", less_is_better=True)
BURSTS_RATE = Metric("UDP packets of known flows, in bursts", "packets/s")
BURSTS_CPU = Metric("UDP packets in bursts, CPU for each", "ns", less_is_better=True)
SENDS_RATE = Metric("UDP packets of known flows, one by one", "packets/s")
SENDS_CPU = Metric("UDP packets one by one, CPU for each", "ns", less_is_better=True)
NEW_FLOWS = Metric("UDP packets, all of new flows", "packets/s")
BULK = Metric("bulk TCP, one stream", "Gbit/s")


@dataclass(frozen=True, slots=True)
class Load:
    """One run of generators, and the metrics that come of it. `name` is what the command line calls it."""

    name: str
    metrics: tuple[Metric, ...]


CRR = Load("crr", (CONNECTIONS,))
TCP_RR = Load("tcp-rr", (TCP_RATE, TCP_P50, TCP_P99))
UDP_RR = Load("udp-rr", (UDP_RATE, UDP_P50, UDP_P99))
BURSTS = Load("udp-bursts", (BURSTS_RATE, BURSTS_CPU))
SENDS = Load("udp-sends", (SENDS_RATE, SENDS_CPU))
NEW = Load("new-flows", (NEW_FLOWS,))
STREAM = Load("stream", (BULK,))
LOADS = (CRR, TCP_RR, UDP_RR, BURSTS, SENDS, NEW, STREAM)


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement. `delivered`: the share of datagrams that arrived, or of exchanges that succeeded."""

    values: Mapping[Metric, float]
    delivered: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Who sends to whom: from `client` to the addresses `targets`, behind which are the servers."""

    name: str
    client: Host
    #: The client's next hop, for frames that are written as such.
    router_mac: str
    servers: tuple[Host, ...]
    targets: tuple[str, ...]


def compile_generator(folder: Path) -> Path:
    """Build load*.c into `folder` with the system's compiler; the program. Raises LoadError."""
    compiler = shutil.which("clang") or shutil.which("cc")
    if compiler is None:
        raise LoadError("no C compiler: install clang (make setup)")
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "load"
    sources = sorted(map(str, _SOURCES.glob("load*.c")))
    done = subprocess.run(
        [compiler, "-O2", "-Wall", "-Wextra", "-o", str(program), *sources],
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode != 0:
        raise LoadError(f"load*.c does not compile: {done.stderr.strip()}")
    return program


@dataclass(frozen=True, slots=True)
class Generator:
    """Runs loads. Its new flows are new over its whole life."""

    program: Path
    _flows: count[int] = field(default_factory=lambda: count(1, _NEW_FLOWS))

    def measure(self, load: Load, pair: Pair, seconds: float) -> Sample:
        """Raises LoadError when nothing arrived."""
        runs: dict[Load, Callable[[Pair, float], Sample]] = {
            CRR: self._crr,
            TCP_RR: self._tcp_rr,
            UDP_RR: self._udp_rr,
            BURSTS: partial(self._known, BURSTS),
            SENDS: partial(self._known, SENDS),
            NEW: self._new,
            STREAM: self._stream,
        }
        sample = runs[load](pair, seconds)
        if min(sample.values.values()) <= 0:
            raise LoadError(f"{pair.name}: {load.name}: nothing arrived at {', '.join(pair.targets)}")
        return sample

    def _crr(self, pair: Pair, seconds: float) -> Sample:
        """On one CPU: on two, the scheduler's placement of client and server decides the figure."""
        with self._servers(pair, "crr-server", CRR_PORT, _CPU):
            counted = self._client(
                pair, _CPU, seconds, "crr-client", seconds, _CRR_WORKERS, CRR_PORT, *pair.targets
            )
        return Sample({CONNECTIONS: counted["count"] / counted["seconds"]}, _succeeded(counted))

    def _tcp_rr(self, pair: Pair, seconds: float) -> Sample:
        return self._in_turn(pair, seconds, ("tcp-echo", "tcp-rr", RR_PORT), TCP_RR)

    def _udp_rr(self, pair: Pair, seconds: float) -> Sample:
        return self._in_turn(pair, seconds, ("udp-echo", "udp-rr", ECHO_PORT), UDP_RR)

    def _in_turn(self, pair: Pair, seconds: float, programs: tuple[str, str, int], load: Load) -> Sample:
        server, client, port = programs
        with self._servers(pair, server, port, _CPU):
            counted = self._client(pair, _CPU, seconds, client, seconds, port, pair.targets[0])
        values = (counted["count"] / counted["seconds"], counted["p50"], counted["p99"])
        return Sample(dict(zip(load.metrics, values, strict=True)), _succeeded(counted))

    def _known(self, load: Load, pair: Pair, seconds: float) -> Sample:
        sent, received, cpu = self._one_way(
            pair, seconds, load.name, seconds, _UDP_FLOWS, UDP_PORT, *pair.targets
        )
        if not all(received):
            raise LoadError(f"{pair.name}: a pod got no datagram of {_UDP_FLOWS} flows: {received}")
        rate, arrived = sum(received) / sent["seconds"], sum(received)
        values = dict(zip(load.metrics, (rate, 1e9 * cpu / arrived), strict=True))
        return Sample(values, arrived / max(sent["count"], 1))

    def _new(self, pair: Pair, seconds: float) -> Sample:
        first = next(self._flows)
        frames = (_NEW_FLOWS, first, "eth0", pair.client.mac, pair.router_mac)
        sent, received, _ = self._one_way(
            pair, seconds, "udp-spray", seconds, *frames, UDP_PORT, *pair.targets
        )
        return Sample({NEW_FLOWS: sum(received) / sent["seconds"]}, sum(received) / max(sent["count"], 1))

    def _one_way(
        self, pair: Pair, seconds: float, *command: str | float
    ) -> tuple[dict[str, float], list[float], float]:
        """All of the way to the receivers' sockets on the sender's CPU; the sockets count, and nobody reads.

        What the sender said, what each socket counted, and the CPU time: the sender's, with all that the
        kernel does in its name, and that of its CPU's ksoftirqd.
        """
        thread = softirq_thread(_CPU)
        with self._servers(pair, "udp-sink", UDP_PORT, _last_cpu()) as sinks:
            before = run_seconds(thread)
            sent = self._client(pair, _CPU, seconds, *command)
            time.sleep(0.05)  # what is under way arrives
            cpu = sent["cpu_seconds"] + run_seconds(thread) - before
            received = [_finish(sink)["count"] for sink in sinks]
        return sent, received, cpu

    def _stream(self, pair: Pair, seconds: float) -> Sample:
        with self._servers(pair, "bulk-server", BULK_PORT, None):
            counted = self._client(pair, None, seconds, "bulk-client", seconds, BULK_PORT, pair.targets[0])
        return Sample({BULK: counted["bytes"] * 8 / counted["seconds"] / 1e9}, 1.0)

    @contextlib.contextmanager
    def _servers(
        self, pair: Pair, command: str, port: int, cpu: int | None
    ) -> Iterator[list[subprocess.Popen[str]]]:
        servers = [self._popen(host, cpu, command, port) for host in pair.servers]
        try:
            for server in servers:
                assert server.stdout is not None
                if server.stdout.readline().strip() != "ready":
                    raise LoadError(f"{pair.name}: {command} did not start")
            yield servers
        finally:
            for server in servers:
                server.terminate()
            for server in servers:
                server.wait(timeout=10)
                assert server.stdout is not None
                server.stdout.close()

    def _client(
        self, pair: Pair, cpu: int | None, seconds: float, *arguments: str | float
    ) -> dict[str, float]:
        process = self._popen(pair.client, cpu, *arguments)
        output, _ = process.communicate(timeout=seconds + 20)
        if process.returncode != 0:
            raise LoadError(f"{pair.name}: load {arguments[0]} ended with {process.returncode}")
        counted: dict[str, float] = json.loads(output)
        return counted

    def _popen(self, host: Host, cpu: int | None, *arguments: str | float) -> subprocess.Popen[str]:
        pinned = [] if cpu is None else ["taskset", "--cpu-list", str(cpu)]
        return subprocess.Popen(
            host.command(*pinned, str(self.program), *map(str, arguments)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )


def _succeeded(counted: dict[str, float]) -> float:
    return counted["count"] / max(counted["count"] + counted["errors"], 1)


def _finish(server: subprocess.Popen[str]) -> dict[str, float]:
    server.terminate()
    output, _ = server.communicate(timeout=10)
    counted: dict[str, float] = json.loads(output)
    return counted


def _last_cpu() -> int:
    return max(os.sched_getaffinity(0))
