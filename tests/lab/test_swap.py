"""Planes are swapped on a node under load: the new one takes what begins, the old one keeps what it has."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from blixt_lab import cluster
from blixt_lab.stream import compiled, start_echoes
from blixt_lab.swapping import Swapped, record

pytestmark = [pytest.mark.lab]

PLANES = ("ebpf", "nftables")
PAIRS = [(before, after) for before in PLANES for after in PLANES if before != after]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("stream"))


@pytest.fixture
def swapped(program: Path) -> Iterator[Swapped]:
    """No backend runs yet on node1, whose plane is swapped; clients' packets come to it."""
    with cluster(nodes=2, pods=2, clients=1) as built:
        start_echoes(built.lab, program, built.pods)
        yield Swapped(built, program)


@pytest.mark.parametrize(("before", "after"), PAIRS, ids=lambda plane: str(plane))
def test_nothing_is_lost(swapped: Swapped, before: str, after: str) -> None:
    swapped.start(before)
    with swapped.streaming() as streaming:
        time.sleep(2)
        taken = swapped.taken(before)
        swapped.swap(after)
        swapped.wait_for_log(f"plane {before} takes no new flows")
        at_swap = swapped.taken(before)
        time.sleep(4)
        assert swapped.taken(before) == at_swap > taken, "the old plane takes nothing new"
        assert swapped.taken(after) > 500, "the new one does"
        outcome = streaming.stop()
    record(f"{before} to {after}", outcome)
    assert (outcome.lost, outcome.failed) == (0, 0), outcome
    assert outcome.held >= 200
    assert outcome.unanswered <= outcome.sent / 1000, outcome
