"""Decodes endpoints fast: what many of them have in common is decoded once.

Encoded messages behind each other are one message, merged (Protocol Buffers Encoding, "Last One Wins"). So a
message that begins with one address and perhaps ends with a time is cut there, and what is between is looked
up, as bytes, among what was decoded before. Anything else is decoded whole.
"""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Final

from blixt_backend import decode
from blixt_backend.decode import Dialect
from blixt_backend.endpoints import Kind, Packed

#: Tags: Endpoint.IPs, Endpoint.TriggerTime; an IPSet's addresses, with their families.
_IPS: Final = 2 << 3 | 2
_TIME: Final = b"\xd8\x06"  # 107 << 3, as a varint
_FAMILIES: Final = {1 << 3 | 2: socket.AF_INET, 2 << 3 | 2: socket.AF_INET6}
#: Of a varint's byte: another one follows.
_MORE: Final = 0x80
_MOST: Final = 1 << 15


class Kinds:
    """Remembers what it has decoded of one dialect, up to some 30,000 kinds of endpoints."""

    def __init__(self, dialect: Dialect = Dialect.BLIXT) -> None:
        self._dialect = dialect
        #: By the tag of the address, and what is behind it.
        self._known: dict[tuple[int, bytes], Kind] = {}

    def endpoint(self, encoded: bytes) -> Packed:
        """Raises DecodeError."""
        return self._by_parts(encoded) or self._whole(encoded)

    def _by_parts(self, encoded: bytes) -> Packed | None:
        """None: it can't be cut so, or is wrong somewhere."""
        # IPs, its length, one address, its length: all of them single bytes.
        if len(encoded) < 4 or encoded[0] != _IPS or not encoded[3] + 2 == encoded[1] < _MORE:
            return None
        tag, behind = encoded[2], 2 + encoded[1]
        family = _FAMILIES.get(tag)
        if family is None or behind > len(encoded):
            return None
        end, time_ns = _time(encoded) if _TIME in encoded else (len(encoded), 0)
        key = tag, encoded[behind:end]
        try:
            address = socket.inet_pton(family, encoded[4:behind].decode("ascii"))
            kind = self._known.get(key) or self._learnt(key, len(address))
        except (OSError, ValueError):  # DecodeError is one: it is told of the whole
            return None
        return kind and Packed(address, kind, time_ns)

    def _learnt(self, key: tuple[int, bytes], size: int) -> Kind | None:
        """None: there are more addresses, or another time. Raises DecodeError."""
        like = decode.endpoint("", key[1], self._dialect)
        if like.addresses or like.trigger_time_ns:
            return None
        if len(self._known) >= _MOST:
            self._known.clear()
        kind = self._known[key] = Kind(like, (size,))
        return kind

    def _whole(self, encoded: bytes) -> Packed:
        endpoint = decode.endpoint("", encoded, self._dialect)
        like = replace(endpoint, addresses=(), trigger_time_ns=0)
        kind = Kind(like, tuple(map(len, endpoint.addresses)))
        return Packed(b"".join(endpoint.addresses), kind, endpoint.trigger_time_ns)


def _time(encoded: bytes) -> tuple[int, int]:
    """Where a TriggerTime at the end begins, and what it says; else the end, and 0.

    If what is before it can be decoded by itself, a field begins here, and so this is one.
    """
    start = encoded.rfind(_TIME)
    digits = encoded[start + len(_TIME) :]
    if start < 0 or not 0 < len(digits) <= 10 or digits[-1] >= _MORE:
        return len(encoded), 0
    number = 0
    for position, digit in enumerate(digits):
        if digit < _MORE and position + 1 < len(digits):
            return len(encoded), 0
        number |= (digit & 0x7F) << 7 * position
    number &= (1 << 64) - 1
    return start, number - (1 << 64) if number >> 63 else number
