"""memory: what is cleared up after a full set."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator

import pytest

from blixt_backend import memory

#: Frees 64 MB in blocks of 32 KB below one that stays, and tells what is resident before and after.
_FREES = """
from blixt_backend import memory

def resident():
    return int(open("/proc/self/statm").read().split()[1])

memory.begin()
blocks = [bytearray(32 << 10) for _ in range(2048)]
stays = bytearray(32 << 10)
full = resident()
del blocks
memory.clear_up()
print(full - resident())
"""


class Cycle:
    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def _thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("_thawed")
def test_what_stays_is_left_alone_and_garbage_goes_even_if_it_stayed_once() -> None:
    stays = Cycle()
    seen = weakref.ref(stays)
    memory.clear_up()
    assert gc.get_freeze_count() > 0
    del stays
    gc.collect()
    assert seen() is not None  # no longer looked at
    memory.clear_up()
    assert seen() is None


def test_what_was_freed_goes_back_to_the_kernel() -> None:
    told = subprocess.run([sys.executable, "-c", _FREES], check=True, capture_output=True, text=True)
    pages = int(told.stdout)
    assert pages * 4096 > 60 << 20
