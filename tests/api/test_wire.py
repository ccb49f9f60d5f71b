"""The helpers that put encoded parts together, against protobuf's own encoder."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blixt_api import blixtv1_pb2, wire
from blixt_api import localv1_pb2 as local

paths = st.text(min_size=1, max_size=300)
set_numbers = st.sampled_from([wire.SERVICES, wire.ENDPOINTS])
refs = st.builds(wire.ref, set_numbers, paths)
items = st.one_of(
    st.builds(wire.set_item, refs, st.binary(max_size=300)),
    st.builds(wire.delete_item, refs),
    st.sampled_from([wire.SYNC, wire.RESET]),
)


def test_method_names_are_the_services() -> None:
    assert wire.LOCAL_WATCH == "/localv1.Sets/Watch"
    assert wire.BATCH_WATCH == "/blixt.v1.Sets/Watch"
    for module, service in ((local, wire.LOCAL_SERVICE), (blixtv1_pb2, wire.BATCH_SERVICE)):
        (defined,) = module.DESCRIPTOR.services_by_name.values()
        assert defined.full_name == service
        assert [method.name for method in defined.methods] == [wire.WATCH]


def test_empty_ops() -> None:
    assert local.OpItem(Sync=local.EmptyOp()).SerializeToString() == wire.SYNC == bytes.fromhex("0a00")
    assert local.OpItem(Reset=local.EmptyOp()).SerializeToString() == wire.RESET == bytes.fromhex("2200")


@pytest.mark.parametrize(
    ("number", "encoded"),
    [(0, "00"), (127, "7f"), (128, "8001"), (300, "ac02"), (16384, "808001"), (2**64 - 1, "ff" * 9 + "01")],
)
def test_varint(number: int, encoded: str) -> None:
    assert wire.varint(number).hex() == encoded


@settings(deadline=None)
@given(set_numbers, paths, st.binary(max_size=3000))
def test_set_item(set_number: int, path: str, message: bytes) -> None:
    expected = local.OpItem(
        Set=local.Value(Ref=local.Ref(Set=local.Set.Name(set_number), Path=path), Bytes=message)
    )
    item = wire.set_item(wire.ref(set_number, path), message)
    assert item == expected.SerializeToString()
    assert wire.set_frame(wire.ref(set_number, path), message) == wire.frame(item)


@settings(deadline=None)
@given(set_numbers, paths)
def test_delete_item(set_number: int, path: str) -> None:
    expected = local.OpItem(Delete=local.Ref(Set=local.Set.Name(set_number), Path=path))
    assert wire.delete_item(wire.ref(set_number, path)) == expected.SerializeToString()


@settings(deadline=None)
@given(items)
def test_unframe_takes_the_frame_away(item: bytes) -> None:
    assert wire.unframe(wire.frame(item)) == item


@settings(deadline=None)
@given(st.lists(items, max_size=20), st.integers(0, 2**64 - 1), st.integers(1, 2000))
def test_batches_hold_the_items_in_order(sequence: list[bytes], revision: int, limit: int) -> None:
    messages = list(wire.batches([wire.frame(item) for item in sequence], revision, limit))
    parsed = [blixtv1_pb2.Batch.FromString(message) for message in messages]
    assert [item.SerializeToString() for batch in parsed for item in batch.items] == [
        local.OpItem.FromString(item).SerializeToString() for item in sequence
    ]
    assert [batch.revision for batch in parsed] == [0] * (len(parsed) - 1) + [revision]
    for batch in parsed[:-1]:
        last = len(wire.frame(batch.items[-1].SerializeToString()))
        assert batch.ByteSize() >= limit > batch.ByteSize() - last


def test_generated_modules_are_fresh() -> None:
    script = next(
        folder / "hack/proto.sh" for folder in Path(__file__).parents if (folder / "hack/proto.sh").exists()
    )
    done = subprocess.run(
        [script, "--check"],
        env={"PYTHON": sys.executable, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
