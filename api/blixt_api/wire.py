"""Encoded items put together without encoding them again (protobuf's wire format, both streams).

A *frame* is an OpItem as a `blixt.v1.Batch` holds it: field 1's tag, the item's length, the item. Batches
are frames joined; localv1's stream takes a frame's item.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from blixt_api.localv1_pb2 import EndpointsSet, NodesSet, ServicesSet

LOCAL_SERVICE: Final = "localv1.Sets"
#: What KPNG called it until October 2022: the messages are the same.
OLDER_LOCAL_SERVICE: Final = "localnetv1.Endpoints"
BATCH_SERVICE: Final = "blixt.v1.Sets"
WATCH: Final = "Watch"
#: Full method names, as a channel takes them.
LOCAL_WATCH: Final = f"/{LOCAL_SERVICE}/{WATCH}"
OLDER_LOCAL_WATCH: Final = f"/{OLDER_LOCAL_SERVICE}/{WATCH}"
BATCH_WATCH: Final = f"/{BATCH_SERVICE}/{WATCH}"

SERVICES: Final = int(ServicesSet)
ENDPOINTS: Final = int(EndpointsSet)
NODES: Final = int(NodesSet)

#: OpItems. An empty message that is set is there on the wire, with length 0.
SYNC: Final = b"\x0a\x00"
RESET: Final = b"\x22\x00"

_SET, _DELETE = b"\x12", b"\x1a"  # OpItem
_VALUE_REF, _VALUE_BYTES = b"\x0a", b"\x12"  # Value
_REF_SET, _REF_PATH = b"\x08", b"\x12"  # Ref
_BATCH_ITEM, _BATCH_REVISION = b"\x0a", b"\x10"  # Batch


def varint(number: int) -> bytes:
    """A number from 0 to 2^64 - 1, seven bits a byte, the lowest first."""
    return _LENGTHS[number] if number < len(_LENGTHS) else _varint(number)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


#: Of nearly all items and of what is in them.
_LENGTHS: Final = tuple(map(_varint, range(1024)))


def ref(set_number: int, path: str) -> bytes:
    """An encoded Ref to `path` in the set SERVICES, ENDPOINTS or NODES."""
    encoded = path.encode()
    return _REF_SET + varint(set_number) + _REF_PATH + varint(len(encoded)) + encoded


def set_item(item_ref: bytes, message: bytes) -> bytes:
    """An OpItem that sets what a Ref names to an already encoded Service, Endpoint or Node."""
    value = _VALUE_REF + varint(len(item_ref)) + item_ref
    if message:
        value += _VALUE_BYTES + varint(len(message)) + message
    return _SET + varint(len(value)) + value


def delete_item(item_ref: bytes) -> bytes:
    """An OpItem that deletes what a Ref names."""
    return _DELETE + varint(len(item_ref)) + item_ref


def frame(item: bytes) -> bytes:
    """An OpItem as a part of a Batch."""
    return _BATCH_ITEM + varint(len(item)) + item


def set_frame(item_ref: bytes, message: bytes) -> bytes:
    """The frame of `set_item`, in one piece: a cluster has as many as it has endpoints."""
    if not message:
        return frame(set_item(item_ref, message))
    ref_length, message_length = varint(len(item_ref)), varint(len(message))
    value = 2 + len(ref_length) + len(item_ref) + len(message_length) + len(message)
    value_length = varint(value)
    return b"".join(
        (
            _BATCH_ITEM, varint(1 + len(value_length) + value),
            _SET, value_length,
            _VALUE_REF, ref_length, item_ref,
            _VALUE_BYTES, message_length, message,
        )
    )  # fmt: skip


def unframe(framed: bytes) -> bytes:
    """The OpItem of a frame."""
    start = 1
    while framed[start] & 0x80:
        start += 1
    return framed[start + 1 :]


def batches(frames: Iterable[bytes], revision: int, limit: int) -> Iterator[bytes]:
    """A round's frames as Batch messages, the last of which carries the revision.

    A message is closed by the frame that brings it to `limit` bytes or more.
    """
    part: list[bytes] = []
    size = 0
    for framed in frames:
        if size >= limit:
            yield b"".join(part)
            part, size = [], 0
        part.append(framed)
        size += len(framed)
    if revision:
        part.append(_BATCH_REVISION + varint(revision))
    yield b"".join(part)
