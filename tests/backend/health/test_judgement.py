"""When a node is well, in seconds that are numbers."""

from __future__ import annotations

from blixt_backend.health.judgement import LATE_SECONDS, STUCK_SECONDS, Judgement


def test_nothing_is_in_force_at_first() -> None:
    judgement = Judgement()
    verdict = judgement.verdict(0)
    assert (verdict.healthy, verdict.alive, verdict.applied_ago) == (False, True, None)
    assert "has not told" in verdict.why
    judgement.trying(1)
    judgement.failed("no room")
    assert judgement.verdict(2).why == "nothing is in force yet: no room"


def test_well_while_changes_get_applied_and_while_there_are_none() -> None:
    judgement = Judgement()
    judgement.trying(0)
    judgement.applied(1)
    assert judgement.verdict(1_000_000).healthy
    assert judgement.verdict(11).applied_ago == 10
    judgement.trying(20)
    assert judgement.verdict(20 + LATE_SECONDS).healthy


def test_unwell_once_a_change_is_late_however_often_it_was_tried() -> None:
    judgement = Judgement()
    judgement.applied(0)
    for second in range(int(LATE_SECONDS)):
        judgement.trying(100 + second)
        judgement.failed("map services is full")
    assert judgement.verdict(100 + LATE_SECONDS).healthy
    late = judgement.verdict(101 + LATE_SECONDS)
    assert (late.healthy, late.alive) == (False, True)
    assert late.why == "a change is not in force after 16 s: map services is full"
    judgement.trying(200)
    assert not judgement.verdict(200).healthy
    judgement.applied(201)
    assert judgement.verdict(201).healthy


def test_a_try_that_does_not_end_is_no_life() -> None:
    judgement = Judgement()
    judgement.trying(0)
    assert judgement.verdict(STUCK_SECONDS).alive
    stuck = judgement.verdict(STUCK_SECONDS + 1)
    assert (stuck.healthy, stuck.alive) == (False, False)
    assert stuck.why == "a change is not in force after 61 s: applying it does not end"


def test_a_node_that_is_being_deleted_is_well_and_leaving() -> None:
    judgement = Judgement()
    judgement.applied(0, leaving=True)
    leaving = judgement.verdict(1)
    assert (leaving.healthy, leaving.alive, leaving.leaving) == (True, True, True)
    assert leaving.why == "this node is being deleted"
    judgement.applied(2)
    assert judgement.verdict(3).why == ""
    judgement.applied(4, leaving=True)
    judgement.trying(5)
    judgement.failed("no room")
    assert judgement.verdict(100).why == "a change is not in force after 95 s: no room"
