"""The daemons under measurement: a frontend on a folder of manifests, and backends that follow it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from blixt_backend.planes.ebpf.inspect import status
from blixt_backend.planes.ebpf.pins import Pins
from blixt_lab import Host, Lab, wait_for
from blixt_lab.daemon import Daemon, script

Result = TypeVar("Result")

_TESTS = Path(__file__).resolve().parent.parent
_PATIENCE = 180.0


def frontend(lab: Lab, host: Host, manifests: Path, address: str) -> Daemon:
    command = [script("blixt-frontend"), "--manifests", str(manifests), "--listen", address]
    return started(lab, host, "frontend", command)


def backend(lab: Lab, host: Host, address: str, node: str, *flags: str) -> Daemon:
    command = [script("blixt-backend"), "--api", address, "--node-name", node, *flags]
    return started(lab, host, "backend", command)


def follower(lab: Lab, host: Host, address: str, node: str, plane: str, *flags: str) -> Daemon:
    """A backend that tells what it applied and when: bench.follow."""
    return module(lab, host, "backend", "bench.follow", plane, address, node, *flags)


def module(lab: Lab, host: Host, role: str, name: str, *arguments: str) -> Daemon:
    """One of these modules as a program."""
    command = ["env", f"PYTHONPATH={_TESTS}", sys.executable, "-m", name, *arguments]
    return started(lab, host, role, command)


def ebpf_flags(bpffs: Path, uplink: str, pod_devices: str, xdp: str = "auto") -> list[str]:
    """The eBPF plane's options for one node, whose maps and links are pinned in a folder of their own."""
    return ["--interface", uplink, "--pod-interface", pod_devices, "--xdp", xdp, "--pin-root", str(bpffs)]


def wait_while_running(
    daemons: Sequence[Daemon], look: Callable[[], Result | None], what: str, interval: float = 0.05
) -> Result:
    """Wait until `look` finds something. Raises RuntimeError when a daemon ends before that."""
    found: list[Result] = []

    def ready() -> bool:
        for daemon in daemons:
            if not daemon.running:
                raise RuntimeError(f"{daemon.name} ended while waiting for {what}:\n{daemon.log_tail()}")
        result = look()
        if result is not None:
            found.append(result)
        return bool(found)

    wait_for(ready, what, _PATIENCE, interval)
    return found[0]


def wait_for_words(daemon: Daemon, words: str, running: Sequence[Daemon]) -> None:
    """Wait until a daemon has logged these words. RuntimeError when one of `running` ends first."""
    wait_while_running(running, lambda: words in daemon.log.read_text() or None, words)


def wait_until_looked(root: Path, running: Sequence[Daemon]) -> None:
    """Wait until the backend with these pins has looked whether the kernel's connection tracking has flows of
    its services. Until then each new flow is looked up there, too: to end it before leaves slow programs.
    """
    pins = Pins(root)
    wait_while_running(
        running, lambda: not any(status(pins)["kernel_asked"].values()) or None, "a look for flows"
    )


def started(lab: Lab, host: Host, role: str, command: list[str]) -> Daemon:
    """Any program as a daemon of the lab."""
    daemon = Daemon(lab, host, f"{host.name}-{role}", command)
    daemon.start()
    return daemon
