"""What becomes of clients whom nobody serves, for the log: once a minute at most, in a line."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Final

log = logging.getLogger(__name__)

SECONDS: Final = 60.0
#: What is counted, and how it is said.
_WORDS: Final = {
    "no room": "{} had no room",
    "endpoint not reached": "{} times an endpoint was not reached",
    "no endpoint": "{} got no endpoint",
}


class News:
    """Of one kind of traffic. `kind` names it, `advice` says what to do about a lack of room."""

    def __init__(self, kind: str, advice: str, counts: Mapping[str, int]) -> None:
        self._kind, self._advice, self._counts = kind, advice, counts
        self._told: Counter[str] = Counter()
        self._next = 0.0

    def tell(self, now: float) -> None:
        """Log what was counted since the last time, if anything. `now`: seconds, monotonic."""
        if now < self._next:
            return
        text = said(Counter(self._counts) - self._told)
        if text:
            self._next = now + SECONDS
            self._told = Counter(self._counts)
            full = f" ({self._advice})" if "no room" in text else ""
            log.warning("%s: %s%s", self._kind, text, full)


def said(counts: Mapping[str, int]) -> str:
    """Empty: there is nothing to say."""
    return ", ".join(words.format(counts[key]) for key, words in _WORDS.items() if counts.get(key))
