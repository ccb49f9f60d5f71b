"""Endpoints by weight as slots of equal chance, which keep their places while others come and go. Pure."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from heapq import nlargest
from typing import Final

from blixt_backend.planes.nftables.choice import MOST_SLOTS
from blixt_backend.planes.nftables.priority import number, text

#: Address, and port in host order.
Target = tuple[str, int]
#: Who has each slot; None: what meets it is turned away.
Slots = tuple[Target | None, ...]

#: Weights are exact as long as they need no more slots than that; then to a part in so many.
MOST_WEIGHTED: Final = 4096
#: What is written into a packet's priority has this in front: the numbers of slots, and of endpoints.
_PREFIX: Final = 0xB1 << 24
PREFIX_MASK: Final = 0xFF << 24
FIRST_SLOT: Final = _PREFIX
_FIRST_NUMBER: Final = _PREFIX | 1 << 23
_NUMBERS: Final = 1 << 23


def apportion(weights: Mapping[Target | None, int]) -> Counter[Target | None]:
    """How many slots each gets, of weights above 0 without a common divisor, of MOST_SLOTS at most."""
    total = sum(weights.values())
    if total <= MOST_WEIGHTED:
        return Counter(weights)
    # One for each, so that nobody is forgotten; the others by weight, what is left over by remainders.
    room = min(max(MOST_WEIGHTED, 2 * len(weights)), MOST_SLOTS) - len(weights)
    given = Counter({who: 1 + weight * room // total for who, weight in weights.items()})
    left = room + len(weights) - given.total()
    for who in nlargest(left, weights, key=lambda who: weights[who] * room % total):
        given[who] += 1
    return given


def arrange(held: Sequence[Target | None], wanted: Slots) -> Slots:
    """The wanted slots, each in the place where it is held already, as far as that goes."""
    if held == wanted:
        return wanted
    places: list[Target | None] = [None] * len(wanted)
    free = []
    waiting = Counter(wanted)
    for place in range(len(wanted)):
        if place < len(held) and waiting[held[place]] > 0:
            places[place] = held[place]
            waiting[held[place]] -= 1
        else:
            free.append(place)
    for place, who in zip(free, waiting.elements(), strict=True):
        places[place] = who
    return tuple(places)


def numbers(slots: Iterable[Target | None]) -> dict[Target, str]:
    """A number for each endpoint, the same in every process, as nftables writes it."""
    given: dict[int, Target] = {}
    for target in sorted({target for target in slots if target is not None}):
        hashed = zlib.crc32(f"{target[0]} {target[1]}".encode()) % _NUMBERS
        while hashed in given:
            hashed = (hashed + 1) % _NUMBERS
        given[hashed] = target
    return {target: text(_FIRST_NUMBER + hashed) for hashed, target in given.items()}


def slot(place: int) -> str:
    """A slot's number, as nftables writes it."""
    return text(FIRST_SLOT + place)


def place(slot: str) -> int:
    """The other way round. Raises ValueError."""
    return number(slot) - FIRST_SLOT
