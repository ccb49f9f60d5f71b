"""Alias tables give each choice its weight's share, exactly."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt_backend.planes.ebpf.alias import ALWAYS, alias_table, shares

weights_of = st.lists(st.integers(0, 1 << 40), min_size=1, max_size=60).filter(any)


@given(weights_of)
def test_shares_equal_the_weights(weights: list[int]) -> None:
    total = sum(weights)
    for weight, share in zip(weights, shares(alias_table(weights)), strict=True):
        assert abs(Fraction(weight, total) - Fraction(share)) <= Fraction(1, 1 << 31)


@given(weights_of)
def test_columns_are_within_the_table(weights: list[int]) -> None:
    table = alias_table(weights)
    assert len(table) == len(weights)
    assert all(0 <= threshold <= ALWAYS and 0 <= alias < len(table) for threshold, alias in table)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 1000])
def test_equal_weights_need_no_coin(count: int) -> None:
    assert alias_table([5] * count) == [(ALWAYS, position) for position in range(count)]


def test_a_weight_of_zero_is_never_chosen() -> None:
    assert shares(alias_table([3, 0, 1])) == [0.75, 0.0, 0.25]


def test_a_huge_table_beside_a_tiny_weight() -> None:
    found = shares(alias_table([1, *[1_000_000] * 4999]))
    assert abs(sum(found) - 1) < 1e-9
    assert found[0] == pytest.approx(1 / (1 + 4999 * 1_000_000), abs=2**-31)


@pytest.mark.parametrize("weights", [[], [0], [0, 0]])
def test_no_weight_at_all_is_refused(weights: list[int]) -> None:
    with pytest.raises(ValueError, match="above zero"):
        alias_table(weights)
