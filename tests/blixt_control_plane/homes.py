"""Folders of control planes: who owns each, and the removal of those whose owner died."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from blixt_control_plane.processes import end_all, start_time


def base() -> Path:
    """Where this user's control planes are; nobody else can look into it. Raises PermissionError."""
    folder = Path(tempfile.gettempdir()) / f"blixt-control-plane-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} is not a folder of this user's own: remove it")
    return folder


def create() -> Path:
    """A new folder, owned by this process: if it dies, the next `sweep` removes all that is left of it."""
    with _locked():
        home = Path(tempfile.mkdtemp(dir=base()))
        (home / "owner").write_text(f"{os.getpid()} {start_time(os.getpid())}")
    return home


def remove(home: Path) -> None:
    """End the processes of that control plane, and remove its folder."""
    end_all(home)
    shutil.rmtree(home, ignore_errors=True)


def sweep() -> list[Path]:
    """Remove the control planes whose owner is dead; their folders."""
    with _locked():
        dead = [path for path in base().iterdir() if path.is_dir() and not _owner_lives(path)]
        for home in dead:
            remove(home)
    return dead


def _owner_lives(home: Path) -> bool:
    try:
        pid, started = (home / "owner").read_text().split()
    except (FileNotFoundError, ValueError):
        return False
    return start_time(int(pid)) == started


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """One process at a time creates or sweeps: a folder has an owner, and is removed only once."""
    with (base() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
