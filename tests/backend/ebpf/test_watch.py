"""Connections as they come and go, without a kernel: one look after another."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt_backend.planes.ebpf.connections import ConnectionFilter, Entry, Flow
from blixt_backend.planes.ebpf.layout import IPV4, ConnectionFlag
from blixt_backend.planes.ebpf.watch import MOST_LINES, Line, Mark, Watch, changes, chosen
from blixt_backend.planes.ebpf.watching import screen, told, told_as_json

SERVICE, NODE, POD = (ipaddress.ip_address(text).packed for text in ("203.0.113.7", "192.0.2.1", "10.0.0.2"))
CLIENT = ipaddress.ip_address("198.51.100.5").packed
NAMES = {("ipv4", 3): "demo/web:80/TCP"}
CLOSED = ConnectionFlag.FIN_CLIENT | ConnectionFlag.FIN_ENDPOINT


def port(number: int) -> bytes:
    return number.to_bytes(2, "big")


def entry(packets: int, flags: int = 0) -> Entry:
    way = (3, 1500, 1, b"", b"")
    return (CLIENT, POD, port(1), port(8080), 0, 0, 2, 0, 3, flags, 100, *way, packets, packets * 100)


def flow(client: int, packets: int = 1, out: int = 0, flags: int = 0) -> Flow:
    key = (CLIENT, SERVICE, port(client), port(80), 6)
    reply = entry(out, flags | ConnectionFlag.REPLY) if out else None
    return Flow(IPV4, key, entry(packets, flags), reply)


def clients(lines: Iterable[Line]) -> list[int]:
    return [int.from_bytes(line.flow.key[2], "big") for line in lines]


def test_what_is_there_at_first_goes_on_and_what_was_closed_is_no_business() -> None:
    watch = Watch()
    look = watch.look([flow(1), flow(2, flags=CLOSED)])
    assert (clients(look.going_on), look.new, look.ended, look.live) == ([1], [], [], 1)
    look = watch.look([flow(1), flow(2, flags=CLOSED)])
    assert (clients(look.going_on), look.new, look.ended) == ([1], [], [])


def test_new_ones_and_those_that_end() -> None:
    watch = Watch()
    watch.look([flow(1), flow(2), flow(3)])
    look = watch.look([flow(1, 5, 3), flow(2, flags=CLOSED), flow(4)])
    assert (clients(look.new), clients(look.ended), clients(look.going_on)) == ([4], [2, 3], [1])
    assert (look.packets, look.octets, look.live) == (7, 700, 2)
    # A closed one that is thrown out later has ended already.
    look = watch.look([flow(1, 5, 3), flow(4)])
    assert (look.new, look.ended, look.packets) == ([], [], 0)


def test_one_that_came_and_went_between_two_looks_is_new() -> None:
    watch = Watch()
    watch.look([])
    look = watch.look([flow(1, flags=ConnectionFlag.RESET)])
    assert (clients(look.new), look.ended, look.live) == ([1], [], 0)


@pytest.mark.parametrize(
    ("before", "now", "ended"),
    [
        (flow(1, 9), flow(1, 2), 1),  # a UDP flow that chose another endpoint, or ports used again
        (flow(1, 9, flags=CLOSED), flow(1, 2), 0),
        (flow(1, 2, flags=CLOSED), flow(1, 9), 0),
    ],
)
def test_the_same_ports_again_are_another_connection(before: Flow, now: Flow, ended: int) -> None:
    watch = Watch()
    watch.look([before])
    look = watch.look([now])
    assert (clients(look.new), len(look.ended), look.going_on) == ([1], ended, [])


STATES = st.lists(st.sampled_from([0, CLOSED, ConnectionFlag.RESET, None]), min_size=3, max_size=3)


@given(st.lists(STATES, min_size=1, max_size=8))
def test_whoever_counts_news_and_ends_knows_who_is_there(looks: list[list[int | None]]) -> None:
    watch, counted = Watch(), 0
    for number, states in enumerate(looks):
        flows = [flow(n, number + 1, flags=s) for n, s in enumerate(states) if s is not None]
        look = watch.look(flows)
        if not number:
            counted = len(look.going_on)
        counted += sum(line.flow.state != "closed" for line in look.new) - len(look.ended)
        assert counted == look.live == sum(f.state != "closed" for f in flows)


def test_a_screen_shows_changes_first_and_then_the_busiest() -> None:
    watch = Watch()
    watch.look([flow(n) for n in range(1, 30)])
    look = watch.look([*(flow(n, n) for n in range(1, 20)), flow(40)])
    lines = chosen(look, 8)
    assert clients(lines) == [20, 21, 40, 19, 18, 17, 16, 15]
    assert [line.mark for line in lines[:4]] == [Mark.ENDED, Mark.ENDED, Mark.NEW, Mark.GOES_ON]
    # With room for all, all is there.
    assert len(chosen(look, 100)) == 30
    assert chosen(look, 0) == []


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 10), (1, 1), (200, 3)])
def test_a_screen_is_never_larger_than_the_terminal(width: int, height: int) -> None:
    look = Watch().look([flow(n) for n in range(1, 100)])
    lines = screen(look, NAMES, 101, "10:00:00", width, height)
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)
    assert lines[0] == "10:00:00  99 connections, 0 new, 0 ended; 0 packets 0 B since the last look"[:width]


def test_lines_tell_who_goes_where() -> None:
    watch = Watch()
    first = watch.look([flow(1)])
    assert told(first, NAMES, 101, "10:00:00", first=True) == [
        "10:00:00   TCP 198.51.100.5:1 -> 203.0.113.7:80 -> 10.0.0.2:8080 "
        "new 1/100 B in 0/0 B out demo/web:80/TCP"
    ]
    look = watch.look([flow(2, 3, 2)])
    assert told(look, {}, 101, "10:00:01", first=False) == [
        "10:00:01 + TCP 198.51.100.5:2 -> 203.0.113.7:80 -> 10.0.0.2:8080 established 3/300 B in 2/200 B out",
        "10:00:01 - TCP 198.51.100.5:1 -> 203.0.113.7:80 -> 10.0.0.2:8080 new 1/100 B in 0/0 B out",
    ]
    rows = [json.loads(line) for line in told_as_json(look, NAMES, 101, "now", first=False)]
    assert [(row["event"], row["client_port"], row["time"]) for row in rows] == [
        ("new", 2, "now"),
        ("ended", 1, "now"),
    ]


def test_lines_are_bounded() -> None:
    look = Watch().look([flow(n) for n in range(1, MOST_LINES + 6)])
    assert (len(changes(look, True)[0]), changes(look, True)[1]) == (MOST_LINES, 5)
    assert changes(look, False) == ([], 0)
    assert told(look, NAMES, 101, "10:00:00", first=True)[-1] == "10:00:00 and 5 more"
    assert json.loads(told_as_json(look, NAMES, 101, "now", first=True)[-1])["count"] == 5


def test_filters() -> None:
    assert ConnectionFilter().takes(SERVICE, port(80), POD)
    assert ConnectionFilter(SERVICE, 80, POD).takes(SERVICE, port(80), POD)
    assert not ConnectionFilter(SERVICE, 81).takes(SERVICE, port(80), POD)
    assert not ConnectionFilter(endpoint=NODE).takes(SERVICE, port(80), POD)
