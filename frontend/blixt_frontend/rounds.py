"""A round: the ordered items that bring one watcher up to date."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from blixt_api import wire
from blixt_frontend.items import Encoded, Item, ItemKind, Topology

_NONE: Mapping[str, bytes | None] = {}


@dataclass(frozen=True, slots=True)
class View:
    """Who looks: a node, and whether its stream carries what only Blixt's readers understand."""

    topology: Topology
    extensions: bool


@dataclass(frozen=True, slots=True)
class Position:
    """What a watcher has: everything up to `revision`, as `view` sees it."""

    view: View
    revision: int


@dataclass(frozen=True, slots=True)
class Round:
    """Frames (see blixt_api.wire) of Set and Delete items in KPNG's order, without Reset and Sync."""

    position: Position  # where it brings the watcher
    first: bool  # of its stream: a full set
    frames: list[bytes]


@dataclass(frozen=True, slots=True)
class Entry:
    """An item in the log, encoded: `frames` to set it for whoever sees which variant, one to delete it."""

    unit: str | None  # None: a tombstone
    revision: int
    kind: ItemKind
    extension: bool
    default: bytes | None
    zones: Mapping[str, bytes | None]
    nodes: Mapping[str, bytes | None]
    delete: bytes

    @classmethod
    def of(cls, item: Item, unit: str, revision: int) -> Entry:
        ref = wire.ref(wire.SERVICES if item.kind is ItemKind.SERVICE else wire.ENDPOINTS, item.path)

        def framed(variant: Encoded) -> bytes | None:
            return None if variant is None else wire.frame(wire.set_item(ref, variant))

        return cls(
            unit,
            revision,
            item.kind,
            item.blixt_only,
            framed(item.default),
            {zone: framed(variant) for zone, variant in item.zones.items()} if item.zones else _NONE,
            {node: framed(variant) for node, variant in item.nodes.items()} if item.nodes else _NONE,
            wire.frame(wire.delete_item(ref)),
        )

    def tombstone(self, revision: int) -> Entry:
        """The entry that tells of this one's deletion."""
        return Entry(None, revision, self.kind, False, None, _NONE, _NONE, self.delete)

    def handed_to(self, unit: str) -> Entry:
        """The same entry as another unit's."""
        return self if self.unit == unit else dataclasses.replace(self, unit=unit)

    def same_content(self, other: Entry) -> bool:
        """Whether every watcher sees the same in both."""
        return (
            self.unit is not None
            and self.kind is other.kind
            and self.extension == other.extension
            and self.default == other.default
            and self.zones == other.zones
            and self.nodes == other.nodes
        )

    def seen_by(self, view: View) -> bytes | None:
        """The frame that sets the item for a watcher; None: it must not have it. As Item.variant."""
        if self.extension and not view.extensions:
            return None
        topology = view.topology
        if topology.node in self.nodes:
            return self.nodes[topology.node]
        return self.zones.get(topology.zone, self.default)


def everything(entries: Iterable[Entry], view: View) -> list[bytes]:
    """A full set: services, pod endpoints, other endpoints. Nothing is deleted: Reset has said that."""
    services: list[bytes] = []
    pods: list[bytes] = []
    others: list[bytes] = []
    by_kind = {ItemKind.SERVICE: services, ItemKind.POD_ENDPOINT: pods, ItemKind.ENDPOINT: others}
    for entry in entries:
        framed = entry.seen_by(view)
        if framed is not None:
            by_kind[entry.kind].append(framed)
    return services + pods + others


def difference(entries: Iterable[Entry], view: View) -> list[bytes]:
    """What changed, in KPNG's order. Its Go readers attach an endpoint to its Service, which must be there.

    An item that the watcher must not have is deleted, whether it ever had it or not.
    """
    sets: dict[ItemKind, list[bytes]] = {kind: [] for kind in ItemKind}
    deletes: dict[ItemKind, list[bytes]] = {kind: [] for kind in ItemKind}
    for entry in entries:
        framed = entry.seen_by(view)
        if framed is None:
            deletes[entry.kind].append(entry.delete)
        else:
            sets[entry.kind].append(framed)
    return [
        *sets[ItemKind.SERVICE],
        *deletes[ItemKind.ENDPOINT],
        *sets[ItemKind.POD_ENDPOINT],
        *deletes[ItemKind.POD_ENDPOINT],
        *sets[ItemKind.ENDPOINT],
        *deletes[ItemKind.SERVICE],
    ]


def moved(entries: Iterable[Entry], before: View, now: View, since: int) -> Iterator[Entry]:
    """Entries that changed since a revision, or that the watcher's two views see differently."""
    return (e for e in entries if e.revision > since or e.seen_by(before) is not e.seen_by(now))
