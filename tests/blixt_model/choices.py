"""Decisions read off bytes: zero is the simplest choice, and all there is when the bytes are used up.

Hypothesis makes the bytes in one draw, a hundred times quicker than a draw for every decision, and what it
makes smaller and shorter when it looks for the least example becomes simpler here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Choices:
    def __init__(self, data: bytes) -> None:
        self._data = iter(data)

    def below(self, limit: int) -> int:
        """A number in [0, limit), limit at most 256."""
        return next(self._data, 0) % limit

    def one_of(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def rarely(self, one_in: int) -> bool:
        return self.below(one_in) == one_in - 1
