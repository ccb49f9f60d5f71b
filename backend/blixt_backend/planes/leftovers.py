"""Whose leftovers can be drained here. A plane is imported only when a backend asks."""

from __future__ import annotations

from pathlib import Path

from blixt_backend.planes.leftover import Leftover


def besides(plane: str, pin_root: Path) -> list[Leftover]:
    """Of all proxies but this plane; "": of our planes, another one serves. `pin_root`: plane ebpf's."""
    from blixt_backend.planes.ebpf.leftover import EbpfLeftover
    from blixt_backend.planes.nftables.foreign import ForeignLeftover
    from blixt_backend.planes.nftables.leftover import NftablesLeftover

    every: list[Leftover] = [EbpfLeftover(pin_root, keeps_apart=not plane), NftablesLeftover()]
    if plane:
        every.append(ForeignLeftover())
    return [leftover for leftover in every if leftover.plane != plane]
