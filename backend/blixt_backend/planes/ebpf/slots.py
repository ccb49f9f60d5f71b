"""Reads slot ranges back into shares, for whoever asks who gets how much."""

from __future__ import annotations

from collections.abc import Iterable

from blixt_backend.planes.ebpf.alias import ALWAYS
from blixt_backend.planes.ebpf.layout import Layout
from blixt_backend.planes.ebpf.maps import BpfMap

_ONE = 1 << 32


class SlotReader:
    """The slots that service rows point to, read at once."""

    def __init__(self, layout: Layout, opened: BpfMap, rows: Iterable[tuple[int, ...]]) -> None:
        """`rows` are struct service, unpacked."""
        self._layout = layout
        top = max((max(row[2] + row[3], row[4] + row[5]) for row in rows), default=0)
        self._slots = opened.dump(top)[1] if top else b""

    def shares(self, first: int, count: int) -> dict[int, float]:
        """Endpoint index -> its part of all choices, in the order of the slots."""
        size = self._layout.slot.size
        found: dict[int, float] = {}
        rows = self._layout.slot.iter_unpack(self._slots[first * size : (first + count) * size])
        for threshold, endpoint, alias in rows:
            own = 1.0 if alias == endpoint or threshold == ALWAYS else threshold / _ONE
            found[endpoint] = found.get(endpoint, 0.0) + own / count
            if own < 1.0:
                found[alias] = found.get(alias, 0.0) + (1.0 - own) / count
        return found
