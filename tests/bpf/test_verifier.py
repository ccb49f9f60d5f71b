"""What the verifier goes through to let the programs in, on this kernel: far from where it gives up."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from blixt_backend.planes.ebpf.libbpf import BpfObject, checked, library

pytestmark = pytest.mark.bpf

OBJECTS = Path(__file__).parents[2] / "backend/blixt_backend/objects"
#: BPF_COMPLEXITY_LIMIT_INSNS of the kernel.
LIMIT = 1_000_000
#: BPF_LOG_STATS: its last lines only.
_STATISTICS = 4
_LOG_BYTES = 1 << 16
_PROCESSED = re.compile(rb"processed (\d+) insns \(limit (\d+)\)")


@pytest.mark.parametrize("name", ["blixt4", "blixt6", "sock4", "sock6", "task4", "task6"])
def test_no_program_takes_half_of_what_the_verifier_allows(name: str, processed: dict[str, int]) -> None:
    found = dict(instructions(OBJECTS / f"{name}.bpf.o"))
    assert found, "no program told"
    processed |= {f"{name}: {program}": count for program, count in found.items()}
    assert {program: count for program, count in found.items() if count >= LIMIT // 2} == {}


def instructions(path: Path) -> Iterator[tuple[str, int]]:
    """Each program with the instructions that were processed for it."""
    opened = BpfObject(path)
    buffers = {program: ctypes.create_string_buffer(_LOG_BYTES) for program in opened.programs}
    try:
        for handle in opened.maps.values():
            checked(library().bpf_map__set_pin_path(handle, None), "leaving a map unpinned")
        for program, handle in opened.programs.items():
            pointer = ctypes.c_void_p(handle)
            checked(library().bpf_program__set_log_level(pointer, _STATISTICS), "asking for statistics")
            size = ctypes.c_size_t(_LOG_BYTES)
            checked(library().bpf_program__set_log_buf(pointer, buffers[program], size), "giving it room")
        opened.load()
    finally:
        opened.close()
    for program, buffer in buffers.items():
        told = _PROCESSED.search(buffer.value)
        assert told, f"{program}: the verifier told nothing: {buffer.value!r}"
        assert int(told[2]) == LIMIT
        yield program, int(told[1])
