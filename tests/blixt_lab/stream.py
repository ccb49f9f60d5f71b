"""Traffic in numbers that a swap of planes must not disturb: stream.c on hosts of the lab."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Self

from blixt_lab.host import Host
from blixt_lab.lab import Lab

_SOURCE = Path(__file__).with_name("stream.c")
_PORTS = ("8080", "5353")
#: So many connections that one client closes stand in TIME_WAIT for a minute.
_CLIENT_PORTS = "10000 65000"


@dataclass(frozen=True, slots=True)
class Load:
    """From a host to a service's address: connections that stay, new ones and datagrams a second."""

    host: Host
    address: str
    held: int
    rate: int
    datagrams: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """Connections that stayed, and those lost; new ones, and those that failed; datagrams, and those without
    an answer. `slowest_ms`: the longest that a TCP question waited, to be connected included."""

    held: int
    lost: int
    exchanges: int
    opened: int
    failed: int
    sent: int
    unanswered: int
    slowest_ms: int
    seconds: float
    reason: str

    @property
    def rate(self) -> float:
        """New connections a second."""
        return self.opened / self.seconds

    @classmethod
    def of(cls, parts: Iterable[Outcome]) -> Outcome:
        """All of them at once."""
        listed = list(parts)
        summed = {
            field.name: sum(getattr(part, field.name) for part in listed)
            for field in fields(cls)
            if field.name not in ("slowest_ms", "seconds", "reason")
        }
        return cls(
            **summed,
            slowest_ms=max(part.slowest_ms for part in listed),
            seconds=max(part.seconds for part in listed),
            reason="; ".join(part.reason for part in listed if part.reason),
        )


def compiled(folder: Path) -> Path:
    """The program, built by the compiler that builds ours."""
    compiler = shutil.which("clang") or shutil.which("cc")
    assert compiler is not None, "no C compiler: make setup"
    program = folder / "stream"
    subprocess.run([compiler, "-O2", "-o", str(program), str(_SOURCE)], check=True, timeout=120)
    return program


def start_echoes(lab: Lab, program: Path, hosts: Iterable[Host]) -> None:
    """A server on each host, on the ports of the lab's pods. They end with the lab."""
    for host in hosts:
        process = _started(host, program, "serve", *_PORTS)
        lab.stack.callback(_end, process)


class Streaming:
    """Loads that run, as a context manager, until `stop`; all held connections are open at its begin."""

    def __init__(self, program: Path, loads: Iterable[Load]) -> None:
        self._program = program
        self._loads = list(loads)
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        try:
            for load in self._loads:
                load.host.sysctl({"ipv4/ip_local_port_range": _CLIENT_PORTS})
                numbers = map(str, (load.held, load.rate, load.datagrams))
                self._processes.append(
                    _started(load.host, self._program, "load", load.address, "80", "53", *numbers)
                )
        except BaseException:
            self._end()
            raise
        return self

    def stop(self) -> Outcome:
        """What became of all of it."""
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        outcomes = []
        for process in self._processes:
            output, _ = process.communicate(timeout=30)
            assert process.returncode == 0, f"a load ended with {process.returncode}"
            outcomes.append(Outcome(**json.loads(output)))
        self._processes = []
        return Outcome.of(outcomes)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        for process in self._processes:
            _end(process)


def _started(host: Host, program: Path, *arguments: str) -> subprocess.Popen[str]:
    """Ready."""
    process = subprocess.Popen(
        host.command(str(program), *arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    first = process.stdout.readline().strip()
    assert first == "ready", f"{host.name}: {arguments[0]} says {first!r}"
    return process


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
