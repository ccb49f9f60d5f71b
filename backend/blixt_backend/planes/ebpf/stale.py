"""Runs the programs that end sockets whose endpoint left (bpf/stale.h), wherever such sockets may be.

They walk the sockets of the network namespace that their reader is in, so a thread goes round: through
those of the processes in the cgroup, which are the node's own and the pods'.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from blixt_backend.planes.ebpf.libbpf import BpfError, checked, library

log = logging.getLogger(__name__)

PROGRAMS = ("end_tcp", "end_udp")
#: The kernel's function that they call.
NEEDED = "bpf_sock_destroy"
_BPF_TRACE_ITER = 28
_CLONE_NEWNET = 0x40000000
_READ = 4096


class Ender:
    """The programs of one family, ready to run."""

    def __init__(self, programs: Mapping[str, int]) -> None:
        """May raise BpfError."""
        self._links: list[int] = []
        for name in PROGRAMS:
            made = library().bpf_link_create(programs[name], 0, _BPF_TRACE_ITER, None)
            self._links.append(checked(made, f"making program {name} an iterator"))

    def run(self) -> None:
        """In the calling thread's network namespace. Raises OSError."""
        for link in self._links:
            walk = checked(library().bpf_iter_create(link), "walking the sockets of a network namespace")
            try:
                while os.read(walk, _READ):
                    pass
            finally:
                os.close(walk)

    def close(self) -> None:
        for link in self._links:
            os.close(link)
        self._links = []


def run_here(enders: list[Ender]) -> None:
    """In this process's network namespace only; a failure is only logged."""
    try:
        for ender in enders:
            ender.run()
    except OSError as error:
        log.warning("sockets whose endpoint left are not ended: %s", error)


def run_everywhere(enders: list[Ender], cgroup: Path) -> None:
    """In all network namespaces of the processes in the cgroup; a failure in one of them is only logged."""

    def go_round() -> None:
        for namespace in _namespaces(cgroup):
            try:
                _enter(namespace)
                for ender in enders:
                    ender.run()
            except FileNotFoundError:  # its last process has ended
                continue
            except OSError as error:
                log.warning("sockets in %s whose endpoint left are not ended: %s", namespace, error)

    # A thread that ends: none of the others may find itself in another namespace.
    thread = threading.Thread(target=go_round, name="stale-sockets", daemon=True)
    thread.start()
    thread.join()


def hides_processes(cgroup: Path) -> bool:
    """Whether some of the cgroup's processes have no number in this container."""
    return any(pid == 0 for pid in _processes(cgroup))


def _namespaces(cgroup: Path) -> Iterator[Path]:
    """One process's /proc/PID/ns/net for each namespace; in a container, of the processes that it can see."""
    seen = set()
    for pid in filter(None, _processes(cgroup)):
        path = Path(f"/proc/{pid}/ns/net")
        with suppress(OSError):  # it has ended
            inode = path.stat().st_ino
            if inode not in seen:
                seen.add(inode)
                yield path


def _processes(cgroup: Path) -> Iterator[int]:
    for folder, _, _ in os.walk(cgroup):
        try:
            listed = Path(folder, "cgroup.procs").read_text()
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                continue  # the cgroup has gone
            listed = _threads(Path(folder))
        yield from map(int, listed.split())


def _threads(folder: Path) -> str:
    """Of a threaded cgroup, which lists no processes."""
    try:
        return (folder / "cgroup.threads").read_text()
    except OSError:
        return ""


def _enter(namespace: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(descriptor, _CLONE_NEWNET) != 0:
            raise BpfError(ctypes.get_errno(), "entering it")
    finally:
        os.close(descriptor)
