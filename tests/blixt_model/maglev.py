"""Rule 9 of docs/packet-path.md: Maglev tables, one step after the other."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from blixt_model.family import Family
from blixt_model.hashing import hash_words

START_SEED = 0x243F6A8885A308D3
SKIP_SEED = 0x13198A2E03707344
PART = 16

#: An endpoint's address and port, joined as they stand in a packet; None: the share that is refused.
Identity = bytes | None


@dataclass(slots=True)
class _Member:
    who: Identity
    weight: int
    place: int
    skip: int
    credit: int


def maglev_table(weights: Mapping[Identity, int], size: int, family: Family) -> list[Identity]:
    """Who has which slot."""
    nobody = bytes(family.address_size + 2)
    price = sum(weights.values()) // len(weights)
    members = []
    for who in sorted(weights, key=lambda who: who or nobody):
        weight = weights[who]
        words = _words(who or nobody)
        place = (hash_words(START_SEED, words) >> 32) * size >> 32
        skip = 1 + ((hash_words(SKIP_SEED, words) >> 32) * (size - 1) >> 32)
        members.append(_Member(who, weight, place, skip, max(price - weight, 0)))
    table: dict[int, Identity] = {}
    while len(table) < size:
        for member in members:
            member.credit += member.weight
            while member.credit >= price and len(table) < size:
                _take_turn(member, table, size)
                member.credit -= price
    return [table[place] for place in range(size)]


def _take_turn(member: _Member, table: dict[int, Identity], size: int) -> None:
    while member.place in table:
        member.place = (member.place + member.skip) % size
    table[member.place] = member.who
    member.place = (member.place + member.skip) % size


def _words(who: bytes) -> list[int]:
    """The address's 32-bit words, then the port."""
    return list(struct.unpack(f"<{len(who) // 4}IH", who))
