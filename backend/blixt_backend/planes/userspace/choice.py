"""Which endpoint a new connection gets. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from blixt_backend.planes.shares import weights


class Target(NamedTuple):
    """An endpoint as one connects to it: the address in readable form, the port in host order."""

    address: str
    port: int


class Member(NamedTuple):
    """An endpoint among those of one side; without a target, a share to refuse."""

    target: Target | None
    group: int
    weight: int


@dataclass(frozen=True, slots=True)
class Side:
    """What new connections of one kind of client get: targets, None for a share to refuse, and their weights.

    Every weight is above 0, and no target is there twice.
    """

    targets: tuple[Target | None, ...] = ()
    weights: tuple[int, ...] = ()
    #: The running sums of the weights.
    bounds: tuple[int, ...] = ()

    @property
    def answers(self) -> bool:
        """Whether anybody may get an endpoint."""
        return any(self.targets)

    def without(self, avoided: Collection[Target]) -> Side:
        """What is left for a second try: neither those, nor what is refused."""
        return _side((t, w) for t, w in self._shares() if t is not None and t not in avoided)

    def weight(self, target: Target) -> int:
        """0: the target has no share here."""
        return next((weight for each, weight in self._shares() if each == target), 0)

    def _shares(self) -> Iterable[tuple[Target | None, int]]:
        return zip(self.targets, self.weights, strict=True)


def side(members: Iterable[Member]) -> Side:
    """Of one weight each, as is nearly always so, there is nothing to compute."""
    those = tuple(members)
    targets = dict.fromkeys(target for target, _, _ in those)
    if len(targets) == len(those) and len({(group, weight) for _, group, weight in those}) == 1:
        return _side((target, 1) for target in targets if those[0].weight)
    return _side(weights(those).items())


def choose(of: Side, point: float) -> Target | None:
    """The one whose share has the point, 0 <= point < 1, in it. None: refuse."""
    if not of.bounds:
        return None
    return of.targets[bisect_right(of.bounds, min(int(point * of.bounds[-1]), of.bounds[-1] - 1))]


def choose_least(of: Side, points: tuple[float, float], load: Callable[[Target], int]) -> Target | None:
    """Of two that are drawn by weight, the one with the smaller load for its weight; at a draw, the first."""
    first = choose(of, points[0])
    if first is None:
        return None
    second = choose(of.without((first,)), points[1])
    if second is None or load(first) * of.weight(second) <= load(second) * of.weight(first):
        return first
    return second


def _side(shares: Iterable[tuple[Target | None, int]]) -> Side:
    those = tuple(shares)
    weights = tuple(weight for _, weight in those)
    return Side(tuple(target for target, _ in those), weights, tuple(accumulate(weights)))
