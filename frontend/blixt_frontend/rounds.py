"""A round: the ordered items that bring one watcher up to date."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from typing import NamedTuple

import msgspec

from blixt_api import wire
from blixt_frontend.items import NO_VARIANTS, Encoded, Item, ItemKind, Topology


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
    frames: Iterable[bytes]

    def blocks(self) -> Iterator[Sequence[bytes]]:
        """The frames, many at a time; some may be empty."""
        frames = self.frames
        return frames.blocks() if isinstance(frames, FullFrames) else iter((tuple(frames),))


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An item in the log, encoded: frames to set it for whoever sees which variant."""

    path: str
    unit: str | None  # None: a tombstone
    revision: int
    kind: ItemKind
    extension: bool
    default: bytes | None
    zones: Mapping[str, bytes | None]
    #: The node whose variant is `at_home`: most endpoints have one, for which a mapping would be too large.
    home: str | None
    at_home: bytes | None
    #: Where several nodes have variants: all of them.
    nodes: Mapping[str, bytes | None]

    @classmethod
    def of(cls, item: Item, unit: str, revision: int) -> Entry:
        ref = _ref(item.kind, item.path)

        def framed(variant: Encoded) -> bytes | None:
            return None if variant is None else wire.set_frame(ref, variant)

        home, at_home, nodes = None, None, NO_VARIANTS
        if len(item.nodes) == 1:
            ((home, variant),) = item.nodes.items()
            at_home = framed(variant)
        elif item.nodes:
            nodes = {node: framed(variant) for node, variant in item.nodes.items()}
        return cls(
            item.path,
            unit,
            revision,
            item.kind,
            item.blixt_only,
            framed(item.default),
            {zone: framed(variant) for zone, variant in item.zones.items()} if item.zones else NO_VARIANTS,
            home,
            at_home,
            nodes,
        )

    @property
    def delete(self) -> bytes:
        """The frame that deletes the item. Few are ever asked for it, so none keeps it."""
        return wire.frame(wire.delete_item(_ref(self.kind, self.path)))

    def tombstone(self, revision: int) -> Entry:
        """The entry that tells of this one's deletion."""
        return Entry(self.path, None, revision, self.kind, False, None, NO_VARIANTS, None, None, NO_VARIANTS)

    def handed_to(self, unit: str) -> Entry:
        """The same entry as another unit's."""
        return self if self.unit == unit else msgspec.structs.replace(self, unit=unit)

    def same_content(self, other: Entry) -> bool:
        """Whether every watcher sees the same in both."""
        return (
            self.unit is not None
            and self.kind is other.kind
            and self.extension == other.extension
            and self.default == other.default
            and self.zones == other.zones
            and (self.home, self.at_home) == (other.home, other.at_home)
            and self.nodes == other.nodes
        )

    @property
    def own_nodes(self) -> Iterable[str]:
        """The nodes that have variants."""
        return self.nodes if self.home is None else (self.home,)

    def seen_by(self, view: View) -> bytes | None:
        """The frame that sets the item for a watcher; None: it must not have it. As Item.variant."""
        if self.extension and not view.extensions:
            return None
        topology = view.topology
        if topology.node == self.home:
            return self.at_home
        if topology.node in self.nodes:
            return self.nodes[topology.node]
        return self.zones.get(topology.zone, self.default)


_SETS = {ItemKind.SERVICE: wire.SERVICES, ItemKind.NODE: wire.NODES}


def _ref(kind: ItemKind, path: str) -> bytes:
    return wire.ref(_SETS.get(kind, wire.ENDPOINTS), path)


#: Full sets are laid out in blocks of at least that many bytes, but for the last one.
_BLOCK = 64 * 1024


class _Layout(NamedTuple):
    """A place for each item of a full set, empty where nobody in the zone has it by default."""

    frames: list[bytes]
    #: The places at which blocks begin, and the end.
    starts: list[int]


class FullSet:
    """All items at one revision, laid out so that each new watcher costs little more than to send them.

    When a frontend starts, every node of the cluster wants them at once; of what they get, only the endpoints
    that a node sees in its own way differ.
    """

    def __init__(self, entries: Iterable[Entry], extensions: bool) -> None:
        groups: dict[ItemKind, list[Entry]] = {kind: [] for kind in ItemKind}
        for entry in entries:
            if entry.unit is not None and (extensions or not entry.extension):
                groups[entry.kind].append(entry)
        #: Services, pod endpoints, other endpoints, nodes.
        self.entries = [entry for kind in ItemKind for entry in groups[kind]]
        self._of_node: dict[str, array[int]] = {}
        for position, entry in enumerate(self.entries):
            for node in entry.own_nodes:
                self._of_node.setdefault(node, array("L")).append(position)
        self._layouts: dict[str, _Layout] = {}

    def own(self, node: str) -> Sequence[int]:
        """The places of the items that the node sees in its own way."""
        return self._of_node.get(node, ())

    def layout(self, zone: str) -> _Layout:
        layout = self._layouts.get(zone)
        if layout is None:
            frames = [entry.zones.get(zone, entry.default) or b"" for entry in self.entries]
            layout = self._layouts[zone] = _Layout(frames, _block_starts(frames))
        return layout


def _block_starts(frames: Sequence[bytes]) -> list[int]:
    starts = [0]
    sizes = list(accumulate(map(len, frames)))
    while starts[-1] < len(frames):
        before = sizes[starts[-1] - 1] if starts[-1] else 0
        starts.append(min(bisect_left(sizes, before + _BLOCK, starts[-1]) + 1, len(frames)))
    return starts


class FullFrames:
    """What sets all that a watcher must have, put together as it is sent: a thousand may want it at once.

    Nothing is deleted: Reset has said that.
    """

    def __init__(self, full: FullSet, view: View) -> None:
        self._full = full
        self._view = view

    def __iter__(self) -> Iterator[bytes]:
        return filter(None, chain.from_iterable(self.blocks()))

    def blocks(self) -> Iterator[Sequence[bytes]]:
        full, view = self._full, self._view
        frames, starts = full.layout(view.topology.zone)
        own = iter(full.own(view.topology.node))
        position = next(own, None)
        for start, end in pairwise(starts):
            block = frames[start:end]
            while position is not None and position < end:
                block[position - start] = full.entries[position].seen_by(view) or b""
                position = next(own, None)
            yield block


def difference(entries: Iterable[Entry], view: View) -> list[bytes]:
    """What changed, in KPNG's order. Its Go readers attach an endpoint to its Service, which must be there.

    An item that the watcher must not have is deleted, whether it ever had it or not; but nobody is told of
    others' nodes.
    """
    sets: dict[ItemKind, list[bytes]] = {kind: [] for kind in ItemKind}
    deletes: dict[ItemKind, list[bytes]] = {kind: [] for kind in ItemKind}
    for entry in entries:
        if entry.kind is ItemKind.NODE and not (view.extensions and entry.path == view.topology.node):
            continue
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
        *sets[ItemKind.NODE],
        *deletes[ItemKind.NODE],
    ]


def moved(entries: Iterable[Entry], before: View, now: View, since: int) -> Iterator[Entry]:
    """Entries that changed since a revision, or that the watcher's two views see differently."""
    return (e for e in entries if e.revision > since or e.seen_by(before) is not e.seen_by(now))
