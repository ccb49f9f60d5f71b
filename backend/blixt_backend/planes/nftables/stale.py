"""Which tracked flows may not go on after a change. Pure.

A flow's packets meet no rule once it is tracked: to move it, the kernel is made to forget it. UDP then goes
to another endpoint. So does TCP, and that endpoint, which knows nothing of it, resets it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from blixt_backend.planes.nftables.compile import Entry, Frontend
from blixt_backend.planes.nftables.slots import Target
from blixt_backend.planes.nftables.state import Moved

#: Frontends whose flows to any other endpoint than these are forgotten.
Stale = Mapping[Frontend, frozenset[Target]]

_NOBODY: Final[frozenset[Target]] = frozenset()


def after_change(moved: Mapping[Frontend, Moved]) -> Stale:
    """What a change of these frontends leaves without its endpoint."""
    found = {}
    for frontend, (before, after) in moved.items():
        kept = after.keeps if after else _NOBODY
        if frontend.protocol == "udp":
            # A new frontend: packets may have gone to its address before there was a service.
            if before is None or after is None or before.keeps - kept:
                found[frontend] = kept
        elif frontend.protocol == "tcp" and before is not None and after is not None and before.keeps - kept:
            found[frontend] = kept
    return found


def after_start(entries: Mapping[Frontend, Entry]) -> Stale:
    """The same where nothing is known of what was before."""
    return {
        frontend: entry.keeps for frontend, entry in entries.items() if frontend.protocol in ("udp", "tcp")
    }
