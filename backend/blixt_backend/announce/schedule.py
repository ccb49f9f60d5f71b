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
        self._interval, self._burst = 1 / timing.rate, timing.burst
        #: From when on something more may be said.
        self._free_at = -inf
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

    def next_event(self) -> float:
        """When `due` has something again."""
        return max(self._heap[0][0], self._free_at) if self._heap else inf

    def _plan(self, address: PackedAddress, at: float, position: int) -> None:
        self._serial += 1
        self._serials[address] = self._serial
        heappush(self._heap, (at, self._serial, position, address))

    def _allowed(self, now: float) -> bool:
        """Whether something may be said now; then it counts as said."""
        if now < self._free_at:
            return False
        # What wasn't said before may be made up for, as far as a burst goes.
        self._free_at = max(self._free_at, now - self._burst * self._interval) + self._interval
        return True
