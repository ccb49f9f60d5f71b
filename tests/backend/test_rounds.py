"""rounds: the last word about each item, whatever the order."""

from __future__ import annotations

import pytest

from blixt_api import localv1_pb2 as pb
from blixt_backend.rounds import Round
from blixt_fakes.items import RESET, SYNC, delete_op, endpoint, service, set_op


def take(*ops: pb.OpItem) -> Round:
    received = Round()
    received.add(ops)
    return received


def test_only_sync_ends_a_round() -> None:
    received = Round()
    assert not received.add([RESET, set_op(*service("a/b"))])
    assert not received.add([])
    assert received.add([set_op(*endpoint("a/b/c")), SYNC])
    assert received.reset
    assert received.services.keys() == {"a/b"}
    assert received.endpoints.keys() == {"a/b"}
    assert received.endpoints_of("a/b").keys() == {"c"}


def test_the_last_word_counts() -> None:
    old, new = service("a/b", port=80), service("a/b", port=81)
    received = take(set_op(*old), delete_op(old[0]), set_op(*new))
    assert received.services["a/b"] is not None
    assert received.services["a/b"].ports[0].port == 81
    assert take(set_op(*old), delete_op(old[0])).services == {"a/b": None}


def test_endpoints_may_come_in_any_order() -> None:
    a1, a2, b1 = endpoint("ns/a/1"), endpoint("ns/a/2"), endpoint("ns/b/1")
    newer = endpoint("ns/a/1", ip="198.51.100.9")
    received = take(*(set_op(*item) for item in (a1, b1, a2, b1, newer)), delete_op(a2[0]), set_op(*b1))
    said = received.endpoints_of("ns/a")
    assert said.keys() == {"1", "2"}
    assert said["1"] is not None
    assert said["1"].addresses == bytes([198, 51, 100, 9])
    assert said["2"] is None
    assert received.endpoints_of("ns/b").keys() == {"1"}
    assert received.endpoints_of("ns/c") == {}


def test_an_unusable_endpoint_leaves_what_was_said_of_its_service() -> None:
    a1, b1 = endpoint("ns/a/1"), endpoint("ns/b/1")
    received = take(set_op(*a1), set_op(*b1), set_op((pb.EndpointsSet, "ns/a/2"), b"\xff"))
    assert received.endpoints_of("ns/a").keys() == {"1"}
    assert received.unreadable == {("ns/a", "2")}


def test_a_reset_takes_back_what_came_before_it() -> None:
    received = take(set_op(*service("a/old")), RESET, set_op(*service("a/new")))
    assert received.services.keys() == {"a/new"}


@pytest.mark.parametrize(
    ("op", "path", "reason"),
    [
        (set_op((pb.ServicesSet, "a/b"), b"\xff"), "a/b", "no Service"),
        (set_op((pb.EndpointsSet, "a/b/c"), b"\xff"), "a/b/c", "no Endpoint"),
        (set_op(*endpoint("a/b/c", ip="nowhere")), "a/b/c", "'nowhere' is no IPv4"),
        (set_op((pb.EndpointsSet, "a/b"), b""), "a/b", "namespace/name/key"),
        (delete_op((pb.ServicesSet, "a")), "a", "namespace/name"),
        (delete_op((pb.EndpointsSet, "")), "", "namespace/name/key"),
    ],
)
def test_an_unusable_item_is_told_and_nothing_else_is_lost(op: pb.OpItem, path: str, reason: str) -> None:
    received = take(set_op(*service("a/first")), op, set_op(*service("a/last")))
    assert received.services.keys() == {"a/first", "a/last"}
    (problem,) = received.problems
    assert problem.path == path
    assert reason in str(problem)


def test_sets_and_ops_from_elsewhere_are_nobodys_fault() -> None:
    received = take(set_op((pb.GlobalNodeInfos, "n1"), b"\xff"), pb.OpItem(), delete_op((pb.UnknownSet, "x")))
    assert received == Round()
