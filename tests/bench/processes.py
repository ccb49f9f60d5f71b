"""What the kernel tells of a process: proc(5)."""

from __future__ import annotations

import os
from pathlib import Path


def cpu_seconds(pid: int) -> float:
    """User and system time so far, with that of children that have ended: stat's fields 14 to 17."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def waited_seconds(pid: int) -> float:
    """How long its threads were ready to run and had no CPU: what else the machine does. See schedstat."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[1]) for task in tasks) / 1e9


def resident_mb(pid: int) -> float:
    return _status_mb(pid, "VmRSS")


def peak_mb(pid: int) -> float:
    """The most that was ever resident."""
    return _status_mb(pid, "VmHWM")


def _status_mb(pid: int, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"process {pid} has no memory: it has ended")


def run_seconds(pid: int) -> float:
    """How long a single-threaded process, or a kernel thread, has run so far, to the nanosecond."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def softirq_thread(cpu: int) -> int:
    """The id of the kernel thread that takes over a CPU's softirqs when there are many."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _name(entry) == f"ksoftirqd/{cpu}":
            return int(entry.name)
    raise RuntimeError(f"there is no ksoftirqd/{cpu}: is this a container without the host's process ids?")


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:  # it has ended
        return ""
