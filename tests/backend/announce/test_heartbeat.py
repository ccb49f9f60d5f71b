"""Heartbeats: there and back, their bytes, and whatever else may come with their EtherType."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt_backend.announce.frames import Mac, parse_ethernet
from blixt_backend.announce.heartbeat import (
    MOST_ADDRESSES,
    Heartbeat,
    State,
    digest,
    group_id,
    parse_heartbeat,
)
from blixt_backend.model import PackedAddress
from blixt_fakes.segment import ip

MAC = Mac(bytes.fromhex("020000000001"))
EIGHT = st.binary(min_size=8, max_size=8)
NAMES = st.text(min_size=1, max_size=60).filter(lambda name: len(name.encode()) <= 253)
ADDRESSES = (st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)).map(PackedAddress)
BEATS = st.builds(
    Heartbeat,
    NAMES,
    EIGHT,
    EIGHT,
    st.sampled_from(State),
    EIGHT,
    st.integers(1, 65535),
    st.integers(0, 65535),
    st.lists(ADDRESSES, max_size=MOST_ADDRESSES).map(tuple),
    st.lists(NAMES, max_size=3).map(tuple),
)


def payload(beat: Heartbeat) -> bytes:
    frame = parse_ethernet(beat.frame(MAC))
    assert frame
    assert (frame.destination, frame.source, frame.ethertype) == (bytes.fromhex("03626c697874"), MAC, 0x88B5)
    return frame.payload


@given(BEATS, st.binary(max_size=40))
def test_there_and_back_with_padding_or_what_a_later_version_adds(beat: Heartbeat, more: bytes) -> None:
    assert parse_heartbeat(payload(beat) + more) == beat


def test_the_bytes() -> None:
    beat = Heartbeat(
        "n1", b"group-id", b"boot--id", State.RESTARTING, b"digest--", 1000, 30, (ip("192.0.2.9"),), ("n2",)
    )
    assert payload(beat) == (
        b"BLXT\x01\x03" + bytes.fromhex("03e8 001e") + b"group-idboot--iddigest--\x01\x01"
        b"\x02n1\x04" + bytes((192, 0, 2, 9)) + b"\x02n2"
    )


@given(BEATS, st.data())
def test_what_is_cut_off_is_none(beat: Heartbeat, data: st.DataObject) -> None:
    whole = payload(beat)
    assert parse_heartbeat(whole[: data.draw(st.integers(0, len(whole) - 1))]) is None


@given(st.binary(max_size=100), BEATS)
def test_anything_else_is_none_and_no_error(garbage: bytes, beat: Heartbeat) -> None:
    assert parse_heartbeat(garbage) is None
    parse_heartbeat(payload(beat)[:36] + garbage)
    parse_heartbeat(b"BLXT\x01" + garbage)


GOOD = payload(Heartbeat("n1", bytes(8), bytes(8), State.READY, addresses=(ip("192.0.2.9"),)))


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(b"BLXU" + GOOD[4:], id="magic"),
        pytest.param(GOOD[:4] + b"\x02" + GOOD[5:], id="version"),
        pytest.param(GOOD[:5] + b"\x09" + GOOD[6:], id="state"),
        pytest.param(GOOD[:6] + b"\x00\x00" + GOOD[8:], id="interval-of-zero"),
        pytest.param(GOOD[:34] + b"\x11" + GOOD[35:] + bytes(400), id="too-many-addresses"),
        pytest.param(GOOD[:36] + b"\x00" + GOOD[37:], id="no-name"),
        pytest.param(GOOD[:37] + b"\xff\xff" + GOOD[39:], id="name-is-no-text"),
        pytest.param(GOOD[:39] + b"\x03abc", id="address-of-three-bytes"),
    ],
)
def test_what_can_not_be_meant(wrong: bytes) -> None:
    assert parse_heartbeat(GOOD) is not None
    assert parse_heartbeat(wrong) is None


def test_a_heartbeat_fits_any_mtu_whatever_there_is_to_tell() -> None:
    beat = Heartbeat(
        "n" * 253,
        bytes(8),
        bytes(8),
        State.READY,
        addresses=tuple(ip(f"2001:db8::{n:x}") for n in range(1, 40)),
        kept=tuple(f"node-{n:03}" for n in range(300)),
    )
    found = parse_heartbeat(payload(beat))
    assert found
    assert len(payload(beat)) <= 1200
    assert found.addresses == beat.addresses[:MOST_ADDRESSES]
    assert found.kept == beat.kept[: len(found.kept)]
    assert len(found.kept) > 50


def test_hashes_of_names() -> None:
    assert digest(["a", "b"]) == digest(["b", "a"]) != digest(["ab"])
    assert group_id("a") != group_id("b")
