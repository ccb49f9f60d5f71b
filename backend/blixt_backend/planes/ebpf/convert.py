"""Rows of one version's layout to another's, by the names of their fields. Pure."""

from __future__ import annotations

from blixt_backend.planes.ebpf.btf import Field, Shape


def convert(rows: bytes, old: Shape, new: Shape) -> bytes:
    """Joined rows of the shape `old` as rows of the shape `new`: what is called the same keeps its bytes,
    what is new is 0, what is gone is left out. A field that has become wider or narrower starts at 0.

    A field at a time over all rows, so the time goes with the bytes of a row and hardly with their number.
    """
    if old == new:
        return rows
    there = {field.name: field for field in old.fields}
    result = bytearray(len(rows) // old.size * new.size)
    for field in new.fields:
        held = there.get(field.name)
        if held and held.size == field.size:
            _copy(rows, old.size, held, result, new.size, field)
    return bytes(result)


def lost(old: Shape, new: Shape) -> list[str]:
    """The names of fields that don't survive `convert`."""
    kept = {(field.name, field.size) for field in new.fields}
    return [field.name for field in old.fields if (field.name, field.size) not in kept]


def _copy(rows: bytes, stride: int, held: Field, result: bytearray, new_stride: int, field: Field) -> None:
    for byte in range(field.size):
        result[field.offset + byte :: new_stride] = rows[held.offset + byte :: stride]
