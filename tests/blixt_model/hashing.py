"""The hash that chooses endpoints and ports: rule 3.4."""

from __future__ import annotations

import struct

from blixt_model.tables import Flow

MASK_32 = 0xFFFFFFFF
MASK_64 = 0xFFFFFFFFFFFFFFFF


def hash_of(flow: Flow, seed: int) -> int:
    """64 bits over the key's words as a little-endian machine reads them."""
    key = struct.pack(
        f"!{len(flow.source)}s{len(flow.destination)}sHHB3x",
        flow.source,
        flow.destination,
        flow.source_port,
        flow.destination_port,
        flow.protocol,
    )
    value = seed
    for word in struct.unpack(f"<{len(key) // 4}I", key):
        value = (value ^ word) * 0x9E3779B97F4A7C15 & MASK_64
        value ^= value >> 32
    return value
