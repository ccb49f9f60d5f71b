"""Takes over what a backend with other layouts has pinned: its maps, its connections, its place on the hooks.

No packet may find neither version's programs, or the wrong ones' maps, at any moment:

1. Maps whose rows look the same are pinned by both versions. The rows of the others that userspace
   writes are brought over while nobody writes them: the process that did is gone.
2. Our programs go in front of theirs, and handle only flows that they know (`opening`): none yet. What they
   hand on finds the other version's programs, as before.
3. When they stand on every hook, what says that it opens a connection is ours. The other version gets no
   TCP connection any more, and those that it has are brought over.
4. All that is new is ours. What came to be in the meantime is brought over too.
5. The other version's programs and pins go.

Killed at any point, the next start begins again with what it finds. Where hooks have no order (before Linux
6.6), our programs replace theirs in step 2, one hook after the other, and all that is new is ours at once; so
connections are brought over before that as well.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from blixt_backend.planes.ebpf.btf import Btf, Field, MapShapes, Shape, pinned_shapes
from blixt_backend.planes.ebpf.convert import convert, lost
from blixt_backend.planes.ebpf.layout import FAMILIES, Layout, Opening
from blixt_backend.planes.ebpf.libbpf import BpfObject, obj_get, obj_pin
from blixt_backend.planes.ebpf.maps import LRU_HASH, BpfMap, joined
from blixt_backend.planes.ebpf.opening import OPENING, set_opening
from blixt_backend.planes.ebpf.pins import Pins
from blixt_backend.planes.ebpf.sizes import OPTION_OF

log = logging.getLogger(__name__)

#: Each version has its own: what they hold is of that version's programs.
_NOT_TAKEN = frozenset({OPENING, "xdp_next"})


class Upgrade:
    """From another version's pins to ours. Calls block, and raise BpfError."""

    def __init__(self, old: Pins, new: Pins) -> None:
        self._old = old
        self._new = new
        self._others_stay = True
        # The same flows go to the same endpoints in both versions.
        share(old.seed, new.seed)

    @classmethod
    def needed(cls, pins: Pins) -> Upgrade | None:
        """None: no other version is there."""
        others = pins.others()
        return cls(others[0], pins) if others else None

    def links(self, layout: Layout) -> Path:
        """Where the links are that ours go before."""
        return self._old.links(layout)

    def maps(self, layout: Layout) -> Path:
        return self._old.maps(layout)

    def begin(self, *, others_stay: bool) -> None:
        """Our programs are loaded, not attached. `others_stay`: behind ours, where hooks have an order."""
        self._others_stay = others_stay
        set_opening(self._new, Opening.NOTHING if others_stay else Opening.ALL)
        for layout in FAMILIES:
            for moving in self._moving(layout):
                moving.bring()

    def finish(self) -> None:
        """Our programs are on every hook: steps 3 to 5."""
        for opening in (Opening.STARTS, Opening.ALL) if self._others_stay else (Opening.ALL,):
            set_opening(self._new, opening)
            for layout in FAMILIES:
                for moving in self._moving(layout):
                    if moving.is_written_by_programs:
                        moving.bring()
        for other in self._new.others():
            other.remove()
        log.info("took over what %s held", self._old.version)

    def _moving(self, layout: Layout) -> Iterator[Moving]:
        """The maps whose rows look different, one at a time."""
        old, new = self._old.maps(layout), self._new.maps(layout)
        for pin in sorted(old.iterdir()) if old.is_dir() else ():
            if pin.name in _NOT_TAKEN or not (new / pin.name).exists():
                continue
            with BpfMap.open(pin) as theirs, BpfMap.open(new / pin.name) as ours:
                if theirs.info.id != ours.info.id:
                    yield Moving(theirs, ours)


class Moving:
    """A map of theirs, and ours of the same name."""

    def __init__(self, theirs: BpfMap, ours: BpfMap) -> None:
        self._theirs, self._ours = theirs, ours
        self._old, self._new = _shapes_of(theirs), _shapes_of(ours)

    @property
    def is_written_by_programs(self) -> bool:
        return self._ours.info.kind == LRU_HASH

    def bring(self) -> None:
        """Their rows to ours. What programs write is not written over: ours may have gone on with it."""
        old, new = self._old, self._new
        gone = {*lost(old.key, new.key), *lost(old.value, new.value)}
        log.info("map %s: its rows are brought over%s", self._ours.info.name, _without(gone))
        held = self._keys(self._ours) if self.is_written_by_programs else frozenset()
        for keys, values in self._theirs.chunks():
            keys = convert(keys, old.key, new.key)
            values = convert(values, old.value, new.value)
            if held:
                pairs = zip(_rows(keys, new.key.size), _rows(values, new.value.size), strict=True)
                keys, values = joined((key, value) for key, value in pairs if key not in held)
            self._ours.update_joined(keys, values)

    def _keys(self, of: BpfMap) -> frozenset[bytes]:
        return frozenset(key for keys, _ in of.chunks() for key in _rows(keys, of.info.key_size))


def share_unchanged(opened: BpfObject, old: Path, new: Path) -> None:
    """Pin in `new` what is pinned in `old` and is as the object wants it. What isn't will have room for its
    rows."""
    btf = Btf(opened.btf())
    for name in opened.pinned_by_name():
        if name in _NOT_TAKEN or (new / name).exists() or not (old / name).exists():
            continue
        with BpfMap.open(old / name) as theirs:
            key, value = opened.entry_types(name)
            wanted = MapShapes(btf.shape(key), btf.shape(value))
            info = theirs.info
            is_of_size = name in OPTION_OF or info.max_entries == opened.max_entries(name)
            is_of_kind = (info.kind, info.flags) == opened.map_type(name)
            if is_of_size and is_of_kind and pinned_shapes(theirs.fd) == wanted:
                obj_pin(theirs.fd, new / name)
            elif name in OPTION_OF:
                opened.set_max_entries(name, max(info.max_entries, opened.max_entries(name)))


def share(old: Path, new: Path) -> None:
    """Pin in `new` too what is pinned in `old`, if anything is. Raises BpfError."""
    if new.exists() or not old.exists():
        return
    fd = obj_get(old)
    try:
        obj_pin(fd, new)
    finally:
        os.close(fd)


def _shapes_of(opened: BpfMap) -> MapShapes:
    """Per-CPU values stand side by side, each rounded up to 8 bytes: one value of each CPU is a row."""
    info = opened.info
    shapes = pinned_shapes(opened.fd) or MapShapes(_opaque(info.key_size), _opaque(info.value_size))
    if opened.stride == info.value_size:
        return shapes
    return shapes._replace(value=Shape((info.value_size + 7) // 8 * 8, shapes.value.fields))


def _opaque(size: int) -> Shape:
    return Shape(size, (Field("", 0, size),))


def _rows(joined_rows: bytes, size: int) -> list[bytes]:
    return [joined_rows[start : start + size] for start in range(0, len(joined_rows), size)]


def _without(gone: Collection[str]) -> str:
    return f", without {', '.join(sorted(gone))}" if gone else ""
