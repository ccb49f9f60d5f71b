"""Clients that stay with their endpoint: sessionAffinity ClientIP."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from blixt_backend.planes.userspace.choice import Target

#: The clients that are remembered; beyond, those whose last connection is longest ago are forgotten.
MOST: Final = 1 << 16


class _Kept(NamedTuple):
    target: Target
    since: float


class Affinity:
    """By service port and client's address: the endpoint of the last new connection, and when that was."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, port: str, client: str, seconds: float, now: float) -> Target | None:
        """The client's endpoint, if its last new connection is at most so many seconds ago."""
        kept = self._kept.get((port, client))
        return kept.target if kept is not None and now - kept.since <= seconds else None

    def put(self, port: str, client: str, target: Target, now: float) -> None:
        """A new connection goes to that endpoint now."""
        self._kept[port, client] = _Kept(target, now)
        self._kept.move_to_end((port, client))
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
