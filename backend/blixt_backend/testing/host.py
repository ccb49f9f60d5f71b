"""A host of the lab: a thread that lives in a network namespace of its own.

The namespace has no name and no process: it is gone when its thread, its sockets and its programs are, so a
test run that is killed leaves nothing behind.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

_CLONE_NEWNET = 0x40000000


class Host:
    """What happens in it is done by its one thread, one thing after the other."""

    def __init__(self, name: str, address4: str = "", address6: str = "", *, local: bool = False) -> None:
        """`local`: the node under test has it as a pod. Raises OSError unless root."""
        self.name = name
        self.address4, self.address6 = address4, address6
        self.local = local
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._thread.submit(_unshare).result()
        #: What `ip` and setns(2) know the namespace by.
        self.thread_id = self.call(threading.get_native_id)

    def call(self, function: Callable[[], Result]) -> Result:
        """Run a function here, and wait for its result."""
        return self._thread.submit(function).result()

    def socket(self, family: int, kind: int) -> socket.socket:
        """A socket of this host's, which any thread may use."""
        return self.call(lambda: socket.socket(family, kind))

    def start(self, target: Callable[[], object]) -> threading.Thread:
        """Run a function here in a further thread, which ends with this process."""
        thread = threading.Thread(target=target, name=f"on {self.name}", daemon=True)
        # A new thread is in its creator's namespace.
        self.call(thread.start)
        return thread

    def run(self, *argv: str, stdin: str | None = None) -> str:
        """Run a program here to its end; its output. Raises RuntimeError with what it complained of."""
        done = self.call(
            lambda: subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=60)
        )
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}: {' '.join(argv)} failed: {done.stderr.strip()}\n{stdin or ''}")
        return done.stdout

    def ip(self, *lines: str) -> None:
        """Run lines of `ip` here."""
        self.run("ip", "-batch", "-", stdin="\n".join(lines) + "\n")

    def sysctl(self, settings: Mapping[str, int]) -> None:
        """Set what is below /proc/sys/net, by names with slashes."""

        def write() -> None:
            for name, value in settings.items():
                Path("/proc/sys/net", name).write_text(str(value))

        self.call(write)

    def close(self) -> None:
        self._thread.shutdown()


def _unshare() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"a network namespace can't be made: {os.strerror(number)}")
