"""Where frontends listen: what --map says, and what it refuses."""

from __future__ import annotations

import pytest

from blixt_backend.model import Protocol
from blixt_backend.planes.userspace.compile import Frontend
from blixt_backend.planes.userspace.mapping import Place, parse, place_of

HTTP = Frontend("10.96.0.10", 80, Protocol.TCP)
DNS = Frontend("10.96.0.10", 53, Protocol.UDP)
HTTP6 = Frontend("fd00::10", 80, Protocol.TCP)


@pytest.mark.parametrize(
    ("maps", "frontend", "place"),
    [
        ([], HTTP, Place("10.96.0.10", 80)),
        (["10.96.0.10:80=127.0.0.1:8080"], HTTP, Place("127.0.0.1", 8080)),
        (["10.96.0.10:80=127.0.0.1:8080"], DNS, Place("10.96.0.10", 53)),
        (["10.96.0.10:80=127.0.0.1:0"], HTTP, Place("127.0.0.1", 0)),
        (["10.96.0.10:80=127.0.0.1"], HTTP, Place("127.0.0.1", 80)),
        (["10.96.0.10=127.0.0.1"], DNS, Place("127.0.0.1", 53)),
        (["10.96.0.10=127.0.0.1:0"], DNS, Place("127.0.0.1", 0)),
        (["10.96.0.10:53=127.0.0.1:5353/tcp"], DNS, Place("10.96.0.10", 53)),
        (["10.96.0.10:53=127.0.0.1:5353/udp"], DNS, Place("127.0.0.1", 5353)),
        (["10.96.0.10=127.0.0.1", "10.96.0.10:53=127.0.0.2"], DNS, Place("127.0.0.2", 53)),
        (["10.96.0.10:53=127.0.0.2", "10.96.0.10:53=127.0.0.3/udp"], DNS, Place("127.0.0.3", 53)),
        (["10.96.0.10:80=127.0.0.2", "10.96.0.10=127.0.0.3/tcp"], HTTP, Place("127.0.0.2", 80)),
        (["[fd00::10]:80=[::1]:8080"], HTTP6, Place("::1", 8080)),
        (["fd00:0::10=::1"], HTTP6, Place("::1", 80)),
        (["[fd00::10]:80=127.0.0.1:8080"], HTTP6, Place("127.0.0.1", 8080)),
    ],
)  # fmt: skip
def test_places(maps: list[str], frontend: Frontend, place: Place) -> None:
    assert place_of(parse(maps), frontend) == place


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        (["10.96.0.10:80"], "is nothing like"),
        (["10.96.0.10:80=127.0.0.1:8080/sctp"], "is nothing like"),
        (["web:80=127.0.0.1:8080"], "'web:80' is no address"),
        (["10.96.0.10:80=localhost:8080"], "'localhost:8080' is no address"),
        (["fd00::10:x=::1"], "is no address"),
        (["10.96.0.10:80=127.0.0.1:65536"], "there is no port 65536"),
        (["10.96.0.10:0=127.0.0.1:80"], "a service has no port 0"),
        (["10.96.0.10=127.0.0.1:8080"], "all ports can't be at one"),
        (["10.96.0.10:80=127.0.0.1:1", "10.96.0.10:80=127.0.0.1:2"], "mapped elsewhere already"),
    ],
)
def test_what_is_refused(texts: list[str], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse(texts)


def test_the_same_twice_is_once() -> None:
    assert len(parse(["10.96.0.10:80=127.0.0.1:1", "10.96.0.10:80=127.0.0.1:1"])) == 1
