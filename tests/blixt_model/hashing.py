"""The hash that chooses endpoints and ports: rule 3.4."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import replace

from blixt_model.tables import Flow

MASK_32 = 0xFFFFFFFF
MASK_64 = 0xFFFFFFFFFFFFFFFF
MAGLEV_SEED = 0x6C078965C0FFEE01


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
    return hash_words(seed, struct.unpack(f"<{len(key) // 4}I", key))


def hash_words(seed: int, words: Iterable[int]) -> int:
    value = seed
    for word in words:
        value = (value ^ word) * 0x9E3779B97F4A7C15 & MASK_64
        value ^= value >> 32
    return value


def maglev_hash(flow: Flow, *, by_client: bool) -> int:
    """The same on all nodes."""
    return hash_of(replace(flow, source_port=0) if by_client else flow, MAGLEV_SEED)
