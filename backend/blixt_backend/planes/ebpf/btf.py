"""The shape of a map's rows as the compiler laid them out: BTF, of an object or of what the kernel holds.

The format: Documentation/bpf/btf.rst of the kernel. Only what rows are made of is understood: integers,
enums, structures, arrays, and names for them.
"""

from __future__ import annotations

import struct
from ctypes import byref, c_uint32, string_at
from dataclasses import dataclass
from typing import NamedTuple

from blixt_backend.planes.ebpf.libbpf import library, object_info

_INT, _ARRAY, _STRUCT, _UNION, _ENUM, _TYPEDEF, _VOLATILE, _CONST = 1, 3, 4, 5, 6, 8, 9, 10
#: Bytes after the common 12 of a type, by kind: always, and for each of vlen.
_TAILS = {
    _INT: (4, 0),
    _ARRAY: (12, 0),
    _STRUCT: (0, 12),
    _UNION: (0, 12),
    _ENUM: (0, 8),
    13: (0, 8),  # FUNC_PROTO
    14: (4, 0),  # VAR
    15: (0, 12),  # DATASEC
    17: (4, 0),  # DECL_TAG
    19: (0, 12),  # ENUM64
}


class Field(NamedTuple):
    """A member, by its names from the outermost structure on, joined by dots; offset and size in bytes."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Shape:
    """What a key or a value consists of; padding belongs to no field."""

    size: int
    fields: tuple[Field, ...]


class MapShapes(NamedTuple):
    """Of a map."""

    key: Shape
    value: Shape


class _Type(NamedTuple):
    kind: int
    name: str
    size: int  # or the type that it refers to
    tail: bytes


class Btf:
    """One blob."""

    def __init__(self, blob: bytes) -> None:
        header, types, types_size, strings = struct.unpack_from("=4xIIII", blob)
        body = blob[header + types : header + types + types_size]
        self._strings = blob[header + strings :]
        self._types = [_Type(0, "void", 0, b"")]
        position = 0
        while position < len(body):
            name, info, size = struct.unpack_from("=3I", body, position)
            kind, vlen = info >> 24 & 0x1F, info & 0xFFFF
            always, each = _TAILS.get(kind, (0, 0))
            tail = body[position + 12 : position + 12 + always + each * vlen]
            self._types.append(_Type(kind, self._text(name), size, tail))
            position += 12 + len(tail)

    def structure(self, name: str) -> int:
        """The number of the structure of that name. Raises KeyError."""
        for number, found in enumerate(self._types):
            if found.kind == _STRUCT and found.name == name:
                return number
        raise KeyError(name)

    def shape(self, number: int) -> Shape:
        """Of a type by its number."""
        return Shape(self._size(number), tuple(self._fields(number, "", 0)))

    def _text(self, offset: int) -> str:
        return self._strings[offset : self._strings.index(b"\0", offset)].decode()

    def _plain(self, number: int) -> int:
        """The type behind names and qualifiers."""
        while self._types[number].kind in (_TYPEDEF, _VOLATILE, _CONST):
            number = self._types[number].size
        return number

    def _size(self, number: int) -> int:
        found = self._types[self._plain(number)]
        if found.kind != _ARRAY:
            return found.size
        element, _, count = struct.unpack("=3I", found.tail)
        return int(count) * self._size(element)

    def _fields(self, number: int, name: str, base: int) -> list[Field]:
        found = self._types[self._plain(number)]
        if found.kind != _STRUCT:
            return [Field(name, base, self._size(number))]
        fields = []
        for text, kind, bits in struct.iter_unpack("=3I", found.tail):
            inner = f"{name}.{self._text(text)}" if name else self._text(text)
            fields += self._fields(kind, inner, base + bits // 8)
        return fields


def pinned_shapes(fd: int) -> MapShapes | None:
    """Of a map that the kernel holds, by its descriptor; None: it was made without BTF. Raises BpfError."""
    number, key, value = struct.unpack_from("=64x3I", object_info(fd, 76))
    if not (number and key and value):
        return None
    lib = library()
    handle = lib.btf__load_from_kernel_by_id(number)
    if not handle:
        return None
    try:
        btf = Btf(_raw(handle))
    finally:
        lib.btf__free(handle)
    return MapShapes(btf.shape(key), btf.shape(value))


def _raw(handle: int) -> bytes:
    size = c_uint32()
    start = library().btf__raw_data(handle, byref(size))
    return string_at(start, size.value)
