"""bpf/crc32c.h, compiled for this machine: what a sum changes by, beside sums taken of the whole messages."""

from __future__ import annotations

import ctypes
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.sctp import crc32c as scapy_crc32c

from blixt_backend.testing.traffic.sctp import crc32c as kit_crc32c
from blixt_model.crc32c import crc32c

BPF = Path(__file__).parents[2] / "bpf"
#: RFC 3720, B.4, and the check value of CRC-32C (Castagnoli) in the catalogue of parametrised CRCs.
VECTORS = {
    bytes(32): 0x8A9136AA,
    b"\xff" * 32: 0x62A8AB43,
    bytes(range(32)): 0x46DD794E,
    bytes(reversed(range(32))): 0x113FDB5C,
    b"123456789": 0xE3069283,
}
_SOURCE = """
#include <linux/types.h>
#include "crc32c.h"

__u32 change(__u32 difference, __u32 length)
{
	return crc32c_change(difference, length);
}
"""
Change = Callable[[int, int], int]
four = st.binary(min_size=4, max_size=4)


@pytest.fixture(scope="module")
def change(tmp_path_factory: pytest.TempPathFactory) -> Change:
    """crc32c_change."""
    folder = tmp_path_factory.mktemp("crc32c")
    source, made = folder / "crc32c.c", folder / "crc32c.so"
    source.write_text(_SOURCE)
    headers = ["-I", str(BPF), "-I", f"/usr/include/{platform.machine()}-linux-gnu"]
    flags = ["-O2", "-shared", "-fPIC"]
    subprocess.run(["clang", *flags, *headers, str(source), "-o", str(made)], check=True)
    function = ctypes.CDLL(str(made)).change
    function.restype = ctypes.c_uint32
    function.argtypes = [ctypes.c_uint32, ctypes.c_uint32]
    return function


@pytest.mark.parametrize("message", list(VECTORS))
def test_whole_sums_are_the_ones_that_are_published(message: bytes) -> None:
    assert crc32c(message) == kit_crc32c(message) == VECTORS[message]


@given(four, four, st.binary(max_size=3000))
def test_the_change_leads_from_one_sum_to_the_other(
    change: Change, before: bytes, after: bytes, rest: bytes
) -> None:
    found = crc32c(before + rest) ^ change(difference(before, after), 4 + len(rest))
    assert found == crc32c(after + rest)


@given(four, four, st.integers(4, 65535))
def test_it_does_so_whatever_the_length(change: Change, before: bytes, after: bytes, length: int) -> None:
    """Taken from an all-zero message, whose sums scapy reckons too."""
    rest = bytes(length - 4)
    sums = [scapy_crc32c(message) for message in (before + rest, after + rest)]  # type: ignore[no-untyped-call]
    wanted = sums[0] ^ sums[1]
    # scapy has the packet's byte order.
    swapped = int.from_bytes(wanted.to_bytes(4, "big"), "little")
    assert change(difference(before, after), length) == swapped


def difference(before: bytes, after: bytes) -> int:
    return int.from_bytes(before, "little") ^ int.from_bytes(after, "little")
