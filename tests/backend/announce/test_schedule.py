"""When something is said about an address, and how much at once."""

from __future__ import annotations

from blixt_backend.announce.schedule import Schedule, Step
from blixt_backend.announce.timing import Timing
from blixt_backend.model import PackedAddress
from blixt_fakes.segment import ip

A, B = ip("192.0.2.1"), ip("192.0.2.2")


def told(schedule: Schedule, until: float) -> list[tuple[float, Step, PackedAddress]]:
    """All that is said until a time, from 0 on."""
    said = []
    now = max(0.0, schedule.next_event())
    while now <= until:
        said += [(round(now, 3), step, address) for step, address in schedule.due(now)]
        now = schedule.next_event()
    return said


def test_it_is_asked_about_then_claimed_then_announced_again() -> None:
    schedule = Schedule(Timing())
    schedule.begin(A, 0)
    assert told(schedule, 60) == [
        (0, Step.PROBE, A),
        (0.3, Step.CLAIM, A),
        (1.3, Step.REPEAT, A),
        (3.3, Step.REPEAT, A),
    ]


def test_what_is_cancelled_is_not_said_and_can_begin_anew() -> None:
    schedule = Schedule(Timing())
    schedule.begin(A, 0)
    schedule.begin(B, 0)
    assert [step for step, _ in schedule.due(0)] == [Step.PROBE, Step.PROBE]
    schedule.cancel(A)
    schedule.begin(B, 30)
    assert told(schedule, 30.3) == [(30, Step.PROBE, B), (30.3, Step.CLAIM, B)]


def test_announcing_again_starts_behind_the_claim() -> None:
    schedule = Schedule(Timing())
    schedule.announce(A, 5)
    assert told(schedule, 60) == [(5, Step.REPEAT, A), (7, Step.REPEAT, A)]


def test_no_more_is_said_than_the_rate_allows() -> None:
    schedule = Schedule(Timing(rate=100, burst=10))
    addresses = [PackedAddress(number.to_bytes(4, "big")) for number in range(500)]
    for address in addresses:
        schedule.begin(address, 0)
    said = told(schedule, 60)
    assert len(said) == 4 * len(addresses)
    for start in range(60):
        assert sum(start <= at < start + 1 for at, _, _ in said) <= 100 + 10
    claimed = {address: at for at, step, address in said if step is Step.CLAIM}
    probed = {address: at for at, step, address in said if step is Step.PROBE}
    assert all(claimed[address] >= probed[address] + 0.3 - 0.001 for address in addresses)
    assert schedule.next_event() == float("inf")
