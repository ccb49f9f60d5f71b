"""Rows that follow from a port's plan and from the numbers that it has. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from blixt_backend.planes.ebpf.compile import Identity, PortPlan
from blixt_backend.planes.ebpf.layout import EndpointFlag, Layout
from blixt_backend.planes.ebpf.ports import NOTHING

_LOCAL = EndpointFlag.LOCAL.value


def range_keys(plan: PortPlan, ids: Sequence[int], layout: Layout) -> frozenset[bytes]:
    """Keys of `source_ranges`; each of a port's ids has a set of its own."""
    if not plan.range_sets:
        return NOTHING
    pack = layout.source_range.pack
    return frozenset(
        pack(32 + length, number.to_bytes(4, "big"), network)
        for number, ranges in zip(ids, plan.range_sets, strict=False)
        for length, network in ranges
    )


def arrivals(
    plan: PortPlan, index_of: Mapping[Identity, int], ids: Sequence[int], layout: Layout
) -> dict[bytes, int]:
    """Where packets that other nodes send in tunnels go: to local endpoints, known by address alone."""
    size, pack = layout.size, layout.arrival.pack
    local = [identity for identity, flags in plan.endpoints.items() if flags & _LOCAL]
    return {
        pack(number, identity[:size]): index_of[identity]
        for identity in local
        if identity[:size] not in plan.ambiguous
        for number in ids
    }
