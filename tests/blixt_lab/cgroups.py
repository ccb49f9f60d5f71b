"""Cgroups for a node and its pods: several nodes in one kernel each have programs on their own sockets.

They are threaded (cgroup-v2, "Threads"): clients are threads of the process that runs the lab, and each
of them is in its host's cgroup while it is in its host's network namespace.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable
from pathlib import Path


def own() -> Path:
    """The cgroup2 folder of this process. Raises RuntimeError."""
    mounts = [line.partition(" - ") for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    points = [fields.split(" ")[4] for fields, _, tail in mounts if tail.startswith("cgroup2 ")]
    if not points:
        raise RuntimeError("no cgroup2 file system is mounted: mount -t cgroup2 none /sys/fs/cgroup")
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        hierarchy, _, path = line.split(":", 2)
        if hierarchy == "0":
            return Path(points[0], path.lstrip("/"))
    raise RuntimeError("this process is in no cgroup2")


def create(folder: Path) -> None:
    """Make a cgroup below this process's own, for threads and processes."""
    folder.mkdir()
    (folder / "cgroup.type").write_text("threaded")


def delete(folders: Iterable[Path]) -> None:
    """Remove cgroups whose processes were ended; they need a moment to be gone."""
    deadline = time.monotonic() + 5
    for folder in folders:
        while folder.is_dir():
            try:
                folder.rmdir()
            except OSError as error:
                if error.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)


def join(folder: Path) -> None:
    """Move the calling thread, and only it."""
    (folder / "cgroup.threads").write_text("0")


def command(folder: Path, argv: list[str]) -> list[str]:
    """The command line that runs `argv` in a cgroup, as the same process."""
    return ["sh", "-c", 'echo 0 >"$0/cgroup.procs" && exec "$@"', str(folder), *argv]
