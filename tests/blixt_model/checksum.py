"""The Internet checksum, whole (RFC 1071) and by difference (RFC 1624, equation 3)."""

from __future__ import annotations

import struct


def ones_sum(data: bytes, start: int = 0) -> int:
    if len(data) % 2:
        data += b"\0"
    total: int = start + sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def checksum(data: bytes, more: int = 0) -> int:
    return ~ones_sum(data, more) & 0xFFFF


def pseudo_header(source: bytes, destination: bytes, protocol: int, length: int) -> bytes:
    if len(source) == 4:
        return source + destination + struct.pack("!BBH", 0, protocol, length)
    return source + destination + struct.pack("!II", length, protocol)


def changed(old_checksum: int, old: bytes, new: bytes) -> int:
    """The checksum after `old` became `new`; both start at an even offset and are of even length."""
    inverted = bytes(~byte & 0xFF for byte in old)
    return ~ones_sum(inverted + new, ~old_checksum & 0xFFFF) & 0xFFFF


def changed_udp(old_checksum: int, old: bytes, new: bytes) -> int:
    """Zero says that there is no checksum (RFC 768): it stays, and no other becomes it."""
    return (changed(old_checksum, old, new) or 0xFFFF) if old_checksum else 0
