"""One host of a lab: a network namespace, and what can be done in it."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from blixt_lab import cgroups, namespaces

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Host:
    """A host. `address4` and `address6` are how the others reach it; empty: it has none (the fabric)."""

    name: str
    namespace: str
    address4: str = ""
    address6: str = ""
    mac: str = ""
    #: Devices in it that belong to its node's dataplane: of a node its uplink and its pods' veths.
    devices: tuple[str, ...] = field(default=())
    #: The cgroup of its processes; None: that of whoever started the lab.
    cgroup: Path | None = None

    @property
    def path(self) -> Path:
        return namespaces.NAMED / self.namespace

    def command(self, *argv: str) -> list[str]:
        """The command line that runs `argv` here. Not `ip netns exec`: that hides every bpffs below /sys."""
        entering = ["nsenter", f"--net={self.path}", *argv]
        return cgroups.command(self.cgroup, entering) if self.cgroup else entering

    def run(
        self, *argv: str, check: bool = True, stdin: str | None = None, timeout: float = 30.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a program here to its end, output captured. Raises RuntimeError with its stderr if `check`."""
        done = subprocess.run(
            self.command(*argv), input=stdin, capture_output=True, text=True, timeout=timeout
        )
        if check and done.returncode != 0:
            output = (done.stderr or done.stdout).strip()
            raise RuntimeError(f"{self.name}: {' '.join(argv)} ended with {done.returncode}: {output}")
        return done

    def popen(
        self, *argv: str, log: Path | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program here; its id is the program's own. Output goes to the end of `log`, or nowhere."""
        with Path(log or os.devnull).open("ab") as output:
            return subprocess.Popen(
                self.command(*argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=env,
                # Ctrl-C is for whoever runs the lab, who decides what ends.
                start_new_session=True,
            )

    def call(self, function: Callable[[], Result]) -> Result:
        """Run a function here in a thread, and wait for its result."""

        def inside() -> Result:
            self._join()
            return function()

        return namespaces.call(self.namespace, inside)

    def do(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine here to its end, in an event loop and a thread of its own."""
        return self.call(lambda: asyncio.run(coroutine))

    def enter(self) -> None:
        """Move the calling thread here for good."""
        self._join()
        namespaces.enter(self.namespace)

    def _join(self) -> None:
        if self.cgroup:
            cgroups.join(self.cgroup)

    def ip(self, *lines: str) -> None:
        """Run lines of `ip` here."""
        namespaces.ip_batch(lines, self.namespace)

    def sysctl(self, settings: Mapping[str, str | int]) -> None:
        """Set what is below /proc/sys/net, by names with slashes: a device's name may have a dot."""

        def write() -> None:
            for name, value in settings.items():
                Path("/proc/sys/net", name).write_text(str(value))

        self.call(write)

    def offload_checksums(self, device: str, on: bool) -> None:
        """Let a device leave checksums to whoever comes after it (veth does), or compute them."""
        self.run("ethtool", "-K", device, "tx", "on" if on else "off")

    def checksum_errors(self) -> int:
        """How many packets this host dropped for a wrong checksum, all protocols and both families."""
        return sum(value for name, value in self.counters().items() if name.endswith("InCsumErrors"))

    def counters(self) -> dict[str, int]:
        """The kernel's counters of this host, by names as Ip:FragCreates and Ip6FragCreates."""

        def read() -> dict[str, int]:
            net = Path("/proc/thread-self/net")
            # snmp: pairs of lines, names and values, each after the protocol's name.
            lines = [line.split() for line in (net / "snmp").read_text().splitlines()]
            pairs = [
                (f"{names[0]}{name}", int(value))
                for names, values in zip(lines[::2], lines[1::2], strict=True)
                for name, value in zip(names[1:], values[1:], strict=True)
            ]
            pairs += [
                (name, int(value))
                for name, value in (line.split() for line in (net / "snmp6").read_text().splitlines())
            ]
            return dict(pairs)

        return self.call(read)
