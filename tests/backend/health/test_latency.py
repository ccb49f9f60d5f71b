"""Which changes are measured, and what is told of them."""

from __future__ import annotations

from blixt_backend.health.latency import BOUNDS, NAME, Latency
from blixt_backend.model import ChangeSet, Endpoint, Service, ServiceView

SECOND = 1_000_000_000
PATH = "ns/a"


def change(*triggers: int, path: str = PATH, resync: bool = False) -> ChangeSet:
    """A service whose endpoints became known at these seconds; 0: nobody knows when."""
    namespace, name = path.split("/")
    endpoints = tuple(
        Endpoint(str(key), trigger_time_ns=second * SECOND) for key, second in enumerate(triggers)
    )
    views = {path: ServiceView(Service(namespace, name), endpoints)}
    return ChangeSet(views, frozenset(), views, resync)


def told(latency: Latency) -> dict[str, str]:
    lines = [line for line in latency.lines() if not line.startswith("#")]
    return dict(line.removeprefix(NAME).split(" ") for line in lines)


def measured(latency: Latency) -> tuple[int, float]:
    values = told(latency)
    return int(values["_count"]), float(values["_sum"])


def test_what_is_there_at_the_start_says_nothing() -> None:
    latency = Latency()
    latency.applied(change(100, resync=True), 5000 * SECOND)
    assert measured(latency) == (0, 0)


def test_each_trigger_of_a_service_is_measured_once() -> None:
    latency = Latency()
    latency.applied(change(100, resync=True), 101 * SECOND)
    latency.applied(change(100, 200), 203 * SECOND)
    assert measured(latency) == (1, 3)
    latency.applied(change(200), 300 * SECOND)
    latency.applied(change(), 301 * SECOND)
    latency.applied(change(0), 302 * SECOND)
    assert measured(latency) == (1, 3)
    latency.applied(change(300, path="ns/new"), 301 * SECOND)
    assert measured(latency) == (2, 4)


def test_what_was_late_since_an_apply_had_failed_is_late() -> None:
    """Then the next try brings everything."""
    latency = Latency()
    latency.applied(change(100, resync=True), 101 * SECOND)
    latency.applied(change(200, resync=True), 240 * SECOND)
    assert measured(latency) == (1, 40)


def test_a_service_that_comes_again_is_new() -> None:
    latency = Latency()
    latency.applied(change(100), 101 * SECOND)
    latency.applied(ChangeSet({}, frozenset({PATH}), {}), 102 * SECOND)
    latency.applied(change(100), 105 * SECOND)
    assert measured(latency) == (2, 6)


def test_buckets_add_up_and_clocks_may_differ() -> None:
    latency = Latency()
    for number, seconds in enumerate((-5, 0.25, 0.26, 1, 2.5, 300, 301)):
        path = f"ns/s{number}"
        latency.applied(change(1000, path=path), int((1000 + seconds) * SECOND))
    values = told(latency)
    shown = {
        bound: int(values[f'_bucket{{le="{bound}"}}'])
        for bound in ("0.25", "0.5", "1", "2", "3", "300", "+Inf")
    }
    assert shown == {"0.25": 2, "0.5": 3, "1": 4, "2": 4, "3": 5, "300": 6, "+Inf": 7}
    assert int(values["_count"]) == 7
    assert list(BOUNDS) == sorted(set(BOUNDS))
