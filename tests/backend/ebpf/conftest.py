"""A BPF file system and a network namespace for each test that needs one; models made short to write."""

from __future__ import annotations

import ctypes
import ipaddress
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from blixt_backend.model import PackedAddress

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@pytest.fixture
def bpffs(tmp_path: Path) -> Iterator[Path]:
    """An empty BPF file system."""
    point = tmp_path / "bpf"
    point.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", point], check=True, timeout=10)
    try:
        yield point
    finally:
        subprocess.run(["umount", "--lazy", point], check=True, timeout=10)


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


@pytest.fixture
def packed() -> Callable[[str], PackedAddress]:
    return lambda text: PackedAddress(ipaddress.ip_address(text).packed)
