"""The endpoints array: who has which index, and the generations that tell an index's owners apart."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping

from blixt_backend.planes.ebpf.allocate import Indexes
from blixt_backend.planes.ebpf.compile import Identity
from blixt_backend.planes.ebpf.kernel import Rows
from blixt_backend.planes.ebpf.layout import EndpointFlag, Layout

_LIVE = EndpointFlag.LIVE.value
_UNKNOWN = 0xFFFF  # no flags that an endpoint can have
_GROWTH = 4096


class EndpointTable:
    """Mirrors flags and generations; methods that change something tell the rows to write."""

    def __init__(
        self, layout: Layout, limit: int, held: Iterable[tuple[int, Identity, int, int, int]] = ()
    ) -> None:
        """`held`: (index, identity, flags, generation, service) of every row that isn't blank."""
        self._pack = layout.endpoint.pack
        self._nobody = bytes(layout.size + 2)
        self._generations = array("I")
        self._flags = array("H")
        used = []
        for index, _, flags, generation, _ in held:
            self._reach(index)
            self._generations[index], self._flags[index] = generation, flags
            if flags & _LIVE:
                used.append(index)
        self.indexes = Indexes("endpoints", limit, 1, used)

    def write(
        self, wanted: Mapping[Identity, int], index_of: Mapping[Identity, int], service: int, rows: Rows
    ) -> int:
        """Add the rows of endpoints that aren't in the kernel with these flags already; returns all flags of
        those that were added."""
        self._reach(max(index_of.values(), default=0))
        known, generations, pack = self._flags, self._generations, self._pack
        written = 0
        for identity, flags in wanted.items():
            index = index_of[identity]
            if known[index] != flags:
                known[index] = flags
                written |= flags
                rows.add(index, pack(identity, flags, generations[index], service))
        return written

    def distrust(self, index: int) -> None:
        """Have the row written anew."""
        self._flags[index] = _UNKNOWN

    def buried(self, index: int) -> bytes:
        """Free an index: connections that remember it see another generation from now on."""
        self.indexes.release(index)
        self._generations[index] = (self._generations[index] + 1) & 0xFFFFFFFF
        self._flags[index] = 0
        return self._pack(self._nobody, 0, self._generations[index], 0)

    def _reach(self, index: int) -> None:
        short = index + 1 - len(self._generations)
        if short > 0:
            blank = bytes(4 * max(short, _GROWTH))
            self._generations.frombytes(blank)
            self._flags.frombytes(blank[: len(blank) // 2])
