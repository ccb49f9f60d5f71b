"""Network namespaces: making, entering and emptying them. Needs root."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

#: Where iproute2 keeps named namespaces.
NAMED = Path("/run/netns")

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def ip_batch(lines: Iterable[str], namespace: str | None = None) -> None:
    """Run lines of `ip -batch`, in a named namespace if given. Raises RuntimeError if one fails."""
    text = "\n".join(lines) + "\n"
    where = ["-n", namespace] if namespace else []
    done = subprocess.run(
        ["ip", *where, "-batch", "-"], input=text, capture_output=True, text=True, timeout=60
    )
    if done.returncode != 0:
        numbered = "\n".join(f"{n:4} {line}" for n, line in enumerate(text.splitlines(), 1))
        raise RuntimeError(
            f"ip -batch in {namespace or 'the root namespace'}: {done.stderr.strip()}\n{numbered}"
        )


def create(names: Iterable[str]) -> None:
    """Make named namespaces, their loopback device still down."""
    ip_batch(f"netns add {name}" for name in names)


def delete(names: Iterable[str]) -> None:
    """Remove named namespaces that exist; with them go their devices."""
    present = [name for name in names if (NAMED / name).exists()]
    if present:
        ip_batch(f"netns del {name}" for name in present)


def enter(name: str) -> None:
    """Move the calling thread, and only it, into a named namespace. Raises OSError."""
    descriptor = os.open(NAMED / name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), str(NAMED / name))
    finally:
        os.close(descriptor)


def call(name: str, function: Callable[[], Result]) -> Result:
    """Run `function` in a thread of its own in a named namespace; its result or exception is passed on.

    Sockets stay in the namespace that they were made in, so those it returns can be used by any thread.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            enter(name)
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name=f"in {name}", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def processes_in(names: Iterable[str]) -> set[int]:
    """The ids of the processes whose main thread is in one of the named namespaces; never this process."""
    wanted = set()
    for name in names:
        try:
            found = (NAMED / name).stat()
        except FileNotFoundError:
            continue
        wanted.add((found.st_dev, found.st_ino))
    inside = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            found = (entry / "ns" / "net").stat()
        except OSError:  # it ended, or is a kernel thread's
            continue
        if (found.st_dev, found.st_ino) in wanted:
            inside.add(int(entry.name))
    return inside


def kill_processes_in(names: Iterable[str]) -> None:
    """SIGKILL to all processes in the named namespaces, and wait up to 5 s until they are gone."""
    listed = list(names)
    deadline = time.monotonic() + 5
    while (inside := processes_in(listed)) and time.monotonic() < deadline:
        for pid in inside:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.01)
