"""kinds: endpoints that are decoded by parts are what they are when decoded whole."""

from __future__ import annotations

import socket
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt_api import localv1_pb2 as pb
from blixt_backend import decode, kinds
from blixt_backend.decode import DecodeError, Dialect
from blixt_backend.kinds import Kinds
from blixt_backend.model import Endpoint

ADDRESSES = {
    "V4": st.integers(0, 2**32 - 1).map(lambda n: socket.inet_ntop(socket.AF_INET, n.to_bytes(4, "big"))),
    "V6": st.integers(0, 2**128 - 1).map(lambda n: socket.inet_ntop(socket.AF_INET6, n.to_bytes(16, "big"))),
}
NAMES = st.sampled_from(["", "a", "node-1", "\u0358\u0006", "x" * 200])  # the third is a time's tag, encoded
MESSAGES = st.builds(
    pb.Endpoint,
    Hostname=st.sampled_from(["", "", "web-0"]),
    IPs=st.builds(pb.IPSet, **{family: st.lists(texts, max_size=2) for family, texts in ADDRESSES.items()}),
    Local=st.booleans(),
    PortOverrides=st.lists(st.builds(pb.PortName, Name=NAMES, Port=st.integers(0, 65535)), max_size=2),
    Scopes=st.none() | st.builds(pb.EndpointScopes, Internal=st.booleans(), Cluster=st.booleans()),
    Group=st.integers(0, 2**32 - 1),
    Weight=st.none() | st.integers(0, 2**32 - 1),
    NotServing=st.booleans(),
    Node=NAMES,
    Zone=NAMES,
    TriggerTime=st.just(0) | st.integers(-(2**63), 2**63 - 1),
)
ENCODED = st.lists(MESSAGES, min_size=1, max_size=3).map(
    lambda messages: b"".join(message.SerializeToString() for message in messages)
)


def by_kinds(known: Kinds, encoded: bytes) -> Endpoint | str:
    try:
        packed = known.endpoint(encoded)
    except DecodeError as error:
        return str(error)
    return packed.kind.endpoint("key", packed.addresses, packed.trigger_time_ns)


def whole(encoded: bytes, dialect: Dialect) -> Endpoint | str:
    try:
        return decode.endpoint("key", encoded, dialect)
    except DecodeError as error:
        return str(error)


@given(st.lists(ENCODED, max_size=4), st.sampled_from(Dialect))
def test_whatever_is_sent_is_decoded_as_a_whole_would_be(messages: list[bytes], dialect: Dialect) -> None:
    known = Kinds(dialect)
    for encoded in messages * 2:
        assert by_kinds(known, encoded) == whole(encoded, dialect)


@given(st.lists(ENCODED, min_size=1, max_size=3), st.data())
def test_so_are_messages_with_an_error_in_them(messages: list[bytes], data: st.DataObject) -> None:
    known = Kinds()
    for encoded in messages:
        known_before = by_kinds(known, encoded)
        broken = bytearray(encoded or b"\0")
        position = data.draw(st.integers(0, len(broken) - 1))
        broken[position : position + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
        assert by_kinds(known, bytes(broken)) == whole(bytes(broken), Dialect.BLIXT)
        assert by_kinds(known, encoded) == known_before


def usual(address: str, node: str, time: int = 0) -> bytes:
    ips = pb.IPSet(V6=[address]) if ":" in address else pb.IPSet(V4=[address])
    return pb.Endpoint(IPs=ips, TriggerTime=time, Node=node).SerializeToString()


def test_what_endpoints_have_in_common_is_kept_once() -> None:
    known = Kinds()
    one, other = known.endpoint(usual("10.0.0.1", "a", 5)), known.endpoint(usual("10.0.0.2", "a"))
    assert one.kind is other.kind
    assert (one.trigger_time_ns, other.trigger_time_ns) == (5, 0)
    assert known.endpoint(usual("10.0.0.1", "b")).kind is not one.kind
    assert known.endpoint(usual("2001:db8::1", "a")).kind is not one.kind


def test_not_more_is_remembered_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "_MOST", 4)
    known = Kinds()
    for number in range(11):
        encoded = usual("10.0.0.1", f"node-{number}")
        assert cast(Endpoint, by_kinds(known, encoded)).node == f"node-{number}"
        assert len(known._known) <= 4
