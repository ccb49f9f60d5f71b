"""Userspace's rows against the structures that the compiler made: sizes
and offsets, from the objects' BTF."""

from __future__ import annotations

import hashlib
import re
import struct
from pathlib import Path

import pytest

from blixt_backend.planes.ebpf import layout
from blixt_backend.planes.ebpf.btf import Btf, Shape
from blixt_backend.planes.ebpf.layout import FAMILIES, IPV6, Layout
from blixt_backend.planes.ebpf.libbpf import BpfObject
from blixt_backend.planes.ebpf.programs import OBJECTS

STRUCTURES = [
    "flow",
    "frontend",
    "service",
    "slot",
    "load",
    "endpoint",
    "connection",
    "embryo",
    "device",
    "source_range",
    "vacancy",
    "arrival",
    "node_range",
    "affinity_key",
    "affinity",
    "service_counters",
]
STRUCTURES_OF_SOCKETS = ["socket_peer"]
STRUCTURES_OF_TASKS = ["maglev_member", "maglev_job"]


def shape_of(family: Layout, name: str) -> Shape:
    """Of a compiled structure."""
    objects = dict.fromkeys(STRUCTURES_OF_TASKS, "task") | dict.fromkeys(STRUCTURES_OF_SOCKETS, "sock")
    opened = BpfObject(object_of(family, objects.get(name, "blixt")))
    try:
        btf = Btf(opened.btf())
        return btf.shape(btf.structure(name))
    finally:
        opened.close()


def object_of(family: Layout, name: str = "blixt") -> Path:
    return OBJECTS / f"{name}{6 if family is IPV6 else 4}.bpf.o"


def members_of(row: struct.Struct) -> list[tuple[int, int]]:
    """(offset, size) of what a Struct packs."""
    sizes = {"B": 1, "H": 2, "I": 4, "i": 4, "Q": 8}
    members, offset = [], 0
    for count, code in re.findall(r"(\d*)([a-zA-Z])", row.format):
        if code == "s":
            members.append((offset, int(count)))
        elif code != "x":
            members += [(offset + i * sizes[code], sizes[code]) for i in range(int(count or 1))]
        offset += int(count or 1) * sizes.get(code, 1)
    return members


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize("name", [*STRUCTURES, *STRUCTURES_OF_TASKS, *STRUCTURES_OF_SOCKETS])
def test_rows_are_laid_out_as_the_compiler_does(family: Layout, name: str) -> None:
    shape = shape_of(family, name)
    row: struct.Struct = getattr(family, name)
    assert row.size == shape.size
    leaves = [(field.offset, field.size) for field in shape.fields if field.name != "zero"]
    if name in ("endpoint", "socket_peer"):  # address and port are packed as one
        leaves[:2] = [(leaves[0][0], leaves[0][1] + leaves[1][1])]
    assert members_of(row) == leaves


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_fields_have_the_compiled_names(family: Layout) -> None:
    names = [field.name for field in shape_of(family, "connection").fields]
    ours = [name.removesuffix(".word").removeprefix("way.") for name in names]
    assert ours == list(layout.CONNECTION_FIELDS)
    names = [field.name for field in shape_of(family, "embryo").fields]
    ours = [name.removesuffix(".word").removeprefix("way.") for name in names]
    assert ours == list(layout.EMBRYO_FIELDS)
    names = [field.name for field in shape_of(family, "service_counters").fields]
    assert names == list(layout.COUNTER_FIELDS)


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


#: What version 3 lays out: the digest of all objects' pinned maps' rows.
FINGERPRINT = "d5c79d8a36608777"


def test_a_layout_that_changes_gets_another_version() -> None:
    """Rows of another layout are brought over by whoever finds them under another version (upgrade.py)."""
    digest = hashlib.sha256()
    for path in sorted(OBJECTS.glob("*[46].bpf.o")):
        opened = BpfObject(path)
        try:
            btf = Btf(opened.btf())
            for name in sorted(opened.pinned_by_name()):
                key, value = opened.entry_types(name)
                digest.update(repr((name, opened.map_type(name), btf.shape(key), btf.shape(value))).encode())
        finally:
            opened.close()
    assert (layout.LAYOUT_VERSION, digest.hexdigest()[:16]) == (3, FINGERPRINT), (
        "rows look different: count LAYOUT_VERSION up, and write both down here"
    )
