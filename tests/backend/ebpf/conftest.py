"""A BPF file system for each test that needs one; models made short to write."""

from __future__ import annotations

import ipaddress
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from blixt_backend.model import PackedAddress


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
def packed() -> Callable[[str], PackedAddress]:
    return lambda text: PackedAddress(ipaddress.ip_address(text).packed)
