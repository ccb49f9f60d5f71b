"""What the log says of clients whom nobody serves."""

from __future__ import annotations

from collections import Counter

import pytest

from blixt_backend.planes.userspace.news import SECONDS, News, said


def test_a_line_has_what_is_new_and_there_is_one_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    counts = Counter({"begun": 5})
    news = News("TCP connections", "see --max-connections", counts)
    news.tell(0.0)
    assert not caplog.messages
    counts.update({"no room": 2, "no endpoint": 1})
    news.tell(1.0)
    counts.update({"endpoint not reached": 3})
    news.tell(SECONDS)
    assert caplog.messages == [
        "TCP connections: 2 had no room, 1 got no endpoint (see --max-connections)",
    ]
    news.tell(1.0 + SECONDS)
    assert caplog.messages[1:] == ["TCP connections: 3 times an endpoint was not reached"]


def test_what_is_as_it_should_be_is_not_said() -> None:
    assert said({"begun": 5, "not let in": 3, "refused": 1}) == ""
