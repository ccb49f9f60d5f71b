"""How long, how much and how often. One place, so that tests can be impatient."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """Times are in seconds."""

    #: Objects in a page of a list: some MB of large slices.
    page: int = 500
    #: How long a watch lives at most; a random time between both, so that not all end at once.
    watch: tuple[float, float] = (300.0, 600.0)
    #: A watch without a whole line for that long is given up. Servers send a bookmark about once a minute.
    silence: float = 90.0
    #: Pauses after failures: a random time up to `first`, doubled at each failure up to `most`.
    first: float = 0.2
    most: float = 5.0
    #: The least pause where only a change of rights can help.
    forbidden: float = 10.0
    #: Between two looks at which kinds are served.
    discovery: float = 10.0
    #: The same, at least: after a kind turned out to be gone.
    relook: float = 1.0
    #: Changes are gathered for that long after the first one of them.
    settle: float = 0.005


class Backoff:
    """Grows with each failure in a row."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._failures = 0

    def next(self, lasted: float = 0.0, at_least: float = 0.0) -> float:
        """The pause after something failed that had gone well for `lasted` seconds.

        Only time counts as success: a server that answers and breaks off again must not be hurried.
        """
        self._failures = 0 if lasted > self._pace.most else self._failures
        ceiling = min(self._pace.most, self._pace.first * 2 ** min(self._failures, 16))
        self._failures += 1
        return at_least + random.uniform(0, ceiling)  # noqa: S311  # jitter, not a secret
