"""Work that the kernel does for us: the programs of bpf/task.bpf.c, one family's."""

from __future__ import annotations

import errno
from array import array
from collections.abc import Iterable
from pathlib import Path

from blixt_backend.planes.ebpf.layout import Layout
from blixt_backend.planes.ebpf.libbpf import BpfError, run_syscall_program
from blixt_backend.planes.ebpf.maglev import Recipe
from blixt_backend.planes.ebpf.maps import BpfMap
from blixt_backend.planes.ebpf.programs import OBJECTS, ON_REQUEST, Programs
from blixt_backend.planes.ebpf.sizes import Sizes


class Tasks:
    """Loaded on the maps that are pinned in a folder. Calls block, one at a time."""

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self._layout = programs.layout
        self._members = BpfMap.borrowed(programs.map_fd("maglev_members"))

    @classmethod
    def load(cls, layout: Layout, folder: Path, sizes: Sizes, objects: Path = OBJECTS) -> Tasks:
        """Raises PlaneError, BpfError."""
        return cls(Programs.load(layout, folder, sizes, {}, objects, ON_REQUEST))

    def build_maglev(self, jobs: Iterable[tuple[int, Recipe]]) -> None:
        """Make tables from their recipes, each from an entry of `maglev` on. Raises BpfError."""
        for first, recipe in jobs:
            keys = array("I", range(recipe.count)).tobytes()
            self._members.update_joined(keys, recipe.members)
            job = recipe.job(self._layout, first)
            if run_syscall_program(self._programs.fds["build_maglev"], job) != 0:
                raise BpfError(errno.EIO, f"building a Maglev table of {recipe.count} endpoints")

    def recount_connections(self) -> None:
        """Count the open connections of all endpoints that are to be counted. Raises BpfError."""
        run_syscall_program(self._programs.fds["recount_connections"])

    def count_remaining(self) -> int:
        """How many flows go on; entries of those that don't are deleted. Raises BpfError."""
        return run_syscall_program(self._programs.fds["count_remaining"])

    def close(self) -> None:
        self._members.close()
        self._programs.close()
