"""Requests and answers as bytes, and what is told to whom."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt_backend.health import answers, http, places
from blixt_backend.health.checks import Check
from blixt_backend.health.http import MOST_FIELDS, MOST_HEAD, MOST_LINE, Request, UnfitError, is_whole, parse
from blixt_backend.health.judgement import Verdict
from blixt_backend.health.places import Place

WELL = Verdict(healthy=True, alive=True, why="", applied_ago=60.0)
ILL = Verdict(healthy=False, alive=True, why="late", applied_ago=60.0)
STUCK = Verdict(healthy=False, alive=False, why="stuck", applied_ago=None)
GET = Request("GET", "/")
NOW = datetime(2024, 5, 1, 12, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("sent", "path"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "/"),
        (b"GET /healthz?verbose=1 HTTP/1.0\r\n\r\n", "/healthz"),
        (b"GET /x HTTP/1.1\nHost: a\n\n", "/x"),
        (b"GET / HTTP/1.1\r\nX: \xff\r\n\r\nbody", "/"),
    ],
)
def test_requests(sent: bytes, path: str) -> None:
    assert is_whole(bytearray(sent))
    assert parse(bytearray(sent)) == Request("GET", path)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\n\r\n", 400),
        (b"G\x00T / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: 1\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA : 1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: 1\rB: 2\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"GET /" + b"a" * MOST_LINE + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"A: 1\r\n" * (MOST_FIELDS + 1) + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * MOST_HEAD, 431),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * MOST_HEAD + b"\r\n\r\n", 431),
    ],
)
def test_what_is_no_request(sent: bytes, status: int) -> None:
    with pytest.raises(UnfitError) as raised:
        parse(bytearray(sent))
    assert raised.value.response.status == status


@given(st.binary(max_size=200))
def test_whatever_is_sent_is_a_request_or_unfit(sent: bytes) -> None:
    with contextlib.suppress(UnfitError):
        assert parse(bytearray(sent + b"\r\n\r\n")).method


@given(st.lists(st.integers(1, 30), max_size=5))
def test_the_end_is_found_however_it_is_cut(lengths: list[int]) -> None:
    sent, received = bytearray(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), bytearray()
    found = False
    while sent:
        length = lengths.pop() if lengths else 1
        before = len(received)
        received += sent[:length]
        del sent[:length]
        found = is_whole(received, before)
    assert found


def test_an_answer_as_bytes() -> None:
    made = http.Response(HTTPStatus.OK, b"{}", headers=(("X-A", "1"),))
    assert made.encode() == (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\nX-A: 1\r\n"
        b"Content-Length: 2\r\nConnection: close\r\n\r\n{}"
    )
    assert made.encode(with_body=False).endswith(b"Content-Length: 2\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize(
    ("count", "verdict", "status"), [(2, WELL, 200), (0, WELL, 503), (2, ILL, 503), (0, ILL, 503)]
)
def test_a_service_s_answer_is_kube_proxy_s(count: int, verdict: Verdict, status: int) -> None:
    made = answers.of_service(GET, Check("ns", 'a"', 30100, {4: count, 6: 7}), 4, verdict)
    assert made.status == status
    assert made.headers == (("X-Load-Balancing-Endpoint-Weight", str(count)),)
    assert made.content_type == "application/json"
    healthy = "true" if verdict.healthy else "false"
    assert made.body.decode() == (
        f'{{"service":{{"namespace":"ns","name":"a\\""}},"localEndpoints":{count},'
        f'"serviceProxyHealthy":{healthy}}}'
    )


def test_a_port_of_nobody_and_methods_that_change_something() -> None:
    assert answers.of_service(GET, None, 4, WELL).status == 404
    for made in (
        answers.of_service(Request("POST", "/"), None, 4, WELL),
        answers.of_node(Request("DELETE", "/healthz"), WELL, NOW),
    ):
        assert (made.status, made.headers) == (405, (("Allow", "GET, HEAD"),))


@pytest.mark.parametrize(
    ("path", "statuses"),
    [("/healthz", (200, 503, 503)), ("/readyz", (200, 503, 503)), ("/livez", (200, 200, 503))],
)
def test_the_node_s_own_answers(path: str, statuses: tuple[int, ...]) -> None:
    made = [answers.of_node(Request("GET", path), verdict, NOW) for verdict in (WELL, ILL, STUCK)]
    assert tuple(answer.status for answer in made) == statuses
    assert [json.loads(answer.body) for answer in made] == [
        {"lastUpdated": updated, "currentTime": "2024-05-01T12:01:00.000+00:00", "reason": reason}
        for updated, reason in (
            ("2024-05-01T12:00:00.000+00:00", ""),
            ("2024-05-01T12:00:00.000+00:00", "late"),
            (None, "stuck"),
        )
    ]
    assert answers.of_node(Request("GET", "/other"), WELL, NOW).status == 404


def test_load_balancers_leave_a_node_that_is_being_deleted() -> None:
    """Only by /healthz: it serves as well as ever."""
    leaving = replace(WELL, leaving=True, why="this node is being deleted")
    statuses = {
        path: answers.of_node(Request("GET", path), leaving, NOW).status
        for path in ("/healthz", "/readyz", "/livez")
    }
    assert statuses == {"/healthz": 503, "/readyz": 200, "/livez": 200}
    assert b"this node is being deleted" in answers.of_node(Request("GET", "/healthz"), leaving, NOW).body


def test_places() -> None:
    assert places.parse("127.0.0.1:10256") == Place("127.0.0.1", 10256)
    assert places.parse("[FD00::1]:80") == Place("fd00::1", 80)
    assert str(places.parse("[fd00::1]:80")) == "[fd00::1]:80"
    assert [str(place) for place in places.everywhere(80)] == ["0.0.0.0:80", "[::]:80"]


@pytest.mark.parametrize(
    "text", ["", ":80", "host:80", "127.0.0.1", "127.0.0.1:0", "fd00::1:80", "[127.0.0.1]:80", "[::]:65536"]
)
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not IPV4:PORT|no port from 1"):
        places.parse(text)
