"""Which endpoint gets a connection: shares, and the point in them."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from blixt_backend.planes.userspace.choice import Member, Side, Target, choose, choose_least, side

ONE, TWO, THREE = (Target(f"10.0.0.{n}", 80) for n in (1, 2, 3))
targets = st.sampled_from([None, ONE, TWO, THREE])
members = st.lists(st.builds(Member, targets, st.integers(0, 3), st.integers(0, 5)), max_size=8)
points = st.floats(0, 1, exclude_max=True)


def test_a_groups_weight_is_shared_evenly() -> None:
    of = side([Member(ONE, 1, 3), Member(TWO, 1, 3), Member(None, 2, 1)])
    assert dict(zip(of.targets, of.weights, strict=True)) == {ONE: 3, TWO: 3, None: 2}


def test_nobody_is_chosen_of_nobody() -> None:
    assert side([]) == Side()
    assert choose(Side(), 0.5) is None
    assert side([Member(ONE, 1, 0)]) == Side()


@given(members)
def test_shares_are_those_of_the_weights(those: list[Member]) -> None:
    sizes = Counter(member.group for member in those)
    wanted: Counter[Target | None] = Counter()
    for member in those:
        wanted[member.target] += Fraction(member.weight, sizes[member.group])  # type: ignore[assignment]
    of = side(those)
    whole = sum(wanted.values())
    got = {t: Fraction(w, sum(of.weights)) for t, w in zip(of.targets, of.weights, strict=True)}
    assert got == {target: share / whole for target, share in wanted.items() if share}


@given(members)
def test_points_that_are_spread_evenly_give_each_exactly_its_share(those: list[Member]) -> None:
    of = side(those)
    whole = sum(of.weights)
    got = Counter(choose(of, (n + 0.5) / whole) for n in range(whole))
    assert got == Counter(dict(zip(of.targets, of.weights, strict=True)))


@given(members, points)
def test_a_second_try_never_gets_who_was_tried(those: list[Member], point: float) -> None:
    of = side(those)
    tried: set[Target] = set()
    while (target := choose(of.without(tried), point)) is not None:
        assert target not in tried
        assert target in of.targets
        tried.add(target)
    assert tried == set(of.targets) - {None}


@given(members, points, points, st.dictionaries(targets, st.integers(0, 9)))
def test_least_connections_takes_one_of_the_side_and_refuses_as_chance_does(
    those: list[Member], first: float, second: float, loads: dict[Target | None, int]
) -> None:
    of = side(those)
    target = choose_least(of, (first, second), lambda each: loads.get(each, 0))
    assert (target is None) == (choose(of, first) is None)
    assert target is None or target in of.targets


def test_least_connections_compares_loads_by_weight() -> None:
    of = side([Member(ONE, 1, 1), Member(TWO, 2, 3)])
    assert choose_least(of, (0.0, 0.0), {ONE: 1, TWO: 2}.__getitem__) == TWO
    assert choose_least(of, (0.0, 0.0), {ONE: 1, TWO: 3}.__getitem__) == ONE, "even: the first"
    assert choose_least(of, (0.0, 0.0), {ONE: 0, TWO: 0}.__getitem__) == ONE
