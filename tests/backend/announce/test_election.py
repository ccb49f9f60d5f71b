"""Who answers: the same everywhere, one, and few moves."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from blixt_backend.announce.election import holder
from blixt_backend.model import PackedAddress
from blixt_fakes.segment import ip

NODES = st.frozensets(st.text(min_size=1, max_size=20), max_size=8)
ADDRESSES = st.sampled_from([4, 16]).flatmap(
    lambda size: st.binary(min_size=size, max_size=size).map(PackedAddress)
)
MANY = [ip(f"192.0.{a}.{b}") for a in range(4) for b in range(256)]


@given(ADDRESSES, NODES, st.randoms())
def test_one_of_the_candidates_whatever_their_order(
    address: PackedAddress, nodes: frozenset[str], random: object
) -> None:
    ordered = sorted(nodes)
    assert holder(address, ordered) == holder(address, reversed(ordered)) == holder(address, nodes)
    assert (holder(address, nodes) in nodes) if nodes else (holder(address, nodes) is None)


@given(ADDRESSES, NODES, st.text(min_size=1, max_size=20))
def test_who_comes_takes_only_what_is_its_own_and_who_goes_leaves_only_that(
    address: PackedAddress, nodes: frozenset[str], one: str
) -> None:
    without, with_ = holder(address, nodes - {one}), holder(address, nodes | {one})
    assert with_ in (without, one)


def test_addresses_spread_evenly_and_a_tenth_of_them_moves_with_a_tenth_node() -> None:
    nine = [f"node{n}" for n in range(9)]
    before = {address: holder(address, nine) for address in MANY}
    after = {address: holder(address, [*nine, "node9"]) for address in MANY}
    assert min(Counter(before.values()).values()) > len(MANY) / 9 / 2
    assert 0 < sum(before[address] != after[address] for address in MANY) < len(MANY) / 10 * 2


def test_another_process_comes_to_the_same() -> None:
    program = (
        "from blixt_backend.announce.election import holder\n"
        "print(*(holder(bytes((192, 0, 2, n)), ['a', 'b', 'c']) for n in range(50)))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == [holder(ip(f"192.0.2.{n}"), ["a", "b", "c"]) for n in range(50)]


def test_it_stays_as_it_is() -> None:
    """Nodes of different versions must agree, during an upgrade at least."""
    found = [holder(ip(a), ["node1", "node2", "node3"]) for a in ("192.0.2.1", "192.0.2.2", "2001:db8::1")]
    assert found == ["node3", "node2", "node1"]
