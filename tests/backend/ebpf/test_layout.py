"""Userspace's rows against the structures that the compiler made: sizes
and offsets, from the objects' BTF."""

from __future__ import annotations

import re
import struct
from ctypes import POINTER, byref, c_uint32, c_void_p, string_at
from dataclasses import dataclass
from pathlib import Path

import pytest

from blixt_backend.planes.ebpf import layout
from blixt_backend.planes.ebpf.layout import FAMILIES, IPV6, Layout
from blixt_backend.planes.ebpf.libbpf import BpfObject, library
from blixt_backend.planes.ebpf.programs import OBJECTS

STRUCTURES = [
    "flow",
    "frontend",
    "service",
    "slot",
    "endpoint",
    "connection",
    "device",
    "source_range",
    "affinity_key",
    "affinity",
    "service_counters",
]
ARRAY, STRUCT, TYPEDEF, VOLATILE, CONST = 3, 4, 8, 9, 10
#: Bytes after the common 12 of a type, by kind (Documentation/bpf/btf.rst); the tuple's second is for each
#: of vlen.
TAILS = {
    1: (4, 0),
    ARRAY: (12, 0),
    STRUCT: (0, 12),
    5: (0, 12),
    6: (0, 8),
    13: (0, 8),
    14: (4, 0),
    15: (0, 12),
    17: (4, 0),
    19: (0, 12),
}


@dataclass(frozen=True)
class Type:
    kind: int
    name: str
    size: int  # or the type that it refers to
    tail: bytes
    vlen: int


class Btf:
    """As much of a BTF blob as structures of integers and arrays need."""

    def __init__(self, blob: bytes) -> None:
        header, types, types_size, strings = struct.unpack_from("=4xIIII", blob)
        body = blob[header + types : header + types + types_size]
        self._strings = blob[header + strings :]
        self.types = [Type(0, "void", 0, b"", 0)]
        position = 0
        while position < len(body):
            name, info, size = struct.unpack_from("=3I", body, position)
            kind, vlen = info >> 24 & 0x1F, info & 0xFFFF
            fixed, each = TAILS.get(kind, (0, 0))
            tail = body[position + 12 : position + 12 + fixed + each * vlen]
            self.types.append(Type(kind, self._text(name), size, tail, vlen))
            position += 12 + len(tail)

    def _text(self, offset: int) -> str:
        return self._strings[offset : self._strings.index(b"\0", offset)].decode()

    def structure(self, name: str) -> Type:
        return next(found for found in self.types if found.kind == STRUCT and found.name == name)

    def size_of(self, number: int) -> int:
        found = self.types[number]
        if found.kind in (TYPEDEF, CONST, VOLATILE):
            return self.size_of(found.size)
        if found.kind == ARRAY:
            element: int
            count: int
            element, _, count = struct.unpack("=3I", found.tail)
            return count * self.size_of(element)
        return found.size

    def leaves(self, found: Type, base: int = 0) -> list[tuple[str, int, int]]:
        """(name, offset, size) of members; structures other than addresses are taken apart."""
        members = []
        for name, kind, bits in struct.iter_unpack("=3I", found.tail):
            inner = self.types[kind]
            if inner.kind == STRUCT and inner.name != "address":
                members += self.leaves(inner, base + bits // 8)
            else:
                members.append((self._text(name), base + bits // 8, self.size_of(kind)))
        return members


def read_btf(path: Path) -> Btf:
    opened = BpfObject(path)
    try:
        lib = library()
        lib.btf__raw_data.restype, lib.btf__raw_data.argtypes = c_void_p, (c_void_p, POINTER(c_uint32))
        size = c_uint32()
        start = lib.btf__raw_data(lib.bpf_object__btf(opened._handle), byref(size))
        return Btf(string_at(start, size.value))
    finally:
        opened.close()


def object_of(family: Layout) -> Path:
    return OBJECTS / f"blixt{6 if family is IPV6 else 4}.bpf.o"


def members_of(row: struct.Struct) -> list[tuple[int, int]]:
    """(offset, size) of what a Struct packs."""
    sizes = {"B": 1, "H": 2, "I": 4, "Q": 8}
    members, offset = [], 0
    for count, code in re.findall(r"(\d*)([a-zA-Z])", row.format):
        if code == "s":
            members.append((offset, int(count)))
        elif code != "x":
            members += [(offset + i * sizes[code], sizes[code]) for i in range(int(count or 1))]
        offset += int(count or 1) * sizes.get(code, 1)
    return members


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize("name", STRUCTURES)
def test_rows_are_laid_out_as_the_compiler_does(family: Layout, name: str) -> None:
    btf = read_btf(object_of(family))
    row: struct.Struct = getattr(family, name)
    compiled = btf.structure(name)
    assert row.size == compiled.size
    leaves = [(offset, size) for field, offset, size in btf.leaves(compiled) if field != "zero"]
    if name == "endpoint":  # address and port are packed as one
        leaves[:2] = [(leaves[0][0], leaves[0][1] + leaves[1][1])]
    assert members_of(row) == leaves


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_connection_fields_have_the_compiled_names(family: Layout) -> None:
    btf = read_btf(object_of(family))
    assert [name for name, _, _ in btf.leaves(btf.structure("connection"))] == list(layout.CONNECTION_FIELDS)
    assert [name for name, _, _ in btf.leaves(btf.structure("service_counters"))] == list(
        layout.COUNTER_FIELDS
    )


def test_flags_and_reasons_have_the_header_s_values() -> None:
    header = (Path(__file__).parents[3] / "bpf" / "types.h").read_text()
    enums = {
        "SERVICE_": layout.ServiceFlag,
        "ENDPOINT_": layout.EndpointFlag,
        "CONNECTION_": layout.ConnectionFlag,
        "DEVICE_": layout.DeviceFlag,
    }
    for prefix, ours in enums.items():
        theirs = {name: 1 << int(bit) for name, bit in re.findall(rf"\b{prefix}(\w+) = 1 << (\d+)", header)}
        assert theirs == {flag.name: flag.value for flag in ours}
    body = re.search(r"enum drop_reason \{(.*?)\};", header, re.DOTALL)
    assert body is not None
    names = re.findall(r"^\s*DROP_(\w+)", body.group(1), re.MULTILINE)
    assert names == [*(reason.name for reason in layout.DropReason), "REASONS"]
    assert set(layout.DROP_WORDS) == set(layout.DropReason) - {layout.DropReason.NONE}
