"""Whether this node follows its frontend: one judgement for all that ask. Pure; times are monotonic seconds.

A node whose frontend is away is well: it goes on with what it has. One whose plane can't apply what it was
told serves what is no longer so, and says so after a while: a single failure that the next try repairs is
nobody's business.
"""

from __future__ import annotations

from dataclasses import dataclass

#: A change that isn't in force after so many seconds makes the node unhealthy.
LATE_SECONDS = 15.0
#: A single try that takes so long does not come back.
STUCK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """`why` is one line, empty for a node that is well. `applied_ago`: seconds; None: nothing yet.

    A node that is `leaving` serves as well as ever, but should get nobody new.
    """

    healthy: bool
    alive: bool
    why: str
    applied_ago: float | None
    leaving: bool = False


class Judgement:
    """Told of each try and how it ended; asked at any time."""

    def __init__(self) -> None:
        self._applied_at: float | None = None
        #: Since when there is a change that is not in force.
        self._late_since: float | None = None
        #: When the try that is under way began.
        self._trying_since: float | None = None
        self._reason = ""
        self._leaving = False

    def trying(self, now: float) -> None:
        """An apply begins."""
        self._trying_since = now
        if self._late_since is None:
            self._late_since = now

    def failed(self, reason: str) -> None:
        """It did not succeed; another one will follow."""
        self._trying_since = None
        self._reason = reason

    def applied(self, now: float, leaving: bool = False) -> None:
        """All that was told is in force. `leaving`: this node is being deleted, or about to be."""
        self._leaving = leaving
        self._applied_at = now
        self._late_since = self._trying_since = None
        self._reason = ""

    def verdict(self, now: float) -> Verdict:
        ago = None if self._applied_at is None else now - self._applied_at
        alive = self._trying_since is None or now - self._trying_since <= STUCK_SECONDS
        late = 0.0 if self._late_since is None else now - self._late_since
        why = ""
        if not alive or late > LATE_SECONDS:
            why = f"a change is not in force after {late:.0f} s: {self._reason or 'applying it does not end'}"
        elif ago is None:
            why = "nothing is in force yet: the frontend has not told what to do"
            if self._reason:
                why = f"nothing is in force yet: {self._reason}"
        healthy = not why
        if healthy and self._leaving:
            why = "this node is being deleted"
        return Verdict(healthy, alive, why, ago, self._leaving)
