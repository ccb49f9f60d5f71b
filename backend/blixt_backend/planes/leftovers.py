"""Whose leftovers can be drained here. A plane is imported only when a backend asks."""

from __future__ import annotations

from pathlib import Path

from blixt_backend.planes.leftover import Leftover


def besides(plane: str, pin_root: Path) -> list[Leftover]:
    """Of all our planes but this one; "": of all, another proxy serves. `pin_root`: the ebpf plane's."""
    from blixt_backend.planes.ebpf.leftover import EbpfLeftover
    from blixt_backend.planes.nftables.leftover import NftablesLeftover

    every: list[Leftover] = [EbpfLeftover(pin_root, keeps_apart=not plane), NftablesLeftover()]
    return [leftover for leftover in every if leftover.plane != plane]
