"""Weights become slots; slots stay where they are."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt_backend.planes.nftables.choice import MOST_SLOTS
from blixt_backend.planes.nftables.slots import (
    MOST_WEIGHTED,
    Slots,
    Target,
    apportion,
    arrange,
    numbers,
    place,
    slot,
)

targets = st.tuples(st.integers(1, 9).map(lambda n: f"10.0.0.{n}"), st.just(80))
some_slots = st.lists(st.one_of(st.none(), targets), max_size=12).map(tuple)


def _target(number: int) -> Target:
    return f"10.0.{number >> 8}.{number & 255}", 80


@given(st.lists(st.integers(1, 1_000_000), min_size=1, max_size=40))
def test_shares_are_right_to_a_part_in_many(weights: list[int]) -> None:
    shares: dict[Target | None, int] = {_target(number): weight for number, weight in enumerate(weights)}
    given_slots = apportion(shares)
    slots, total = given_slots.total(), sum(weights)
    assert slots == (total if total <= MOST_WEIGHTED else MOST_WEIGHTED)
    for number, weight in enumerate(weights):
        assert given_slots[_target(number)] >= 1
        if total <= MOST_WEIGHTED:
            assert given_slots[_target(number)] == weight
        else:
            # Each is sure of one slot; what those are too many for is missing elsewhere.
            off = given_slots[_target(number)] / slots - weight / total
            assert abs(off) <= (len(weights) + 1) / MOST_WEIGHTED


def test_more_endpoints_than_slots_for_weights_have_one_each_at_least() -> None:
    many: dict[Target | None, int] = {
        _target(number): 1 + (number == 0) * 10**6 for number in range(MOST_SLOTS)
    }
    given_slots = apportion(many)
    assert given_slots.total() == MOST_SLOTS
    assert min(given_slots.values()) == 1


@given(some_slots, some_slots)
def test_arranging_changes_no_share(held: Slots, wanted: Slots) -> None:
    assert Counter(arrange(held, wanted)) == Counter(wanted)
    assert len(arrange(held, wanted)) == len(wanted)


@given(some_slots, some_slots)
def test_arranging_moves_as_little_as_can_be(held: Slots, wanted: Slots) -> None:
    kept = sum(one == other for one, other in zip(held, arrange(held, wanted), strict=False))
    could = Counter(held[: len(wanted)]) & Counter(wanted)
    assert kept >= could.total()


def test_one_endpoint_that_goes_moves_the_last_one_only() -> None:
    held = tuple(_target(number) for number in range(5))
    assert arrange(held, (held[0], *held[2:])) == (held[0], held[4], held[2], held[3])


@given(st.sets(targets))
def test_endpoints_have_numbers_of_their_own_that_are_no_slots(found: set[Target]) -> None:
    given_numbers = numbers(found)
    assert given_numbers.keys() == found
    assert len(set(given_numbers.values())) == len(found)
    assert all(place(number) > MOST_SLOTS for number in given_numbers.values())


def test_numbers_that_would_be_the_same_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zlib.crc32", lambda data: 2**23 - 1)
    found = [_target(1), _target(2)]
    assert numbers(found) == {_target(1): "b1ff:ffff", _target(2): "b180:0"}


@given(st.integers(0, MOST_SLOTS))
def test_slots_come_back(number: int) -> None:
    assert place(slot(number)) == number
