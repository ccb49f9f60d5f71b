"""Which cgroup's sockets: the root of the cgroup2 file system, or the one that was named."""

from __future__ import annotations

import logging
from pathlib import Path

from blixt_backend.planes.base import PlaneError
from blixt_backend.planes.ebpf.pins import filesystem_of, mounts

log = logging.getLogger(__name__)


def choose(named: Path | None) -> Path:
    """The folder of the cgroup. Raises PlaneError."""
    if named is None:
        return _root()
    if not named.is_dir():
        raise PlaneError(f"--cgroup {named}: there is no such folder")
    kind = filesystem_of(named.resolve())
    if kind != "cgroup2":
        raise PlaneError(f"--cgroup {named} is in a file system of type {kind}, not cgroup2")
    return named


def _root() -> Path:
    found = [mount.point for mount in mounts() if mount.kind == "cgroup2"]
    if not found:
        raise PlaneError(
            "--socket-lb: no cgroup2 file system is mounted here. Mount one (mkdir /run/cgroup2; mount -t "
            "cgroup2 none /run/cgroup2), or, in a container, mount the host's and name it by --cgroup"
        )
    root = found[0]
    if (root / "cgroup.events").exists():  # every cgroup has it but the machine's root
        log.warning(
            "%s is not the machine's root cgroup: only sockets of programs below it are served. In a "
            "container, mount the host's cgroup2 file system and name it by --cgroup",
            root,
        )
    return root
