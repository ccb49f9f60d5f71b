"""What the kernel's BTF says of its structures and enums (Documentation/bpf/btf.rst). Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

_HEADER = struct.Struct("=HBBIIIII")
_TYPE = struct.Struct("=III")
_MEMBER = struct.Struct("=III")
_ENUMERATOR = struct.Struct("=Ii")
_MAGIC = 0xEB9F
_STRUCT, _UNION, _ENUM = 4, 5, 6
#: By kind: bytes behind a type, and bytes for each of its members.
_BEHIND = {1: (4, 0), 3: (12, 0), 4: (0, 12), 5: (0, 12), 6: (0, 8), 13: (0, 8), 14: (4, 0), 15: (0, 12)}
_BEHIND |= {17: (4, 0), 19: (0, 12)} | dict.fromkeys((2, 7, 8, 9, 10, 11, 12, 16, 18), (0, 0))


class BtfError(Exception):
    """It isn't BTF, or lacks what is looked for."""


class _Type(NamedTuple):
    name: int
    kind: int
    flag: bool
    members: int
    begin: int  # where its members are


class Btf:
    """One blob, such as /sys/kernel/btf/vmlinux. Raises BtfError."""

    def __init__(self, blob: bytes) -> None:
        try:
            magic, _, _, length, type_off, type_len, str_off, str_len = _HEADER.unpack_from(blob)
            if magic != _MAGIC:
                raise BtfError(f"it begins with {magic:#x}, not with BTF's {_MAGIC:#x}")
            self._blob = blob
            self._strings = blob[length + str_off : length + str_off + str_len]
            self._types = [_Type(0, 0, False, 0, 0), *self._scan(length + type_off, type_len)]
        except (struct.error, KeyError) as error:
            raise BtfError(f"it can't be read: {error!r}") from error

    def offset(self, structure: str, member: str) -> int:
        """Where a member is, in bytes; it may be within members without a name."""
        for found in self._named(structure, _STRUCT):
            bits = self._bits(found, self._string(member))
            if bits is not None:
                return bits // 8
        raise BtfError(f"there is no {structure}.{member}")

    def enumerators(self, name: str) -> dict[int, str]:
        """Number -> name; of an enum that isn't there, nothing."""
        return {
            value: self._text(text)
            for found in self._named(name, _ENUM)
            for text, value in _ENUMERATOR.iter_unpack(
                self._blob[found.begin : found.begin + found.members * _ENUMERATOR.size]
            )
        }

    def _scan(self, begin: int, length: int) -> Iterator[_Type]:
        place, end = begin, begin + length
        while place < end:
            name, info, _ = _TYPE.unpack_from(self._blob, place)
            kind, members = info >> 24 & 31, info & 0xFFFF
            behind, each = _BEHIND[kind]
            place += _TYPE.size
            yield _Type(name, kind, bool(info >> 31), members, place)
            place += behind + members * each

    def _named(self, name: str, kind: int) -> Iterator[_Type]:
        wanted = self._string(name)
        return (found for found in self._types if found.kind == kind and found.name == wanted)

    def _bits(self, of: _Type, member: int) -> int | None:
        for number in range(of.members):
            name, kind, place = _MEMBER.unpack_from(self._blob, of.begin + number * _MEMBER.size)
            bits = place & 0xFFFFFF if of.flag else place  # the rest is a bit field's width
            if name == member:
                return int(bits)
            inner = self._types[kind]
            if not self._text(name) and inner.kind in (_STRUCT, _UNION):
                within = self._bits(inner, member)
                if within is not None:
                    return int(bits) + within
        return None

    def _string(self, text: str) -> int:
        """Where a string is: each is there once. -1 if it isn't."""
        found = self._strings.find(b"\0" + text.encode() + b"\0")
        return found + 1 if found >= 0 else -1

    def _text(self, place: int) -> str:
        return self._strings[place : self._strings.index(b"\0", place)].decode()
