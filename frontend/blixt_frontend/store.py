"""The model as it stands, in the order of its changes: what each watcher lacks is at the log's new end."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from blixt_frontend.items import Item, ItemKind, Topology
from blixt_frontend.rounds import Entry, FullFrames, FullSet, Position, Round, View, difference, moved

log = logging.getLogger(__name__)

_PARTS = {ItemKind.NODE: 1, ItemKind.SERVICE: 2}
#: Deletions that are remembered. Whoever is further behind starts afresh.
TOMBSTONES = 65_536


class TooFarBehindError(Exception):
    """A watcher's position is older than the oldest deletion that the store remembers."""


class Store:
    """Every unit's items (a unit is a Service or a Gateway), with the revision of each one's last change.

    Synchronous but for `changed`: no watcher ever sees half a transaction.
    """

    def __init__(self, tombstones: int = TOMBSTONES) -> None:
        self.revision = 0
        self.ready = False
        self._log: OrderedDict[str, Entry] = OrderedDict()  # by path, ordered by revision
        self._tombstones: OrderedDict[str, None] = OrderedDict()  # paths in the log, oldest first
        self._limit = tombstones
        self._floor = 0  # the revision of the newest deletion that was forgotten
        self._units: dict[str, tuple[str, ...]] = {}  # the paths that each unit claims
        self._contested: dict[str, dict[str, Item]] = {}  # path -> units that wait for it
        self._zones: dict[str, str] = {}
        self._full_sets: dict[bool, FullSet] = {}  # of this revision, with extensions and without
        self._wake = asyncio.Event()
        self._in_transaction = False
        self._dirty = False
        self._wake_wanted = False

    def __len__(self) -> int:
        """The number of items that are there."""
        return len(self._log) - len(self._tombstones)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Changes made inside get one revision and wake the watchers once, also where the body raises."""
        if self._in_transaction:
            yield
            return
        self._in_transaction = True
        try:
            yield
        finally:
            self._in_transaction = False
            self._publish()

    def replace(self, unit: str, items: Iterable[Item]) -> None:
        """Make `items` all that `unit` has. Only items that really differ count as changed.

        A path belongs to the unit that claimed it first; another one's item for it waits, and takes the path
        over when it is given up. That, and a path of the wrong shape, is logged once for each unit.
        """
        with self.transaction():
            wanted = self._sound(unit, items)
            held = self._units.pop(unit, ())
            if wanted:
                self._units[unit] = tuple(wanted)
            for path in held:
                if path not in wanted:
                    self._release(unit, path)
            waiting = [path for path, item in wanted.items() if self._claim(unit, item)]
            if waiting:
                self._report_contested(unit, waiting)

    def set_zones(self, zones: Mapping[str, str]) -> None:
        """The zone of every node that has one. Watchers on nodes whose zone changes get what differs."""
        if self._zones != zones:
            with self.transaction():
                self._zones = dict(zones)
                self._wake_wanted = True

    def set_ready(self) -> None:
        """Everything was listed once: watchers may be served. Cannot be taken back."""
        if not self.ready:
            with self.transaction():
                self.ready = True
                self._wake_wanted = True

    def topology(self, node: str) -> Topology:
        """Where a node stands; one that nobody has told of has no zone."""
        return Topology(node, self._zones.get(node, ""))

    def wake(self) -> None:
        """Let every watcher look again."""
        woken, self._wake = self._wake, asyncio.Event()
        woken.set()

    async def changed(self) -> None:
        """Wait for the next change, or `wake`. Look at the store first: there is no await in between."""
        await self._wake.wait()

    def round(self, view: View, position: Position | None) -> Round:
        """What brings a watcher from `position` (None: it has nothing) to the present, seen by `view`.

        Costs what changed since the position; all items for a new watcher or one whose view has changed.
        Raises TooFarBehindError where the deletions since then are no longer all known.
        """
        target = Position(view, self.revision)
        if position is None:
            return Round(target, first=True, frames=FullFrames(self._full_set(view.extensions), view))
        if position.revision < self._floor:
            raise TooFarBehindError
        since = position.revision
        entries = (
            self._changed_since(since)
            if position.view == view
            else moved(self._log.values(), position.view, view, since)
        )
        return Round(target, first=False, frames=difference(entries, view))

    def _full_set(self, extensions: bool) -> FullSet:
        full = self._full_sets.get(extensions)
        if full is None:
            full = self._full_sets[extensions] = FullSet(self._log.values(), extensions)
        return full

    def _changed_since(self, revision: int) -> Iterator[Entry]:
        for entry in reversed(self._log.values()):
            if entry.revision <= revision:
                return
            yield entry

    def _sound(self, unit: str, items: Iterable[Item]) -> dict[str, Item]:
        sound: dict[str, Item] = {}
        bad: list[str] = []
        for item in items:
            if item.path in sound or not well_formed(item):
                bad.append(item.path)
            else:
                sound[item.path] = item
        if bad:
            log.error("%s: %d items left out, doubled or of the wrong shape: %s", unit, len(bad), _some(bad))
        return sound

    def _claim(self, unit: str, item: Item) -> bool:
        """Write the item if its path is free or the unit's own; else let it wait. True: it waits anew."""
        entry = self._log.get(item.path)
        if entry is None or entry.unit is None or entry.unit == unit:
            self._write(unit, item)
            return False
        waiting = self._contested.setdefault(item.path, {})
        anew = unit not in waiting
        waiting[unit] = item
        return anew

    def _release(self, unit: str, path: str) -> None:
        waiting = self._contested.get(path, {})
        if self._log[path].unit != unit:
            del waiting[unit]
        elif waiting:
            heir = next(iter(waiting))
            self._write(heir, waiting.pop(heir))
        else:
            self._bury(path)
        if path in self._contested and not waiting:
            del self._contested[path]

    def _write(self, unit: str, item: Item) -> None:
        old = self._log.get(item.path)
        new = Entry.of(item, unit, self.revision + 1)
        if old is not None and old.same_content(new):
            self._log[item.path] = old.handed_to(unit)  # neither its revision nor its place changes
            return
        self._log[item.path] = new
        self._log.move_to_end(item.path)
        self._tombstones.pop(item.path, None)
        self._dirty = True

    def _bury(self, path: str) -> None:
        self._log[path] = self._log[path].tombstone(self.revision + 1)
        self._log.move_to_end(path)
        self._tombstones[path] = None
        self._dirty = True
        if len(self._tombstones) > self._limit:
            forgotten, _ = self._tombstones.popitem(last=False)
            self._floor = self._log.pop(forgotten).revision

    def _publish(self) -> None:
        if self._dirty:
            self.revision += 1
            self._full_sets.clear()
        if self._dirty or self._wake_wanted:
            self._dirty = self._wake_wanted = False
            self.wake()

    def _report_contested(self, unit: str, paths: list[str]) -> None:
        holders = sorted({str(self._log[path].unit) for path in paths})
        log.warning(
            "%s: %d items left out while others hold their paths: %s (held by %s)",
            unit,
            len(paths),
            _some(paths),
            _some(holders),
        )


def well_formed(item: Item) -> bool:
    """`namespace/name` for a service, `namespace/name/key` for an endpoint: KPNG's readers trust it."""
    parts = item.path.split("/")
    return len(parts) == _PARTS.get(item.kind, 3) and all(parts)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
