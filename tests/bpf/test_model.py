"""The model by itself, with scapy and plain arithmetic for witnesses. Needs no kernel and no root."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt_model.checksum import changed, changed_udp, checksum
from blixt_model.choices import Choices
from blixt_model.family import IPV4, IPV6, TCP, UDP, Family
from blixt_model.frames import LEFT_TO_DEVICE, TO_NODE, WRONG, Shape, frame
from blixt_model.hashing import hash_of
from blixt_model.layout import Layout
from blixt_model.network import packed
from blixt_model.parse import FRAGMENT_HEADER, parse
from blixt_model.ports import source_ports
from blixt_model.programs import process
from blixt_model.reduction import reduced
from blixt_model.scapy_check import wrong_checksums
from blixt_model.tables import Connection, Flow, SourceRange, Tables, Via, Way, partner_of
from blixt_model.translation import translate
from blixt_model.ways import Circumstances, Hook, Settings, Verdict

SETTINGS = Settings(hash_seed=7, port_first=40000, port_count=6, hint_count=16, closing_count=2)
FAMILIES = pytest.mark.parametrize("family", [IPV4, IPV6], ids=["IPv4", "IPv6"])
families = st.sampled_from([IPV4, IPV6])


def flow(family: Family, protocol: int = TCP) -> Flow:
    hosts = ("192.0.2.7", "10.96.0.1") if family is IPV4 else ("2001:db8::7", "fd00:96::1")
    return Flow(packed(hosts[0]), packed(hosts[1]), 33000, 80, protocol)


def now(family: Family, hook: Hook = Hook.UPLINK_INGRESS) -> Circumstances:
    return Circumstances(
        family, hook, device=3, tick=100, fib=lambda _address: None, settings=SETTINGS, mac=TO_NODE
    )


@given(st.binary(min_size=4, max_size=64), st.binary(min_size=4, max_size=4))
def test_a_checksum_changed_by_the_difference_is_the_whole_one(data: bytes, new: bytes) -> None:
    data = data[: len(data) // 2 * 2] + b"\x12\x34"  # all zeros have two checksums in one's complement
    after = new + data[4:]
    assert changed(checksum(data), data[:4], new) == checksum(after)


def test_udp_knows_no_checksum_and_never_makes_one() -> None:
    assert changed_udp(0, b"\x00\x01", b"\x00\x02") == 0
    assert changed(0x0001, b"\x00\x01", b"\x00\x02") == 0
    assert changed_udp(0x0001, b"\x00\x01", b"\x00\x02") == 0xFFFF


@given(families, st.sampled_from([TCP, UDP]), st.binary(max_size=70), st.integers(2, 255), st.booleans())
def test_translated_packets_are_right_to_scapy(
    family: Family, protocol: int, payload: bytes, ttl: int, lower_ttl: bool
) -> None:
    raw = frame(Shape(family, flow(family, protocol), payload, ttl))
    assert not wrong_checksums(raw)
    packet = parse(raw, family)
    assert packet is not None
    target = partner_of(flow(family, protocol))
    translated = translate(
        packet, Flow(target.source, target.source, 1, 65535, protocol), lower_ttl=lower_ttl
    )
    assert not wrong_checksums(translated)
    again = parse(translated, family)
    assert again is not None
    assert (again.flow.destination_port, again.ttl) == (65535, ttl - lower_ttl)


@FAMILIES
@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_a_wrong_checksum_stays_wrong(family: Family, protocol: int) -> None:
    packet = parse(frame(Shape(family, flow(family, protocol), checksum=WRONG)), family)
    assert packet is not None
    assert wrong_checksums(translate(packet, partner_of(packet.flow), lower_ttl=False))


@given(families, st.sampled_from(list(Hook)), st.binary(max_size=120))
def test_no_frame_is_too_strange(family: Family, hook: Hook, tail: bytes) -> None:
    head = bytes(12) + family.ethertype.to_bytes(2, "big") + bytes([family.version << 4 | 5])
    raw = (head + tail)[: max(len(tail), 14)]
    outcome = process(raw, now(family, hook), Tables())
    assert (outcome.packet, outcome.changes.connections) == (raw, {})


@pytest.mark.parametrize(
    ("extensions", "ours"),
    [
        (((60, 0),) * 6, True),
        (((60, 0),) * 7, False),
        (((60, 24),), True),
        (((60, 25),), False),
        (((FRAGMENT_HEADER, 0),), True),
        (((60, 0),) * 5 + ((FRAGMENT_HEADER, 0),), True),
        (((60, 0),) * 6 + ((FRAGMENT_HEADER, 0),), False),
        (((FRAGMENT_HEADER, 0), (60, 0)), True),
        (((FRAGMENT_HEADER, 0), (60, 0), (FRAGMENT_HEADER, 0)), False),
    ],
)
def test_extension_headers_are_skipped_up_to_a_limit(
    extensions: tuple[tuple[int, int], ...], ours: bool
) -> None:
    packet = parse(frame(Shape(IPV6, flow(IPV6), extensions=extensions)), IPV6)
    assert (packet is not None) == ours


@FAMILIES
def test_a_too_big_answer_foresees_a_checksum_left_to_the_device(family: Family) -> None:
    """A device will write the checksum of what is quoted; then the ICMP checksum must be right."""
    key = flow(family)
    way = Way(Via.DEVICE, 3, 1280, b"\2" * 6, b"\4" * 6)
    entry = Connection(Flow(key.source, key.destination, 1, 2, TCP), 1, 1, 1, 1, 100, way)
    shape = Shape(family, key, bytes(1300), dont_fragment=True, checksum=LEFT_TO_DEVICE)
    outcome = process(frame(shape), now(family), Tables(connections={key: entry}))
    assert outcome.verdict == Verdict.REDIRECT
    assert wrong_checksums(outcome.packet)
    finished = bytearray(outcome.packet)
    quoted = len(finished) - 20
    finished[quoted + 16 : quoted + 18] = checksum(bytes(finished[quoted:])).to_bytes(2, "big")
    assert not wrong_checksums(bytes(finished))


@FAMILIES
def test_the_layouts_have_the_kernel_s_sizes(family: Family) -> None:
    layout = Layout.of(family)
    sizes = (layout.flow_format.size, layout.connection_format.size, layout.endpoint_format.size)
    assert sizes == ((16, 72, 16) if family is IPV4 else (40, 96, 28))
    assert layout.to_flow(layout.flow(flow(family))) == flow(family)


def test_source_ranges_match_by_prefix() -> None:
    tables = Tables(source_ranges={SourceRange(1, 24, packed("192.0.2.0")), SourceRange(2, 0, bytes(4))})
    assert tables.in_source_ranges(1, packed("192.0.2.200"))
    assert not tables.in_source_ranges(1, packed("192.0.3.1"))
    assert tables.in_source_ranges(2, packed("8.8.8.8"))
    assert not tables.in_source_ranges(3, packed("8.8.8.8"))


@given(st.integers(0, 65535), st.integers(0, 2**64 - 1))
def test_source_ports_stay_in_their_range(own: int, flow_hash: int) -> None:
    ports = list(source_ports(own, flow_hash, 1024, 28976))
    assert len(ports) == 32
    assert all(1024 <= port < 30000 for port in ports)
    assert ports[0] == own or not 1024 <= own < 30000


def test_the_hash_spreads_over_the_slots() -> None:
    """10,000 ports over 10 slots: each within five standard deviations of its share."""
    counts = [0] * 10
    for port in range(10_000):
        key = Flow(bytes(4), bytes(4), port, 80, TCP)
        counts[(hash_of(key, SETTINGS.hash_seed) >> 32) * 10 >> 32] += 1
    assert all(abs(count - 1000) < 5 * 30 for count in counts)


def test_a_failing_sequence_is_reduced_to_what_it_needs() -> None:
    def fails(steps: list[bytes]) -> bool:
        return any(step[:1] == b"a" for step in steps) and any(step[1:2] == b"b" for step in steps)

    steps = [b"xxxx", b"axxx", b"yyyy", b"xbzz", b"zzzz"]
    assert reduced(steps, fails) == [b"a", b"xb"]


def test_choices_are_simplest_when_the_bytes_are_used_up() -> None:
    choices = Choices(b"\x07")
    assert [choices.below(5), choices.one_of("ab"), choices.rarely(3)] == [2, "a", False]
