"""Rows from one layout to another: tables, and any two shapes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt_backend.planes.ebpf.btf import Field, Shape
from blixt_backend.planes.ebpf.convert import convert, lost


def shape(*fields: tuple[str, int], padding: int = 0) -> Shape:
    made, offset = [], 0
    for name, size in fields:
        made.append(Field(name, offset, size))
        offset += size
    return Shape(offset + padding, tuple(made))


ROW = shape(("port", 2), ("protocol", 1), padding=1)


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (ROW, b"\x00\x50\x06\x00\x00\x35\x11\x00"),
        (shape(("protocol", 1), ("port", 2)), b"\x06\x00\x50\x11\x00\x35"),
        (shape(("colour", 1), ("protocol", 1)), b"\x00\x06\x00\x11"),
        (shape(("port", 4)), bytes(8)),
    ],
    ids=["the same", "in another order", "one new, one gone", "wider"],
)
def test_fields_keep_their_bytes_by_their_names(new: Shape, expected: bytes) -> None:
    rows = b"\x00\x50\x06\x00" + b"\x00\x35\x11\x00"
    assert convert(rows, ROW, new) == expected


def test_what_is_lost_is_told() -> None:
    assert lost(ROW, shape(("port", 4), ("protocol", 1))) == ["port"]
    assert lost(ROW, ROW) == []


SHAPES = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 9), min_size=1).flatmap(
    lambda fields: st.builds(
        lambda order, padding: shape(*((name, fields[name]) for name in order), padding=padding),
        st.permutations(sorted(fields)),
        st.integers(0, 5),
    )
)


@given(SHAPES, SHAPES, st.integers(0, 5))
def test_any_two_shapes(old: Shape, new: Shape, count: int) -> None:
    rows = bytes((7 * i + 3) % 256 for i in range(old.size * count))
    made = convert(rows, old, new)
    assert len(made) == new.size * count
    if old == new:
        assert made == rows
        return
    there = {(field.name, field.size): field.offset for field in old.fields}
    for number in range(count):
        row, was = made[number * new.size :][: new.size], rows[number * old.size :][: old.size]
        for field in new.fields:
            offset = there.get((field.name, field.size))
            expected = bytes(field.size) if offset is None else was[offset : offset + field.size]
            assert row[field.offset : field.offset + field.size] == expected
