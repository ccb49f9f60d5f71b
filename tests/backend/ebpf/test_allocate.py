"""Numbers are given out once, come back after a change is written, and run out with a name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt_backend.planes.ebpf.allocate import FullError, Indexes, Ranges


def test_a_released_number_is_not_taken_within_the_same_change() -> None:
    indexes = Indexes("endpoints", 4)
    assert indexes.take(3) == [1, 2, 3]
    indexes.release(2)
    with pytest.raises(FullError, match="endpoints: 3 of 3"):
        indexes.take(1)
    indexes.settle()
    assert indexes.take(1) == [2]


def test_gaps_that_the_kernel_shows_are_used() -> None:
    indexes = Indexes("endpoints", 7, used={1, 4})
    assert sorted(indexes.take(4)) == [2, 3, 5, 6]


def test_taking_too_many_takes_none() -> None:
    indexes = Indexes("counters", 4)
    with pytest.raises(FullError):
        indexes.take(4)
    assert indexes.take(3) == [1, 2, 3]


def test_neighbouring_free_ranges_become_one() -> None:
    ranges = Ranges("slots", 12)
    starts = [ranges.take(3) for _ in range(4)]
    for start in starts[:3]:
        ranges.release(start, 3)
    with pytest.raises(FullError):
        ranges.take(1)
    ranges.settle()
    assert ranges.take(9) == 0


def test_ranges_fill_the_gaps_between_used_ones() -> None:
    ranges = Ranges("slots", 10, used=[(2, 3), (7, 1)])
    taken = {ranges.take(2), ranges.take(2), ranges.take(2)}
    assert taken == {0, 5, 8}
    with pytest.raises(FullError, match="10 of 10"):
        ranges.take(1)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9), st.booleans()), max_size=200))
def test_ranges_never_overlap_and_none_is_lost(steps: list[tuple[bool, int, bool]]) -> None:
    ranges = Ranges("slots", 64)
    held: dict[int, int] = {}
    for take, number, settle in steps:
        if take or not held:
            try:
                held[ranges.take(number)] = number
            except FullError:
                ranges.settle()
                continue
        else:
            start = sorted(held)[number % len(held)]
            ranges.release(start, held.pop(start))
        if settle:
            ranges.settle()
        covered = [entry for start, count in held.items() for entry in range(start, start + count)]
        assert len(covered) == len(set(covered))
        assert all(0 <= entry < 64 for entry in covered)
    for start, count in held.items():
        ranges.release(start, count)
    ranges.settle()
    assert ranges.used == 0
    assert ranges.take(64) == 0
