"""ports: what is remembered of a port, packed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt_backend.planes.ebpf.compile import PortKey
from blixt_backend.planes.ebpf.ports import NO_INDEXES, PackedIndexes, Unfit, what_is_full

SIZES = st.sampled_from([6, 8, 18, 20])
FOUND = SIZES.flatmap(
    lambda size: st.dictionaries(st.binary(min_size=size, max_size=size), st.integers(0, 2**32 - 1))
)


@given(FOUND)
def test_what_is_packed_comes_out_again(found: dict[bytes, int]) -> None:
    packed = PackedIndexes.of(found)
    assert packed.unpacked() == found
    assert list(packed.unpacked()) == list(found)
    assert (packed == NO_INDEXES) == (not found)


@pytest.mark.parametrize(
    ("full", "way_out"),
    [("slots", "raise --max-endpoints"), ("maglev_members", "that is the most there can be")],
)
def test_of_whatever_is_full_there_is_a_word(full: str, way_out: str) -> None:
    told = what_is_full([Unfit(PortKey("ns/a", "http", 6), full, 9, 8)] * 2)
    assert told.startswith(f"map {full} is full (9 of 8 entries): 2 service ports")
    assert "ns/a:http/TCP first" in told
    assert way_out in told
