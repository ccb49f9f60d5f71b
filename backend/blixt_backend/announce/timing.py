"""How long things take. Seconds, unless a name says otherwise."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """The nodes of a segment should agree on these; each tells the others its interval."""

    #: Between two heartbeats, a tenth more or less.
    interval: float = 1.0
    #: A node is dead after so many intervals without a heartbeat or an answer of its kernel's.
    hold_intervals: int = 4
    #: Its kernel is asked after so many intervals without a heartbeat.
    ask_after_intervals: int = 2
    #: How long a node keeps its addresses while only its kernel lives.
    keep: float = 30.0
    #: What a node that restarts may ask for at most.
    most_keep: float = 300.0
    #: A heartbeat out of turn is this late at most, so that not all nodes send at once.
    spread: float = 0.1
    #: How long somebody has to say that an address is taken, before it is claimed.
    probe: float = 0.3
    #: An address is announced when it is claimed, and again after each of these.
    repeats: tuple[float, ...] = (1.0, 2.0)
    #: An address that somebody else has is looked at again after this.
    conflict: float = 30.0
    #: Announcements and probes a second, and at once.
    rate: float = 500.0
    burst: int = 50

    @property
    def hold(self) -> float:
        return self.interval * self.hold_intervals
