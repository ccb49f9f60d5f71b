"""Alias tables (Walker 1977, built as Vose 1991): a weighted choice by one
look-up, whatever the number of choices."""

from __future__ import annotations

from collections.abc import Sequence

ALWAYS = 0xFFFFFFFF
_ONE = 1 << 32
_LARGEST_WEIGHT = 0xFFFFFFFF


def alias_table(weights: Sequence[int]) -> list[tuple[int, int]]:
    """(threshold, alias position) for each position.

    A column is picked evenly; 32 random bits below `threshold` mean the column's own position, else its
    alias. Weights are integers >= 0 with a sum above 0; the arithmetic is exact up to the last rounding
    to 2^-32. A column that is all its own has itself as alias, so that 0xffffffff loses nothing.
    """
    count, total = len(weights), sum(weights)
    if total <= 0:
        raise ValueError("an alias table needs a weight above zero")
    left = [weight * count for weight in weights]  # in units where a column holds `total`
    small = [i for i, share in enumerate(left) if share < total]
    large = [i for i, share in enumerate(left) if share >= total]
    table = [(ALWAYS, position) for position in range(count)]
    while small and large:
        poor, rich = small.pop(), large[-1]
        table[poor] = (min((left[poor] * _ONE + total // 2) // total, ALWAYS), rich)
        left[rich] -= total - left[poor]
        if left[rich] < total:
            small.append(large.pop())
    return table


def scaled(weights: Sequence[int]) -> Sequence[int]:
    """Weights above 0, into 32 bits; none becomes 0."""
    largest = max(weights)
    if largest <= _LARGEST_WEIGHT:
        return weights
    return [max(weight * _LARGEST_WEIGHT // largest, 1) for weight in weights]


def shares(table: Sequence[tuple[int, int]]) -> list[float]:
    """What part of all choices each position gets: the table read backwards."""
    found = [0.0] * len(table)
    for position, (threshold, alias) in enumerate(table):
        own = 1.0 if alias == position else threshold / _ONE
        found[position] += own / len(table)
        found[alias] += (1.0 - own) / len(table)
    return found
