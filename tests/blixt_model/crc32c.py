"""CRC32c as RFC 9260's appendix A has it: byte by byte, by a table."""

from __future__ import annotations

_POLYNOMIAL = 0x82F63B78


def _entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte


_TABLE = tuple(_entry(byte) for byte in range(256))


def crc32c(message: bytes) -> int:
    """SCTP has it in its packets with the lowest byte first."""
    remainder = 0xFFFFFFFF
    for byte in message:
        remainder = remainder >> 8 ^ _TABLE[(remainder ^ byte) & 0xFF]
    return remainder ^ 0xFFFFFFFF
