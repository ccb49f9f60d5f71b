"""What is to be said about addresses, and when: each is asked about, then announced a few times. Pure.

No more is said in a second than `Timing.rate`, however many addresses are taken over at once: what hosts and
switches drop is heard by nobody.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from heapq import heappop, heappush
from math import inf

from blixt_backend.announce.timing import Timing
from blixt_backend.model import PackedAddress


class Step(Enum):
    """What is due for an address."""

    #: Ask whether somebody has it.
    PROBE = auto()
    #: Nobody does: it is ours. Announce it.
    CLAIM = auto()
    #: Announce it again.
    REPEAT = auto()


class Schedule:
    """The steps of many addresses."""

    def __init__(self, timing: Timing) -> None:
        delays = ((timing.probe, Step.CLAIM), *((delay, Step.REPEAT) for delay in timing.repeats))
        #: Each step with the delay after the one before.
        self._steps = ((0.0, Step.PROBE), *delays)
        self._rate, self._burst = timing.rate, timing.burst
        self._allowance, self._counted_at = float(timing.burst), -inf
        #: (due, serial number, position in the steps, address)
        self._heap: list[tuple[float, int, int, PackedAddress]] = []
        self._serials: dict[PackedAddress, int] = {}
        self._serial = 0

    def begin(self, address: PackedAddress, at: float) -> None:
        """From the probe on, in place of what was planned for the address."""
        self._plan(address, at, 0)

    def announce(self, address: PackedAddress, at: float) -> None:
        """From the announcement on: the address is ours already."""
        self._plan(address, at, 2)

    def cancel(self, address: PackedAddress) -> None:
        self._serials.pop(address, None)

    def due(self, now: float) -> Iterator[tuple[Step, PackedAddress]]:
        """The steps to be taken now. While they are, others may be planned and cancelled."""
        while self._heap and self._heap[0][0] <= now:
            _, serial, position, address = self._heap[0]
            if self._serials.get(address) != serial:
                heappop(self._heap)
                continue
            if not self._allowed(now):
                return
            heappop(self._heap)
            if position + 1 < len(self._steps):
                delay, _ = self._steps[position + 1]
                heappush(self._heap, (now + delay, serial, position + 1, address))
            else:
                del self._serials[address]
            yield self._steps[position][1], address

    def next_event(self, now: float) -> float:
        """When `due` has something again."""
        if not self._heap:
            return inf
        soonest = self._heap[0][0]
        return max(soonest, now + (1 - self._allowance) / self._rate) if self._allowance < 1 else soonest

    def _plan(self, address: PackedAddress, at: float, position: int) -> None:
        self._serial += 1
        self._serials[address] = self._serial
        heappush(self._heap, (at, self._serial, position, address))

    def _allowed(self, now: float) -> bool:
        gained = (now - self._counted_at) * self._rate
        self._allowance, self._counted_at = min(self._allowance + gained, self._burst), now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True
