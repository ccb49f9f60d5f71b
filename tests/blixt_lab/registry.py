"""Which labs there are on this machine, who owns them, and the removal of those whose owner died.

A lab's folder is RUN/<id>, with the files `owner` (process id and start time, never reused together),
`namespaces` (one name a line) and, if its owner left it up on purpose, `keep`. Its bpffs is at RUN/<id>/bpf.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from blixt_lab import cgroups, namespaces

RUN = Path("/run/blixt-lab")
PREFIX = "blixt-"


@dataclass(frozen=True, slots=True)
class Entry:
    """One lab's folder."""

    folder: Path

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def bpffs(self) -> Path:
        return self.folder / "bpf"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def kept(self) -> bool:
        return (self.folder / "keep").exists()

    def keep(self) -> None:
        """Leave this lab up when its owner ends: only `remove` takes it away."""
        (self.folder / "keep").touch()

    def namespaces(self) -> list[str]:
        try:
            return (self.folder / "namespaces").read_text().split()
        except FileNotFoundError:
            return []

    def add_namespaces(self, names: Iterable[str]) -> None:
        """Make namespaces. They are written down first, so that a killed run's leftovers are always found."""
        listed = list(names)
        with (self.folder / "namespaces").open("a") as file:
            file.writelines(f"{name}\n" for name in listed)
        namespaces.create(listed)

    def add_cgroup(self, name: str) -> Path:
        """Make a cgroup for some of this lab's processes. It is written down first, too."""
        folder = cgroups.own() / f"{PREFIX}{self.id}-{name}"
        with (self.folder / "cgroups").open("a") as file:
            file.write(f"{folder}\n")
        cgroups.create(folder)
        return folder

    def cgroups(self) -> list[Path]:
        try:
            return [Path(line) for line in (self.folder / "cgroups").read_text().splitlines()]
        except FileNotFoundError:
            return []

    def owner_lives(self) -> bool:
        try:
            pid, started = (self.folder / "owner").read_text().split()
        except (FileNotFoundError, ValueError):
            return False
        return _start_time(int(pid)) == started

    def remove(self) -> None:
        """End the lab's processes; remove its namespaces, cgroups, bpffs (with what is pinned) and folder."""
        names = self.namespaces()
        namespaces.kill_processes_in(names)
        namespaces.delete(names)
        cgroups.delete(self.cgroups())
        if os.path.ismount(self.bpffs):
            subprocess.run(["umount", "--lazy", str(self.bpffs)], check=True, timeout=30)
        shutil.rmtree(self.folder, ignore_errors=True)


def register() -> Entry:
    """Make a new lab's folder, owned by this process, with a bpffs of its own."""
    with _locked():
        folder = RUN / secrets.token_hex(4)
        folder.mkdir()
        (folder / "owner").write_text(f"{os.getpid()} {_start_time(os.getpid())}")
    entry = Entry(folder)
    entry.logs.mkdir()
    entry.bpffs.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", str(entry.bpffs)], check=True, timeout=30)
    return entry


def entries() -> Iterator[Entry]:
    """All labs of this machine."""
    if RUN.is_dir():
        for folder in sorted(path for path in RUN.iterdir() if path.is_dir()):
            yield Entry(folder)


def find(lab_id: str) -> Entry:
    """The lab of that id. Raises KeyError."""
    for entry in entries():
        if entry.id == lab_id:
            return entry
    raise KeyError(lab_id)


def sweep() -> list[str]:
    """Remove the labs whose owner is dead and did not keep them; their ids."""
    with _locked():
        dead = [entry for entry in entries() if not entry.kept and not entry.owner_lives()]
        for entry in dead:
            entry.remove()
    return [entry.id for entry in dead]


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """One process at a time registers or sweeps: a folder has an owner, and is removed only once."""
    RUN.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (RUN / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start_time(pid: int) -> str:
    """The process's start in clock ticks since boot, field 22 of proc(5)'s stat; empty when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    state, *rest = stat.rpartition(")")[2].split()
    return "" if state == "Z" else rest[18]
