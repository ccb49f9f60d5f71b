"""The kernel's builder of Maglev tables, over maps of its own."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from blixt_backend.planes.ebpf.compile import SlotSet
from blixt_backend.planes.ebpf.layout import IPV6, MAGLEV_PART, EndpointFlag, Layout
from blixt_backend.planes.ebpf.libbpf import BpfObject, checked, library
from blixt_backend.planes.ebpf.maglev import entries_of, recipe
from blixt_backend.planes.ebpf.maps import BpfMap
from blixt_backend.planes.ebpf.programs import OBJECTS, ON_REQUEST, Programs
from blixt_backend.planes.ebpf.tasks import Tasks
from blixt_model.maglev import Identity

FIRST = 3


class Builder:
    """One family's."""

    def __init__(self, layout: Layout, programs: Programs) -> None:
        self.layout = layout
        self._tasks = Tasks(programs)
        self._maglev = BpfMap.borrowed(programs.map_fd("maglev"))
        self._endpoints = BpfMap.borrowed(programs.map_fd("endpoints"))

    def build(self, weights: Mapping[Identity, int], indexes: Sequence[int]) -> list[Identity]:
        """The table of these, which the node at hand knows in this order and by these indexes."""
        index_of = {who: index for who, index in zip(weights, indexes, strict=True) if who is not None}
        for who, index in index_of.items():
            row = self.layout.endpoint.pack(who, int(EndpointFlag.LIVE), 1, 1)
            self._endpoints.update(index.to_bytes(4, "little"), row)
        made = recipe(SlotSet(tuple(weights), tuple(weights.values())), index_of, self.layout)
        self._tasks.build_maglev([(FIRST, made)])
        names: dict[int, Identity] = {index: who for who, index in index_of.items()}
        slots = array("I", self._maglev.dump(FIRST - 1 + entries_of(made.size))[1])
        start = FIRST * MAGLEV_PART
        assert self._maglev.lookup((FIRST - 1).to_bytes(4, "little")) == self.layout.maglev_head.pack(
            made.digest, made.size
        )
        return [names[index] if index else None for index in slots[start : start + made.size]]

    def close(self) -> None:
        self._tasks.close()
        self._maglev.close()
        self._endpoints.close()


@contextmanager
def builder(layout: Layout) -> Iterator[Builder]:
    opened = BpfObject(OBJECTS / f"{ON_REQUEST}{6 if layout is IPV6 else 4}.bpf.o")
    for name, handle in opened.maps.items():
        checked(library().bpf_map__set_pin_path(handle, None), f"unpinning {name}")
    opened.load()
    made = Builder(layout, Programs(layout, opened))
    try:
        yield made
    finally:
        made.close()
