"""Who answers for an address: the same on every node that knows of the same candidates. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from blixt_backend.model import PackedAddress


def holder(address: PackedAddress, candidates: Iterable[str]) -> str | None:
    """The candidate with the highest score; None without any.

    A candidate that comes takes over only what it answers for itself, one that goes leaves only what was its
    own (rendezvous hashing).
    """
    return max(candidates, key=lambda name: (_score(address, name), name), default=None)


def _score(address: PackedAddress, name: str) -> bytes:
    # Not hash(): it differs from process to process.
    return blake2b(address + name.encode(), digest_size=8, person=b"blixt").digest()
