"""The processes of a control plane, which are known by a mark in their environment.

The mark is in a process from its first instruction on, so that nothing is left behind by a run that was
killed, wherever that hit it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

MARK = "BLIXT_CONTROL_PLANE"


def spawn(argv: list[str], home: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a program of the control plane in that folder. Signals to the terminal's group don't reach it."""
    with log.open("ab") as output:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=home,
            env={"PATH": os.environ.get("PATH", ""), "HOME": str(home), MARK: str(home)},
            start_new_session=True,
        )


def processes_of(home: Path) -> dict[int, str]:
    """The names of the running programs of that control plane, by process id."""
    mark = f"{MARK}={home}".encode()
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                argv = (entry / "cmdline").read_bytes().split(b"\0")
                found[int(entry.name)] = Path(argv[0].decode()).name
        except OSError:  # it ended, or is another user's
            continue
    return found


def end_all(home: Path, timeout: float = 10.0) -> None:
    """SIGKILL to all processes of that control plane, whose data nobody wants; returns once they are gone.

    Raises TimeoutError.
    """
    deadline = time.monotonic() + timeout
    while running := processes_of(home):
        for pid in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise TimeoutError(f"these processes of {home} do not end: {running}")
        time.sleep(0.01)


def start_time(pid: int) -> str:
    """The process's start in clock ticks since boot, field 22 of proc(5)'s stat; empty when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    state, *rest = stat.rpartition(")")[2].split()
    return "" if state == "Z" else rest[18]
