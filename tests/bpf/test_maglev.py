"""Maglev tables as the kernel builds them, against the model; and what they promise."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blixt_backend.planes.ebpf.layout import IPV4, IPV6, Layout
from blixt_backend.planes.ebpf.maglev import SIZES, table_size
from blixt_model.builder import Builder, builder
from blixt_model.family import IPV4 as MODEL_4
from blixt_model.family import IPV6 as MODEL_6
from blixt_model.maglev import Identity, maglev_table

pytestmark = pytest.mark.bpf

_WEIGHTS = st.one_of(st.just(1), st.integers(1, 100), st.sampled_from((1_000_000, 0xFFFFFFFF, 1 << 40)))


@pytest.fixture(scope="module", params=[IPV4, IPV6], ids=["IPv4", "IPv6"])
def kernel(request: pytest.FixtureRequest) -> Iterator[Builder]:
    with builder(request.param) as made:
        yield made


def identity(layout: Layout, number: int) -> bytes:
    address = bytes([10, 0]) + bytes(layout.size - 4) + number.to_bytes(2, "big")
    return address + (8080).to_bytes(2, "big")


def equal(layout: Layout, count: int) -> dict[Identity, int]:
    return {identity(layout, number): 1 for number in range(1, count + 1)}


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.one_of(st.none(), st.integers(1, 60000)), _WEIGHTS, min_size=1, max_size=25),
    st.randoms(use_true_random=False),
)
def test_the_kernel_builds_what_the_model_says_whatever_a_node_calls_its_endpoints(
    kernel: Builder, numbers: dict[int | None, int], rng: random.Random
) -> None:
    layout = kernel.layout
    weights = {None if n is None else identity(layout, n): weight for n, weight in numbers.items()}
    largest = max(weights.values())
    if largest > 0xFFFFFFFF:  # rule 9 has weights of 32 bits
        scaled = {who: max(weight * 0xFFFFFFFF // largest, 1) for who, weight in weights.items()}
    else:
        scaled = weights
    family = MODEL_4 if layout is IPV4 else MODEL_6
    wanted = maglev_table(scaled, table_size(len(weights)), family)
    for _ in range(2):  # two nodes
        order = list(weights)
        rng.shuffle(order)
        indexes = rng.sample(range(1, 5000), len(order))
        assert kernel.build({who: weights[who] for who in order}, indexes) == wanted


@pytest.mark.parametrize("count", [1, 2, 10, 100, 1000])
def test_endpoints_of_one_weight_have_the_same_number_of_slots(kernel: Builder, count: int) -> None:
    slots = Counter(kernel.build(equal(kernel.layout, count), range(1, count + 1)))
    assert len(slots) == count
    assert max(slots.values()) - min(slots.values()) <= 1


@pytest.mark.parametrize(
    "weights", [(90, 10), (1, 1, 98), (1000, 1), (3, 2, 1, 5, 7), (1,) * 20 + (1000,), (5,) * 50 + (1,) * 50]
)
def test_a_share_is_off_by_a_slot_at_most_for_each_member(kernel: Builder, weights: tuple[int, ...]) -> None:
    wanted: dict[Identity, int] = {
        identity(kernel.layout, number): weight for number, weight in enumerate(weights, 1)
    }
    table = kernel.build(wanted, range(1, len(weights) + 1))
    slots, total = Counter(table), sum(weights)
    for who, weight in wanted.items():
        exact = weight * len(table) / total
        assert slots[who] >= 1
        # Who has least gets a first turn early, at the others' expense.
        assert -len(weights) <= slots[who] - exact <= 1 + weight / (total / len(weights))


@pytest.mark.parametrize(("count", "moved"), [(3, 0.05), (10, 0.05), (15, 0.05), (100, 0.03), (1000, 0.06)])
def test_few_slots_of_others_move_when_one_endpoint_goes(kernel: Builder, count: int, moved: float) -> None:
    everyone = equal(kernel.layout, count)
    gone = identity(kernel.layout, count // 2 + 1)
    before = kernel.build(everyone, range(1, count + 1))
    fewer: dict[Identity, int] = {who: 1 for who in everyone if who != gone}
    after = kernel.build(fewer, range(1, count))
    assert len(before) == len(after)
    others = [(a, b) for a, b in zip(before, after, strict=True) if a != gone]
    assert sum(a != b for a, b in others) <= moved * len(others)


def test_the_largest_table_is_built_with_the_worst_weights(kernel: Builder) -> None:
    count = SIZES[-1] // 100
    weights = dict.fromkeys(equal(kernel.layout, count), 1)
    weights[identity(kernel.layout, 1)] = 0xFFFFFFFF
    slots = Counter(kernel.build(weights, range(1, count + 1)))
    assert len(slots) == count
    assert slots.total() == SIZES[-1]


def test_sizes_are_primes_for_at_least_a_hundred_slots_each() -> None:
    assert all(all(size % factor for factor in range(2, int(size**0.5) + 1)) for size in SIZES)
    assert [table_size(count) for count in (1, 5, 6, 20, 1000, 5242, 16384)] == [
        *(509, 509, 2039, 2039, 131071, 524287, 524287)
    ]
