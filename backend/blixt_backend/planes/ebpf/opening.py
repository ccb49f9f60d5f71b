"""Which new flows the programs take (bpf/opening.h), as it is pinned. Raises BpfError."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Final

from blixt_backend.planes.ebpf.layout import FAMILIES, Opening
from blixt_backend.planes.ebpf.libbpf import BpfError
from blixt_backend.planes.ebpf.maps import BpfMap
from blixt_backend.planes.ebpf.pins import Pins

OPENING: Final = "opening"
_INDEX: Final = bytes(4)


def set_opening(pins: Pins, opening: Opening) -> None:
    """In both families."""
    for layout in FAMILIES:
        with BpfMap.open(pins.maps(layout) / OPENING) as opened:
            opened.update(_INDEX, opening.to_bytes(4, sys.byteorder))


def opening_in(folder: Path) -> Opening:
    """Of the family whose maps are in the folder; ALL where there are none."""
    try:
        with BpfMap.open(folder / OPENING) as opened:
            return Opening(int.from_bytes(opened.lookup(_INDEX) or b"", sys.byteorder))
    except BpfError as error:
        if error.errno != errno.ENOENT:
            raise
        return Opening.ALL
