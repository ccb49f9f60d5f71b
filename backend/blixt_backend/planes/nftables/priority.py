"""A packet's priority as nftables writes it: a traffic class's two numbers. Pure."""

from __future__ import annotations


def text(number: int) -> str:
    """A packet's priority as nftables writes it."""
    return f"{number >> 16:x}:{number & 0xFFFF:x}" if number else "none"


def number(text: str) -> int:
    """The other way round. Raises ValueError."""
    if text == "none":
        return 0
    major, minor = text.split(":")
    return int(major or "0", 16) << 16 | int(minor or "0", 16)
