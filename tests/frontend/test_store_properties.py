"""Whatever happens, and however a client pulls: applying the rounds as KPNG says, it has its node's items."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import structs

from blixt_api import localv1_pb2 as local
from blixt_api import wire
from blixt_frontend.items import Item, ItemKind
from blixt_frontend.rounds import Position, Round, View
from blixt_frontend.store import Store, TooFarBehindError

NODES = ("n1", "n2", "n3")
ZONES = ("", "z1", "z2")
UNITS = ("u1", "u2", "u3")
# Few enough that units contend for them, and that kinds change under a path.
SERVICES = ("ns/a", "ns/b")
ENDPOINTS = ("ns/a/1", "ns/a/2", "ns/b/1")

contents = st.one_of(st.none(), st.sampled_from([b"", b"1", b"2"]))
variants: dict[str, st.SearchStrategy[Any]] = {
    "default": contents,
    "zones": st.dictionaries(st.sampled_from(ZONES), contents, max_size=2),
    "nodes": st.dictionaries(st.sampled_from(NODES), contents, max_size=2),
    "blixt_only": st.booleans(),
}
items = st.one_of(
    st.builds(Item, kind=st.just(ItemKind.SERVICE), path=st.sampled_from(SERVICES), **variants),
    st.builds(
        Item,
        kind=st.sampled_from([ItemKind.POD_ENDPOINT, ItemKind.ENDPOINT]),
        path=st.sampled_from(ENDPOINTS),
        **variants,
    ),
)
unit_items = st.lists(items, max_size=4, unique_by=lambda item: item.path).map(tuple)


@dataclass
class Client:
    """What KPNG's rules make of rounds, for one node on one of the streams."""

    node: str
    extensions: bool
    position: Position | None = None
    held: dict[str, bytes] = field(default_factory=dict)

    def apply(self, round_: Round) -> None:
        swept = {} if round_.first else self.held
        for framed in round_.frames:
            item = local.OpItem.FromString(wire.unframe(framed))
            if item.WhichOneof("Op") == "Set":
                swept[item.Set.Ref.Path] = item.Set.Bytes
            else:
                assert not round_.first, "the first round holds a deletion"
                swept.pop(item.Delete.Path, None)
        self.held = swept
        self.position = round_.position


class Units:
    """The store's rule of who has which path, in the plainest way: claims in the order they were made."""

    def __init__(self) -> None:
        self.claims: dict[str, list[tuple[str, Item]]] = {}

    def replace(self, unit: str, new: tuple[Item, ...]) -> None:
        wanted = {item.path: item for item in new}
        for path, claims in self.claims.items():
            self.claims[path] = [
                (owner, wanted.get(path, item) if owner == unit else item)
                for owner, item in claims
                if owner != unit or path in wanted
            ]
        for path, item in wanted.items():
            claims = self.claims.setdefault(path, [])
            if unit not in [owner for owner, _ in claims]:
                claims.append((unit, item))

    def seen_by(self, view: View) -> dict[str, bytes]:
        present = [claims[0][1] for claims in self.claims.values() if claims]
        return {
            item.path: variant
            for item in present
            if (view.extensions or not item.blixt_only)
            and (variant := item.variant(view.topology)) is not None
        }


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.store = Store(tombstones=2)
        self.units = Units()
        self.clients = [Client(node, extensions) for node in NODES for extensions in (True, False)]
        self.redials = 0

    @rule(changes=st.lists(st.tuples(st.sampled_from(UNITS), unit_items), min_size=1, max_size=3))
    def transaction(self, changes: list[tuple[str, tuple[Item, ...]]]) -> None:
        before = self.store.revision
        with self.store.transaction():
            for unit, new in changes:
                self.store.replace(unit, new)
                self.units.replace(unit, new)
        assert self.store.revision in (before, before + 1)

    @rule(unit=st.sampled_from(UNITS), number=st.integers(0, 3), data=st.data())
    def vary_one_item(self, unit: str, number: int, data: st.DataObject) -> None:
        """A change in one field, which is what most changes are."""
        held = [item for claims in self.units.claims.values() for owner, item in claims if owner == unit]
        if number < len(held):
            name = data.draw(st.sampled_from(sorted(variants)))
            held[number] = structs.replace(held[number], **{name: data.draw(variants[name])})
            self.transaction([(unit, tuple(held))])

    @rule(zones=st.dictionaries(st.sampled_from(NODES), st.sampled_from(ZONES)))
    def set_zones(self, zones: dict[str, str]) -> None:
        self.store.set_zones(zones)

    @rule(client=st.integers(0, 5), node=st.sampled_from(NODES))
    def ask_for_another_node(self, client: int, node: str) -> None:
        self.clients[client].node = node

    @rule(client=st.integers(0, 5))
    def pull(self, client: int) -> None:
        watcher = self.clients[client]
        view = View(self.store.topology(watcher.node), watcher.extensions)
        try:
            round_ = self.store.round(view, watcher.position)
        except TooFarBehindError:
            watcher.position = None
            round_ = self.store.round(view, None)
        watcher.apply(round_)
        assert watcher.held == self.units.seen_by(view)

    @rule(client=st.integers(0, 5))
    def redial(self, client: int) -> None:
        self.clients[client].position = None

    @precondition(lambda self: any(client.position for client in self.clients))
    @rule()
    def pull_all(self) -> None:
        for number in range(len(self.clients)):
            self.pull(number)

    @invariant()
    def the_log_is_sound(self) -> None:
        entries = list(self.store._log.values())
        assert [entry.revision for entry in entries] == sorted(entry.revision for entry in entries)
        dead = [path for path, entry in self.store._log.items() if entry.unit is None]
        assert dead == list(self.store._tombstones)
        assert len(dead) <= 2


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
