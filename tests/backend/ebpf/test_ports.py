"""ports: what is remembered of a port, packed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from blixt_backend.planes.ebpf.ports import NO_INDEXES, PackedIndexes

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
