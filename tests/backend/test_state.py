"""state: rounds to change sets."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from blixt_api import localv1_pb2 as pb
from blixt_backend.model import ChangeSet
from blixt_backend.rounds import Round
from blixt_backend.state import DesiredState
from blixt_fakes.items import RESET, delete_op, endpoint, service, set_op

A, B = service("ns/a"), service("ns/b")
A1, A2 = endpoint("ns/a/1"), endpoint("ns/a/2")


def received(*ops: pb.OpItem, revision: int = 0) -> Round:
    round_ = Round(revision=revision)
    round_.add(ops)
    return round_


def sets(*items: tuple[tuple[int, str], bytes]) -> Iterable[pb.OpItem]:
    return (set_op(*item) for item in items)


@pytest.fixture
def state() -> DesiredState:
    """Services a (endpoints 1, 2) and b (none)."""
    state = DesiredState()
    state.apply(received(RESET, *sets(A, B, A1, A2), revision=1))
    return state


def keys(change: ChangeSet, path: str) -> list[str]:
    return [each.key for each in change.desired[path].endpoints]


def test_a_full_set_is_a_resync() -> None:
    change = DesiredState().apply(received(RESET, *sets(A2, A1, A, B), revision=7))
    assert change.resync
    assert change.revision == 7
    assert change.changed == change.desired
    assert keys(change, "ns/a") == ["1", "2"]
    assert keys(change, "ns/b") == []


def test_a_change_tells_only_what_it_changed(state: DesiredState) -> None:
    change = state.apply(received(delete_op(A1[0]), revision=2))
    assert not change.resync
    assert change.changed.keys() == {"ns/a"}
    assert keys(change, "ns/a") == ["2"]
    assert change.changed["ns/a"] is change.desired["ns/a"]
    assert change.revision == 2


def test_what_is_said_again_is_no_change(state: DesiredState) -> None:
    change = state.apply(received(*sets(A, A1, B)))
    assert (change.changed, change.removed) == ({}, frozenset())


def test_deleting_what_is_not_there_is_no_change(state: DesiredState) -> None:
    change = state.apply(
        received(delete_op((pb.ServicesSet, "ns/x")), delete_op((pb.EndpointsSet, "ns/x/1")))
    )
    assert (change.changed, change.removed) == ({}, frozenset())


def test_endpoints_wait_for_their_service() -> None:
    state = DesiredState()
    assert state.apply(received(*sets(A1))).changed == {}
    assert keys(state.apply(received(*sets(A))), "ns/a") == ["1"]


def test_endpoints_outlast_their_service(state: DesiredState) -> None:
    change = state.apply(received(delete_op(A[0])))
    assert change.changed == {}
    assert change.removed == {"ns/a"}
    assert state.apply(received(delete_op(A1[0]))).changed == {}
    assert keys(state.apply(received(*sets(A))), "ns/a") == ["2"]


def test_a_reset_sweeps_what_it_leaves_out(state: DesiredState) -> None:
    change = state.apply(received(RESET, *sets(A, A2)))
    assert change.resync
    assert change.removed == {"ns/b"}
    assert change.desired.keys() == {"ns/a"}
    assert keys(change, "ns/a") == ["2"]


def test_a_reset_sweeps_endpoints_without_a_service(state: DesiredState) -> None:
    state.apply(received(RESET, *sets(B)))
    assert keys(state.apply(received(*sets(A))), "ns/a") == []


def test_an_unchanged_full_set_is_still_a_resync(state: DesiredState) -> None:
    before = dict(state.desired)
    change = state.apply(received(RESET, *sets(A, B, A1, A2)))
    assert change.resync
    assert change.removed == frozenset()
    assert change.changed == change.desired == before


@pytest.mark.parametrize("reset", [(), (RESET,)], ids=["difference", "full set"])
def test_an_unreadable_item_keeps_its_last_good_version(
    state: DesiredState, reset: tuple[pb.OpItem, ...]
) -> None:
    before = dict(state.desired)
    garbled = [set_op(key, b"\xff") for key, _ in (A, A1)]
    new = [set_op((pb.ServicesSet, "ns/new"), b"\xff")]
    change = state.apply(received(*reset, *garbled, *new, *sets(B, A2)))
    assert change.desired == before
    assert change.removed == frozenset()


def test_desired_is_read_only(state: DesiredState) -> None:
    with pytest.raises(TypeError):
        state.desired["x"] = state.desired["ns/a"]  # type: ignore[index]  # that it can't be is the point


def node_op(leaving: bool) -> pb.OpItem:
    return set_op((pb.NodesSet, "n1"), pb.Node(Leaving=leaving).SerializeToString())


def test_what_was_last_said_of_the_node_counts(state: DesiredState) -> None:
    """Also when its Node is gone, and when a frontend knows of none."""
    assert not state.apply(received(*sets(A))).node.leaving
    change = state.apply(received(node_op(True)))
    assert change.node.leaving
    assert not change.changed
    assert state.resync().node.leaving
    assert state.apply(received(delete_op((pb.NodesSet, "n1")))).node.leaving
    assert state.apply(received(RESET, *sets(A))).node.leaving
    assert not state.apply(received(node_op(False))).node.leaving


def test_a_node_that_cannot_be_read_is_a_problem_and_changes_nothing(state: DesiredState) -> None:
    state.apply(received(node_op(True)))
    broken = received(set_op((pb.NodesSet, "n1"), b"\xff"))
    assert [str(problem) for problem in broken.problems] == ["n1: its 1 bytes are no Node"]
    assert state.apply(broken).node.leaving
