"""Reads tables of choices back into shares, for whoever asks who gets how much."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable

from blixt_backend.planes.ebpf.alias import ALWAYS
from blixt_backend.planes.ebpf.layout import Layout
from blixt_backend.planes.ebpf.maps import BpfMap
from blixt_backend.planes.ebpf.placing import TablePlace, places

_ONE = 1 << 32


class ShareReader:
    """The tables that service rows point to, read at once."""

    def __init__(
        self, layout: Layout, slots: BpfMap, maglev: BpfMap, rows: Iterable[tuple[int, ...]]
    ) -> None:
        """`rows` are struct service, unpacked. May raise BpfError."""
        self._layout = layout
        found = list(places(rows))
        self._slots = _read(slots, [place.extent for place in found if not place.in_maglev])
        self._maglev = _read(maglev, [place.extent for place in found if place.in_maglev])

    def shares(self, place: TablePlace) -> dict[int, float]:
        """Endpoint index -> its part of all choices, in the order of the slots."""
        if place.in_maglev:
            return self._maglev_shares(place)
        size, count = self._layout.slot.size, place.slots
        found: dict[int, float] = {}
        first, entries = place.extent
        rows = list(self._layout.slot.iter_unpack(self._slots[first * size : (first + entries) * size]))
        for threshold, endpoint, alias in rows[:: entries // count]:  # without the weights between them
            own = 1.0 if alias == endpoint or threshold == ALWAYS else threshold / _ONE
            found[endpoint] = found.get(endpoint, 0.0) + own / count
            if own < 1.0:
                found[alias] = found.get(alias, 0.0) + (1.0 - own) / count
        return found

    def _maglev_shares(self, place: TablePlace) -> dict[int, float]:
        start = place.first * self._layout.maglev_part.size
        slots = array("I", self._maglev[start : start + 4 * place.slots])
        return {endpoint: held / place.slots for endpoint, held in Counter(slots).items()}


def _read(opened: BpfMap, extents: Iterable[tuple[int, int]]) -> bytes:
    """An array, as far as it is used."""
    top = max((first + count for first, count in extents), default=0)
    return opened.dump(top)[1] if top else b""
