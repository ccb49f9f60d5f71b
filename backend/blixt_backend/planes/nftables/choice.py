"""How a new connection's endpoint is chosen, as a number that stands in a map and names a chain. Pure.

A frontend's entry in the tables is such a number; so what many services do alike is one chain, and a change
of one service touches elements of maps only.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Self

from blixt_backend.planes.nftables.priority import number, text

#: Most slots of one frontend, and seconds of affinity: as many bits has a code for them.
MOST_SLOTS: Final = (1 << 14) - 1
MOST_SECONDS: Final = 86400

_SLOTS_SHIFT, _SECONDS_SHIFT = 1, 15


class Choice(NamedTuple):
    """One of `slots` by chance, or the one of the client's last `seconds` seconds (0: no affinity).

    What meets no endpoint is refused, or dropped with `drops`; without slots, all of it.
    """

    slots: int
    seconds: int = 0
    drops: bool = False

    @property
    def code(self) -> str:
        """Its number, as nftables writes a packet's priority."""
        return text(self.seconds << _SECONDS_SHIFT | self.slots << _SLOTS_SHIFT | (not self.drops))

    @classmethod
    def of(cls, code: str) -> Self:
        """The choice of a code. Raises ValueError."""
        bits = number(code)
        return cls(bits >> _SLOTS_SHIFT & MOST_SLOTS, bits >> _SECONDS_SHIFT, not bits & 1)

    @property
    def name(self) -> str:
        """What its chain is called, after the side's name."""
        affinity = f"-{self.seconds}s" if self.seconds else ""
        return f"{self.slots}{affinity}{'-drop' if self.drops else ''}"


REFUSE: Final = Choice(0)
DROP: Final = Choice(0, drops=True)
