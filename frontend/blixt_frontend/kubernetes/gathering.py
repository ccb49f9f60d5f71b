"""Changes of many kinds to batches. No I/O."""

from __future__ import annotations

from blixt_frontend.objects import Object
from blixt_frontend.source import Batch, ObjectKey


class Gathering:
    """The net difference of each object since the last batch: a burst about one object is one change."""

    def __init__(self) -> None:
        self._before: dict[ObjectKey, Object | None] = {}
        self._after: dict[ObjectKey, Object | None] = {}
        self._repeated: set[ObjectKey] = set()

    def __len__(self) -> int:
        return len(self._after)

    def add(self, key: ObjectKey, before: Object | None, after: Object | None) -> None:
        if key in self._after:
            self._repeated.add(key)
        else:
            self._before[key] = before
        self._after[key] = after

    def take(self, complete: bool) -> Batch:
        """All since the last one; what came to nothing is left out."""
        upserts, deletions = [], []
        for key, after in self._after.items():
            if after is not None:
                # Comparing large slices is slow; a single change is one that makes a difference.
                if key not in self._repeated or after != self._before[key]:
                    upserts.append(after)
            elif self._before[key] is not None:
                deletions.append(key)
        self._before, self._after, self._repeated = {}, {}, set()
        return Batch(tuple(upserts), tuple(deletions), complete)
