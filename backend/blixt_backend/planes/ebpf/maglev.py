"""Who is in a Maglev table, and how large it is. Pure; the kernel fills the table (bpf/build.h).

All nodes must come to the same table, whatever indexes an endpoint has there: members are in the order of
their addresses and ports, and the size follows from their number alone.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from blixt_backend.planes.ebpf.alias import scaled
from blixt_backend.planes.ebpf.allocate import FullError
from blixt_backend.planes.ebpf.compile import Identity, SlotSet
from blixt_backend.planes.ebpf.layout import DIGEST_BYTES, ENDPOINT_REJECT, MAGLEV_PART, Layout

#: Primes. They lie far apart, since nearly every slot has another endpoint when the size changes.
SIZES: Final = (509, 2039, 8191, 32749, 131071, 524287)
#: Of a table's slots, for each member, while there is a size for it.
SLOTS_A_MEMBER: Final = 100
#: MAGLEV_MEMBERS of bpf/build.h.
MOST_MEMBERS: Final = 16384


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a table is made from. `members`: joined rows of struct maglev_member; `price`: the mean weight,
    rounded down; `digest` tells it from other recipes."""

    size: int
    count: int
    price: int
    members: bytes
    digest: bytes

    def job(self, layout: Layout, first: int) -> bytes:
        """The packed struct maglev_job that makes it from entry `first` on."""
        return layout.maglev_job.pack(first, self.size, self.count, self.price, self.digest)


def table_size(members: int) -> int:
    """Slots of a table: at least 100 for each member, while that can be."""
    return SIZES[min(bisect_left(SIZES, members * SLOTS_A_MEMBER), len(SIZES) - 1)]


def entries_of(size: int) -> int:
    """Entries of the array that a table takes, its head included."""
    return 1 + -(-size // MAGLEV_PART)


def recipe(slots: SlotSet, index_of: Mapping[Identity, int], layout: Layout) -> Recipe:
    """Of a set that isn't empty. Raises FullError when it has more members than there can be."""
    count = len(slots.choices)
    if count > MOST_MEMBERS:
        raise FullError("maglev_members", count, MOST_MEMBERS)
    nobody = bytes(layout.size + 2)  # what the share that is refused has for an address and port
    weights = scaled(slots.weights) if slots.weights else (1,) * count
    members = sorted(zip([choice or nobody for choice in slots.choices], weights, strict=True))
    indexes = array("I", [ENDPOINT_REJECT if who == nobody else index_of[who] for who, _ in members])
    rows = array("I", bytes(layout.maglev_member.size * count))
    rows[0::6] = indexes
    rows[1::6] = array("I", [weight for _, weight in members])
    size = table_size(count)
    content = rows.tobytes()
    digest = hashlib.blake2b(content, digest_size=DIGEST_BYTES, key=size.to_bytes(4, "little"))
    for who, _ in members:
        digest.update(who)
    return Recipe(size, count, sum(weights) // count, content, digest.digest())
