"""Who a client is, and whom it gets: source ranges, policies, affinity."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from blixt_backend.planes.userspace.affinity import Affinity
from blixt_backend.planes.userspace.choice import Member, Side, Target, side
from blixt_backend.planes.userspace.clients import Clients
from blixt_backend.planes.userspace.compile import Entry
from blixt_backend.planes.userspace.picking import Picker

ONE, TWO = Target("10.0.0.1", 80), Target("10.0.0.2", 80)
BOTH = side([Member(ONE, 0, 1), Member(TWO, 0, 1)])
ONLY_ONE, ONLY_TWO = side([Member(ONE, 0, 1)]), side([Member(TWO, 0, 1)])
RANGES = (ip_network("198.51.100.0/24"), ip_network("2001:db8::/32"))
CLIENTS = Clients((ip_network("10.244.0.0/16"),), frozenset({"172.18.0.11", "192.0.2.1"}))


def entry(inside: Side = BOTH, outside: Side | None = None, **more: object) -> Entry:
    return Entry("ns/web", "web", inside, outside, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("client", "wanted"),
    [
        ("10.244.1.1", BOTH),
        ("172.18.0.11", BOTH),
        ("127.0.0.1", BOTH),
        ("::1", BOTH),
        ("198.51.100.7", ONLY_ONE),
        ("2001:db8::7", ONLY_ONE),
        ("203.0.113.7", None),
        ("fe80::1%eth0", None),
    ],
)
def test_who_gets_what(client: str, wanted: Side | None) -> None:
    assert CLIENTS.side(entry(BOTH, ONLY_ONE, ranges=RANGES), client) == wanted


def test_where_outsiders_get_the_same_ranges_still_count() -> None:
    assert CLIENTS.side(entry(ranges=RANGES), "198.51.100.7") == BOTH
    assert CLIENTS.side(entry(ranges=RANGES), "203.0.113.7") is None
    assert CLIENTS.side(entry(ranges=()), "198.51.100.7") is None


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_client_stays_with_its_endpoint_until_it_was_away_for_too_long() -> None:
    clock, points = Clock(), iter([0.0, 0.9, 0.9])
    picker = Picker({}, clock, points.__next__)
    with_affinity = entry(affinity_seconds=10)
    assert picker.pick(with_affinity, "c") == ONE
    for clock.now in (9.0, 18.0, 28.0):
        assert picker.pick(with_affinity, "c") == ONE, "each connection begins the time anew"
    clock.now = 38.5
    assert picker.pick(with_affinity, "c") == TWO
    assert picker.pick(with_affinity, "another") == TWO
    assert next(points, None) is None


def test_affinity_ends_with_its_endpoint_and_yields_to_who_answers() -> None:
    picker = Picker({}, Clock(), lambda: 0.0)
    assert picker.pick(entry(affinity_seconds=10), "c") == ONE
    assert picker.pick(entry(affinity_seconds=10), "c", avoid={ONE}) == TWO
    assert picker.pick(entry(affinity_seconds=10), "c") == TWO
    assert picker.pick(entry(ONLY_ONE, affinity_seconds=10), "c") == ONE


def test_affinity_is_of_one_service_port() -> None:
    points = iter([0.0, 0.9])
    picker = Picker({}, Clock(), points.__next__)
    assert picker.pick(Entry("ns/a", "a", BOTH, affinity_seconds=10), "c") == ONE
    assert picker.pick(Entry("ns/b", "b", BOTH, affinity_seconds=10), "c") == TWO


def test_the_client_that_was_here_longest_ago_is_forgotten_first() -> None:
    affinity = Affinity(most=2)
    for client, at in (("a", 0.0), ("b", 1.0), ("a", 2.0), ("c", 3.0)):
        affinity.put("web", client, ONE, at)
    assert len(affinity) == 2
    assert [affinity.get("web", client, 100, 3.0) for client in "abc"] == [ONE, None, ONE]


def test_least_connections_asks_for_loads() -> None:
    loads = {ONE: 5}
    picker = Picker(loads, Clock(), lambda: 0.0)
    assert picker.pick(entry(least=True), "c") == TWO
    loads[TWO] = 9
    assert picker.pick(entry(least=True), "c") == ONE
