"""A network namespace for each test that needs one."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@pytest.fixture
def namespace() -> Iterator[Callable[[str], None]]:
    """This thread, and those that it starts, in an empty network namespace; the value runs `ip` there."""
    with Path("/proc/thread-self/ns/net").open() as home:
        _checked(_libc.unshare(_CLONE_NEWNET))
        try:
            yield lambda command: _ip(command)
        finally:
            _checked(_libc.setns(home.fileno(), _CLONE_NEWNET))


def _ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True, timeout=10)
