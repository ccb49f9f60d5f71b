"""The store's revisions, by example."""

import asyncio
import logging
from typing import Any

import pytest
from msgspec import structs

from blixt_api import localv1_pb2 as local
from blixt_api import wire
from blixt_frontend.items import Item, ItemKind, Topology
from blixt_frontend.rounds import Position, Round, View
from blixt_frontend.store import Store, TooFarBehindError

VIEW = View(Topology("n1"), extensions=True)
KPNG = View(Topology("n1"), extensions=False)


def service(path: str, content: bytes = b"s") -> Item:
    return Item(ItemKind.SERVICE, path, content)


def pod(path: str, content: bytes | None = b"p", **more: Any) -> Item:
    return Item(ItemKind.POD_ENDPOINT, path, content, **more)


def ops(round_: Round) -> list[str]:
    """`+path content` or `-path`, in the round's order."""
    found = []
    for framed in round_.frames:
        item = local.OpItem.FromString(wire.unframe(framed))
        if item.WhichOneof("Op") == "Set":
            found.append(f"+{item.Set.Ref.Path} {item.Set.Bytes.decode()}")
        else:
            found.append(f"-{item.Delete.Path}")
    return found


def at(store: Store, view: View = VIEW) -> Position:
    return Position(view, store.revision)


def test_a_new_watcher_gets_everything_and_no_deletion() -> None:
    store = Store()
    store.replace("a", [pod("ns/a/1"), service("ns/a"), pod("ns/a/2", None), pod("ns/a/3")])
    store.replace("a", [pod("ns/a/1"), service("ns/a"), pod("ns/a/2", None)])
    round_ = store.round(VIEW, None)
    assert round_.first
    assert ops(round_) == ["+ns/a s", "+ns/a/1 p"]


def test_a_difference_is_what_changed() -> None:
    store = Store()
    store.replace("a", [service("ns/a"), pod("ns/a/1"), pod("ns/a/2")])
    store.replace("b", [service("ns/b")])
    position = at(store)
    store.replace("a", [service("ns/a"), pod("ns/a/2", b"new"), pod("ns/a/3")])
    round_ = store.round(VIEW, position)
    assert not round_.first
    assert sorted(ops(round_)) == ["+ns/a/2 new", "+ns/a/3 p", "-ns/a/1"]


def test_equal_items_are_no_change() -> None:
    store = Store()
    store.replace("a", [service("ns/a"), pod("ns/a/1", nodes={"n1": b"local"})])
    revision = store.revision
    store.replace("a", [pod("ns/a/1", nodes={"n1": b"local"}), service("ns/a")])
    store.replace("nothing", [])
    assert store.revision == revision


BASE = pod("ns/a/1", zones={"z": b"z"}, nodes={"n": b"n"})


@pytest.mark.parametrize(
    "change",
    [
        {"default": b"other"},
        {"default": None},
        {"zones": {}},
        {"zones": {"z": b"other"}},
        {"nodes": {"n": None}},
        {"nodes": {"n2": b"n"}},
        {"blixt_only": True},
        {"kind": ItemKind.ENDPOINT},
    ],
    ids=str,
)
def test_whatever_differs_is_a_change(change: dict[str, Any]) -> None:
    store = Store()
    store.replace("a", [BASE])
    revision = store.revision
    store.replace("a", [structs.replace(BASE, **change)])
    assert store.revision == revision + 1
    store.replace("a", [structs.replace(BASE, **change)])
    assert store.revision == revision + 1


def test_a_difference_costs_what_changed_whatever_there_is() -> None:
    """Not timed: the log is walked from its new end, and no further than the first old entry."""
    store = Store()
    for number in range(1000):
        store.replace(str(number), [service(f"ns/{number}")])
    position = at(store)
    for _ in range(100):
        for number in (3, 500):
            store.replace(str(number), [service(f"ns/{number}", str(store.revision).encode())])
    assert len(list(store._changed_since(position.revision))) == 2


def test_order_within_a_round_is_kpngs() -> None:
    store = Store()
    old = [
        service("ns/old"),
        pod("ns/old/pod"),
        Item(ItemKind.ENDPOINT, "ns/old/hash", b"e"),
    ]
    new = [
        Item(ItemKind.ENDPOINT, "ns/new/hash", b"e"),
        pod("ns/new/pod"),
        service("ns/new"),
    ]
    store.replace("old", old)
    position = at(store)
    with store.transaction():
        store.replace("old", [])
        store.replace("new", new)
    assert ops(store.round(VIEW, position)) == [
        "+ns/new s",
        "-ns/old/hash",
        "+ns/new/pod p",
        "-ns/old/pod",
        "+ns/new/hash e",
        "-ns/old",
    ]


def test_a_node_s_item_is_for_that_node_alone() -> None:
    """Others aren't even told of its deletion: a thousand nodes would be told of a thousand."""
    store = Store()

    def node(name: str, content: bytes) -> Item:
        return Item(ItemKind.NODE, name, None, nodes={name: content}, blixt_only=True)

    store.replace("Node /n1", [node("n1", b"a")])
    store.replace("Node /n2", [node("n2", b"a")])
    other = View(Topology("n2"), extensions=True)
    assert [ops(store.round(view, None)) for view in (VIEW, other, KPNG)] == [["+n1 a"], ["+n2 a"], []]
    positions = {view: at(store, view) for view in (VIEW, other, KPNG)}
    store.replace("Node /n1", [node("n1", b"b")])
    assert [ops(store.round(view, positions[view])) for view in positions] == [["+n1 b"], [], []]
    store.replace("Node /n1", [])
    assert [ops(store.round(view, positions[view])) for view in positions] == [["-n1"], [], []]
    assert wire.NODES == 100


def test_a_transaction_is_one_revision_and_one_wake_up() -> None:
    store = Store()
    wakes = []
    store.wake = lambda: wakes.append(store.revision)  # type: ignore[method-assign]  # counted, not done
    with store.transaction():
        store.replace("a", [service("ns/a")])
        store.replace("b", [service("ns/b")])
        assert wakes == []
    assert wakes == [1]
    with store.transaction():
        store.replace("a", [service("ns/a")])
    assert wakes == [1]


def test_a_failing_transaction_publishes_what_it_did() -> None:
    def half(store: Store) -> None:
        with store.transaction():
            store.replace("a", [service("ns/a")])
            raise KeyError

    store = Store()
    with pytest.raises(KeyError):
        half(store)
    assert store.revision == 1
    assert ops(store.round(VIEW, None)) == ["+ns/a s"]


async def test_watchers_wake_on_change() -> None:
    store = Store()
    waiting = [asyncio.create_task(store.changed()) for _ in range(3)]
    await asyncio.sleep(0)
    store.replace("a", [service("ns/a")])
    await asyncio.wait_for(asyncio.gather(*waiting), 10)


def test_forgotten_deletions_end_who_is_behind_them() -> None:
    store = Store(tombstones=2)
    store.replace("a", [service("ns/a"), *(pod(f"ns/a/{n}") for n in range(3))])
    behind = at(store)
    store.replace("a", [service("ns/a"), pod("ns/a/1"), pod("ns/a/2")])
    one_on = at(store)
    store.replace("a", [service("ns/a")])
    with pytest.raises(TooFarBehindError):
        store.round(VIEW, behind)
    assert sorted(ops(store.round(VIEW, one_on))) == ["-ns/a/1", "-ns/a/2"]
    assert ops(store.round(VIEW, None)) == ["+ns/a s"]
    assert len(store) == 1


def test_a_path_that_comes_back_is_no_tombstone() -> None:
    store = Store(tombstones=1)
    for content in (b"1", b"2", b"3", b"4"):
        store.replace("a", [service("ns/a", content)])
        store.replace("a", [])
    store.replace("a", [service("ns/a", b"5")])
    store.replace("b", [service("ns/b")])
    store.replace("b", [])
    assert ops(store.round(VIEW, Position(VIEW, 1))) == ["+ns/a 5", "-ns/b"]


class TestVariants:
    def test_node_then_zone_then_default(self) -> None:
        store = Store()
        store.set_zones({"n2": "z", "n1": "z"})
        store.replace("a", [pod("ns/a/1", b"default", zones={"z": b"zone"}, nodes={"n1": b"node"})])
        seen = {
            node: ops(store.round(View(store.topology(node), extensions=True), None))
            for node in ("n1", "n2", "unknown")
        }
        assert seen == {
            "n1": ["+ns/a/1 node"],
            "n2": ["+ns/a/1 zone"],
            "unknown": ["+ns/a/1 default"],
        }

    def test_what_a_node_must_no_longer_have_is_deleted(self) -> None:
        store = Store()
        store.replace("a", [pod("ns/a/1")])
        position = at(store)
        store.replace("a", [pod("ns/a/1", nodes={"n1": None})])
        assert ops(store.round(VIEW, position)) == ["-ns/a/1"]

    def test_a_move_to_another_zone_tells_what_differs_there(self) -> None:
        store = Store()
        store.set_zones({"n1": "a"})
        store.replace(
            "s",
            [
                service("ns/s"),
                pod("ns/s/1", None, zones={"a": b"1"}),
                pod("ns/s/2", None, zones={"b": b"2"}),
            ],
        )
        position = Position(View(store.topology("n1"), extensions=True), store.revision)
        store.set_zones({"n1": "b"})
        view = View(store.topology("n1"), extensions=True)
        assert ops(store.round(view, position)) == ["+ns/s/2 2", "-ns/s/1"]

    def test_blixt_only_items_are_not_for_kpng(self) -> None:
        store = Store()
        store.replace("a", [service("ns/a"), pod("ns/a/1"), pod("ns/a/2", blixt_only=True)])
        assert ops(store.round(KPNG, None)) == ["+ns/a s", "+ns/a/1 p"]
        assert ops(store.round(VIEW, None)) == ["+ns/a s", "+ns/a/1 p", "+ns/a/2 p"]
        position = at(store, KPNG)
        store.replace("a", [service("ns/a"), pod("ns/a/1", blixt_only=True), pod("ns/a/2")])
        assert sorted(ops(store.round(KPNG, position))) == ["+ns/a/2 p", "-ns/a/1"]


class TestContestedPaths:
    def test_the_first_unit_keeps_a_path_and_the_other_is_reported(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        store = Store()
        store.replace("a", [service("ns/x", b"a")])
        with caplog.at_level(logging.WARNING):
            store.replace("b", [service("ns/x", b"b"), service("ns/b")])
            store.replace("b", [service("ns/x", b"b2"), service("ns/b")])
        assert [record.getMessage() for record in caplog.records] == [
            "b: 1 items left out while others hold their paths: ns/x (held by a)"
        ]
        assert sorted(ops(store.round(VIEW, None))) == ["+ns/b s", "+ns/x a"]

    def test_a_path_that_is_given_up_goes_to_who_waits(self) -> None:
        store = Store()
        store.replace("a", [service("ns/x", b"a")])
        store.replace("b", [service("ns/x", b"b")])
        store.replace("c", [service("ns/x", b"c")])
        store.replace("b", [service("ns/x", b"b2")])
        store.replace("a", [])
        assert ops(store.round(VIEW, None)) == ["+ns/x b2"]
        store.replace("c", [])
        store.replace("b", [])
        assert ops(store.round(VIEW, None)) == []
        assert not store._contested

    def test_an_equal_heir_is_no_change(self) -> None:
        store = Store()
        store.replace("a", [service("ns/x")])
        store.replace("b", [service("ns/x")])
        revision = store.revision
        store.replace("a", [])
        assert store.revision == revision
        store.replace("a", [service("ns/x", b"late")])
        assert ops(store.round(VIEW, None)) == ["+ns/x s"]

    def test_a_unit_renamed_in_one_transaction(self) -> None:
        store = Store()
        store.replace("old", [service("ns/x")])
        revision = store.revision
        with store.transaction():
            store.replace("new", [service("ns/x")])
            store.replace("old", [])
        assert store.revision == revision
        store.replace("new", [])
        assert len(store) == 0


@pytest.mark.parametrize(
    "item",
    [
        service("name"),
        service("ns/"),
        service("ns/a/b"),
        pod("ns/a"),
        pod("ns/a/"),
        pod("ns/a/b/c"),
    ],
    ids=lambda item: item.path,
)
def test_paths_that_kpngs_readers_would_crash_on_are_left_out(
    item: Item, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store()
    store.replace("a", [service("ns/a"), item])
    assert ops(store.round(VIEW, None)) == ["+ns/a s"]
    assert "wrong shape" in caplog.text


def test_a_path_twice_in_a_unit(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    store.replace("a", [service("ns/a", b"1"), service("ns/a", b"2")])
    assert ops(store.round(VIEW, None)) == ["+ns/a 1"]
    assert "doubled" in caplog.text
