"""What is held of a kind: differences are told, malformed objects cost only themselves."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from blixt_frontend.decode import DecodeError, decode_json
from blixt_frontend.kubernetes.kinds import CORE
from blixt_frontend.kubernetes.mirror import Mirror
from blixt_frontend.source import ObjectKey

SERVICE = CORE[0]


class Told:
    def __init__(self) -> None:
        self.changes: list[tuple[str, str]] = []

    def __call__(self, key: ObjectKey, before: Any, after: Any) -> None:
        kind = "added" if before is None else "deleted" if after is None else "modified"
        self.changes.append((kind, key.name))

    def take(self) -> list[tuple[str, str]]:
        taken, self.changes = self.changes, []
        return taken


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def mirror(told: Told) -> Mirror:
    return Mirror(SERVICE, told)


def raw(name: str, port: Any = 80, **more: Any) -> bytes:
    return json.dumps({"metadata": {"name": name, **more}, "spec": {"ports": [{"port": port}]}}).encode()


def put(mirror: Mirror, name: str, port: Any = 80, **more: Any) -> None:
    """As a reflector does."""
    try:
        mirror.put(key(name), decode_json(raw(name, port, **more), SERVICE.type))
    except DecodeError as error:
        mirror.report(key(name), str(error))


def key(name: str) -> ObjectKey:
    return ObjectKey("Service", "", name)


def listing(*items: bytes, version: str = "7", more: str = "") -> bytes:
    metadata = json.dumps({"resourceVersion": version, "continue": more}).encode()
    return b'{"kind": "ServiceList", "metadata": %s, "items": [%s]}' % (metadata, b",".join(items))


def test_only_differences_are_told(mirror: Mirror, told: Told) -> None:
    put(mirror, "a")
    put(mirror, "a", resourceVersion="8", managedFields=[{"manager": "x"}])
    put(mirror, "a", 81)
    mirror.delete(key("a"))
    mirror.delete(key("a"))
    assert told.take() == [("added", "a"), ("modified", "a"), ("deleted", "a")]


def test_a_list_is_compared_with_what_is_held(mirror: Mirror, told: Told) -> None:
    for name in ("a", "b", "c"):
        put(mirror, name)
    told.take()
    first = mirror.read_page(listing(raw("a"), more="next"))
    second = mirror.read_page(listing(raw("b", 81), raw("d")))
    assert told.take() == []
    assert (first.resource_version, first.continue_) == ("7", "next")
    mirror.take_page(first)
    mirror.take_page(second)
    assert told.take() == [("modified", "b"), ("added", "d")]
    mirror.keep_only({*first.keys, *second.keys})
    assert told.take() == [("deleted", "c")]
    mirror.clear()
    assert sorted(told.take()) == [("deleted", "a"), ("deleted", "b"), ("deleted", "d")]


def test_a_malformed_object_is_not_a_deleted_one(mirror: Mirror, told: Told, caplog: Any) -> None:
    put(mirror, "a")
    told.take()
    page = mirror.read_page(listing(raw("a", "x"), b'{"spec": {}}', b"7", raw("b")))
    mirror.take_page(page)
    mirror.keep_only({*page.keys, *(name for name, _ in page.malformed)})
    assert told.take() == [("added", "b")]
    assert [one.getMessage() for one in caplog.records] == [
        "Service a: spec.ports[0].port: 'x': expected int, got str; its last good version stays in force",
        "a Service without a name: metadata: required; it is left out",
        "a Service without a name: 7: expected object, got int; it is left out",
    ]


def test_what_is_malformed_is_said_once_and_when_it_is_over(mirror: Mirror, told: Told, caplog: Any) -> None:
    with caplog.at_level(logging.INFO):
        for port in ("x", "x", "y", 80, 80):
            put(mirror, "a", port)
    assert told.take() == [("added", "a")]
    assert [one.levelname for one in caplog.records] == ["ERROR", "ERROR", "INFO"]
    assert caplog.records[-1].getMessage() == "Service a is good again"


@pytest.mark.parametrize("text", [b"", b"[]", b'{"kind": "Status"}', b"\xff"])
def test_what_is_no_list(mirror: Mirror, text: bytes) -> None:
    with pytest.raises(DecodeError):
        mirror.read_page(text)


def test_a_list_of_nothing(mirror: Mirror) -> None:
    """Go writes it as null."""
    page = mirror.read_page(b'{"metadata": {"resourceVersion": "3"}, "items": null}')
    assert (page.keys, page.differing, page.malformed, page.continue_) == ((), (), (), "")


class TestVersions:
    """Whoever writes status wants to know each version, whatever differs in it."""

    @pytest.fixture
    def seen(self) -> list[tuple[str, str]]:
        return []

    @pytest.fixture
    def watched(self, told: Told, seen: list[tuple[str, str]]) -> Mirror:
        return Mirror(SERVICE, told, lambda key, version: seen.append((key.name, version)))

    def test_of_every_object_in_a_list(self, watched: Mirror, seen: list[tuple[str, str]]) -> None:
        items = b",".join((raw("good", resourceVersion="5"), raw("bad", "x", resourceVersion="6")))
        page = watched.read_page(b'{"metadata": {}, "items": [' + items + b"]}")
        assert seen == []  # it may be read in another thread
        watched.take_page(page)
        assert seen == [("good", "5"), ("bad", "6")]

    def test_where_nobody_asks_none_is_read(self, mirror: Mirror) -> None:
        page = mirror.read_page(b'{"metadata": {}, "items": [' + raw("a", resourceVersion="5") + b"]}")
        assert page.versions == ()
