"""Fragments written by hand, and what must become of them: rule 9 of docs/packet-path.md.

Datagrams are cut to pieces by scapy, and what comes out is put together again by it, so whole datagrams are
compared, with the checksum that scapy gives them.
"""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, defragment, fragment
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    defragment6,
    fragment6,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from blixt_model.checksum import ones_sum, pseudo_header
from blixt_model.datagrams import FRAGMENT_TICKS
from blixt_model.family import IPV4
from blixt_model.family import UDP as UDP_NUMBER
from blixt_model.network import packed
from blixt_model.scene import (
    EMPTY,
    NARROW,
    POD,
    REMOTE,
    Scene,
    answer,
    answer_ip,
    assert_dropped,
    assert_next_untouched,
    establish,
    port_of,
    to_pod,
    to_router,
    unchanged_macs,
)
from blixt_model.tables import DropReason, EndpointFlag, Opening
from blixt_model.ways import Hook, Outcome, Verdict, XdpVerdict

pytestmark = pytest.mark.bpf

PAYLOAD = bytes(range(256)) * 11
ID = 0x1234


def pieces_of(
    scene: Scene, service: int, size: int = 1000, identification: int = ID, payload: bytes = PAYLOAD
) -> list[Packet]:
    """A client's datagram to a service, its fragments in order, each with `size` bytes of payload at most."""
    names = scene.names
    datagram = UDP(sport=33000, dport=port_of(service)) / Raw(payload)
    return cut(scene, scene.ip(names.client, names.vip) / datagram, size, identification)


def cut(scene: Scene, packet: Packet, size: int, identification: int = ID) -> list[Packet]:
    if scene.family is IPV4:
        packet.id = identification
        return [IP(bytes(piece)) for piece in fragment(packet, size)]  # type: ignore[no-untyped-call]
    head, rest = packet.copy(), packet[IPv6].payload
    head.remove_payload()
    whole = head / IPv6ExtHdrFragment(id=identification) / rest
    return [IPv6(bytes(piece)) for piece in fragment6(whole, size + 48)]  # type: ignore[no-untyped-call]


def whole(outcomes: list[Outcome]) -> Packet:
    """The datagram that left in these frames."""
    packets = [Ether(outcome.packet).payload for outcome in outcomes]
    if isinstance(packets[0], IP):
        (made,) = defragment(packets)  # type: ignore[no-untyped-call]
        return IP(bytes(made))
    return IPv6(bytes(defragment6(packets)))  # type: ignore[no-untyped-call]


def send_all(scene: Scene, pieces: list[Packet], hook: Hook = Hook.UPLINK_INGRESS) -> list[Outcome]:
    return [scene.send(piece, hook) for piece in pieces]


def test_all_fragments_of_a_datagram_reach_the_endpoint(scene: Scene) -> None:
    pieces = pieces_of(scene, POD)
    assert len(pieces) > 2
    outcomes = send_all(scene, pieces)
    assert {outcome.verdict for outcome in outcomes} == {Verdict.REDIRECT}
    arrived = whole(outcomes)
    assert (arrived.src, arrived.dst, arrived[UDP].dport) == (scene.names.client, scene.names.pod, 8080)
    assert bytes(arrived[UDP].payload) == PAYLOAD
    checksum = arrived[UDP].chksum
    del arrived[UDP].chksum
    assert type(arrived)(bytes(arrived))[UDP].chksum == checksum
    for outcome, piece in zip(outcomes, pieces, strict=True):
        left = Ether(outcome.packet)
        assert (left.dst, left.src) == (Ether(to_pod(piece)).dst, Ether(to_pod(piece)).src)
        assert (left.payload.ttl if scene.family is IPV4 else left.payload.hlim) == 63
        if scene.family is IPV4:
            right = left[IP].copy()
            del right.chksum
            assert IP(bytes(right)).chksum == left[IP].chksum


def test_an_endpoint_answers_in_fragments_through_masquerading(scene: Scene) -> None:
    names = scene.names
    left = whole(send_all(scene, pieces_of(scene, REMOTE)))
    assert (left.src, left.dst) == (names.node, names.remote)
    reply = UDP(sport=8080, dport=left[UDP].sport) / Raw(PAYLOAD)
    arrived = whole(send_all(scene, cut(scene, scene.ip(names.remote, names.node) / reply, 1200)))
    assert (arrived.src, arrived.dst) == (names.vip, names.client)
    assert (arrived[UDP].sport, arrived[UDP].dport) == (port_of(REMOTE), 33000)
    assert bytes(arrived[UDP].payload) == PAYLOAD


def test_a_pod_reaches_itself_in_fragments(scene: Scene) -> None:
    names = scene.names
    datagram = UDP(sport=33000, dport=port_of(POD)) / Raw(PAYLOAD)
    sent = cut(scene, scene.ip(names.pod, names.vip) / datagram, 1000)
    arrived = whole(send_all(scene, sent, Hook.POD_INGRESS))
    assert (arrived.src, arrived.dst) == (names.node, names.pod)


def test_fragments_are_counted_as_packets(scene: Scene) -> None:
    pieces = pieces_of(scene, POD)
    send_all(scene, pieces)
    counters = scene.tables.counters[POD]
    assert (counters.connections, counters.packets_in) == (1, len(pieces))
    assert counters.bytes_in == sum(len(piece) for piece in pieces)


def test_one_that_overtook_the_first_goes_on(scene: Scene) -> None:
    first, later, *_ = pieces_of(scene, POD)
    assert_next_untouched(scene.send(later), later)
    scene.send(first)
    assert scene.send(later).verdict == Verdict.REDIRECT


def test_another_datagram_is_another(scene: Scene) -> None:
    scene.send(pieces_of(scene, POD)[0])
    later = pieces_of(scene, POD, identification=ID + 1)[1]
    assert_next_untouched(scene.send(later), later)


def test_a_datagram_is_forgotten_when_no_receiver_waits_for_its_rest(scene: Scene) -> None:
    first, later, *_ = pieces_of(scene, POD)
    scene.send(first)
    scene.comparison.age(FRAGMENT_TICKS)
    assert scene.send(later).verdict == Verdict.REDIRECT
    scene.comparison.age(1)
    assert_next_untouched(scene.send(later), later)


def test_an_identification_that_is_used_again_is_the_new_datagram_s(scene: Scene) -> None:
    scene.send(pieces_of(scene, POD)[0])
    first, later, *_ = pieces_of(scene, REMOTE)
    scene.send(first)
    assert Ether(scene.send(later).packet).payload.dst == scene.names.remote


def test_what_follows_a_refused_fragment_goes_on(scene: Scene) -> None:
    first, later, *_ = pieces_of(scene, EMPTY)
    refused = scene.send(first, Hook.POD_INGRESS)
    assert refused.verdict == Verdict.REDIRECT
    assert_next_untouched(scene.send(later, Hook.POD_INGRESS), later)


def test_what_follows_a_fragment_that_others_handle_goes_on(scene: Scene) -> None:
    scene.comparison.set_opening(Opening.NOTHING)
    for piece in pieces_of(scene, POD):
        assert_next_untouched(scene.send(piece), piece)


def test_what_follows_to_an_endpoint_that_left_is_dropped(scene: Scene) -> None:
    establish(scene, POD, UDP_NUMBER)
    first, later, *_ = pieces_of(scene, POD)
    scene.send(first)
    scene.change(POD, generation=2)
    assert_dropped(scene.send(later), DropReason.FRAGMENT)


def test_fragments_of_other_traffic_go_on(scene: Scene) -> None:
    names = scene.names
    for packet in cut(scene, scene.ip(names.client, names.pod) / UDP(sport=1, dport=2) / Raw(PAYLOAD), 1000):
        assert_next_untouched(scene.send(packet), packet)


@pytest.mark.parametrize("ttl", [0, 1])
def test_a_used_up_ttl_of_a_fragment_is_the_stack_s(scene: Scene, ttl: int) -> None:
    first, later, *_ = pieces_of(scene, POD)
    scene.send(first)
    if scene.family is IPV4:
        later.ttl = ttl
        del later.chksum
    else:
        later.hlim = ttl
    assert_next_untouched(scene.send(later), later)


def test_a_fragmented_syn_is_balanced_and_never_reset(scene: Scene) -> None:
    names = scene.names

    def pieces(service: int) -> list[Packet]:
        segment = TCP(sport=33000, dport=port_of(service), flags="S") / Raw(bytes(100))
        return cut(scene, scene.ip(names.client, names.vip) / segment, 64)

    assert whole(send_all(scene, pieces(POD)))[TCP].dport == 8080
    assert_dropped(scene.send(pieces(EMPTY)[0], Hook.POD_INGRESS), DropReason.NO_ENDPOINT)


# Sizes


def test_a_fragment_too_big_for_the_way_on(scene: Scene) -> None:
    """IPv4's are the stack's to cut again; of IPv6's the first is answered, its fragment header quoted."""
    first, later, *_ = pieces_of(scene, NARROW, size=1400)
    outcome = scene.send(first)
    if scene.family is IPV4:
        assert (outcome.verdict, Ether(outcome.packet)[IP].dst) == (Verdict.NEXT, "10.4.0.1")
        outcome = scene.send(later)
        assert (outcome.verdict, Ether(outcome.packet)[IP].dst) == (Verdict.NEXT, "10.4.0.1")
        return
    quoted = Raw(bytes(first)[: 40 + 8 + 8])
    assert outcome.packet == answer(answer_ip(scene) / ICMPv6PacketTooBig(mtu=1280) / quoted)
    assert_next_untouched(scene.send(later), later)


def test_a_later_fragment_too_big_is_dropped(scene: Scene) -> None:
    """The first one was small: of a known flow."""
    small, *_ = pieces_of(scene, NARROW, size=400)
    scene.send(small)
    (_, large, *_) = pieces_of(scene, NARROW, size=1400)
    if scene.family is IPV4:
        large.flags |= "DF"
        del large.chksum
    assert_dropped(scene.send(large), DropReason.TOO_BIG)


# Answers and errors


def test_a_refused_first_fragment_is_answered(scene: Scene) -> None:
    first, *_ = pieces_of(scene, EMPTY)
    error = ICMP(type=3, code=3) if scene.family is IPV4 else ICMPv6DestUnreach(code=4)
    headers = scene.family.header_size + (0 if scene.family is IPV4 else 8)
    quoted = Raw(bytes(first)[: headers + 8])
    outcome = scene.send(first, Hook.POD_INGRESS)
    assert outcome.packet == answer(answer_ip(scene) / error / quoted)


def test_a_fragment_s_checksum_is_never_left_to_a_device(scene: Scene) -> None:
    """Though it may look so: the pseudo header's sum stands where the checksum of the whole datagram does."""
    names = scene.names
    headers = scene.family.header_size + (0 if scene.family is IPV4 else 8)
    first, *_ = pieces_of(scene, EMPTY)
    length = len(bytes(first)) - scene.family.header_size
    sum_of_pseudo_header = ones_sum(
        pseudo_header(packed(names.client), packed(names.vip), UDP_NUMBER, length)
    )
    raw = bytearray(bytes(first))
    raw[headers + 6 : headers + 8] = sum_of_pseudo_header.to_bytes(2, "big")
    outcome = scene.send(type(first)(bytes(raw)), Hook.POD_INGRESS)
    error = ICMP(type=3, code=3) if scene.family is IPV4 else ICMPv6DestUnreach(code=4)
    assert outcome.packet == answer(answer_ip(scene) / error / Raw(bytes(raw[: headers + 8])))


def test_an_error_about_a_first_fragment_comes_home(scene: Scene) -> None:
    """A receiver that waited in vain quotes it."""
    names = scene.names
    left = scene.send(pieces_of(scene, REMOTE)[0]).packet[14:]
    error: Packet = ICMP(type=11, code=1) if scene.family is IPV4 else ICMPv6TimeExceeded(code=1)
    outcome = scene.send(scene.ip(names.remote, names.node) / error / Raw(left))
    quoted = pieces_of(scene, REMOTE)[0]
    if scene.family is IPV4:
        quoted.ttl = 63
        del quoted.chksum
        error = ICMP(type=11, code=1)
    else:
        quoted.hlim = 63
        error = ICMPv6TimeExceeded(code=1)
    assert outcome.packet == to_router(scene.ip(names.vip, names.client, 63) / error / Raw(bytes(quoted)))


def test_an_error_about_a_later_fragment_goes_on(scene: Scene) -> None:
    """It quotes no ports, whatever stands where a first fragment has them."""
    names = scene.names
    left = bytearray(scene.send(pieces_of(scene, REMOTE)[0]).packet[14:])
    offset = 6 if scene.family is IPV4 else 42
    field = int.from_bytes(left[offset : offset + 2], "big") + (1 if scene.family is IPV4 else 8)
    left[offset : offset + 2] = field.to_bytes(2, "big")
    error: Packet = ICMP(type=11, code=1) if scene.family is IPV4 else ICMPv6TimeExceeded(code=1)
    packet = scene.ip(names.remote, names.node) / error / Raw(bytes(left))
    assert_next_untouched(scene.send(packet), packet)


# IPv6's header of fragments


def test_a_fragment_header_may_stand_among_others(scene: Scene) -> None:
    if scene.family is IPV4:
        return
    names = scene.names

    def packet(destination: str, port: int, hops: int) -> Packet:
        before, after = IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt()
        datagram = UDP(sport=33000, dport=port) / Raw(bytes(64))
        return (
            IPv6(src=names.client, dst=destination, hlim=hops)
            / before
            / IPv6ExtHdrFragment(m=1)
            / after
            / datagram
        )

    outcome = scene.send(packet(names.vip, port_of(POD), 64))
    assert outcome.packet == to_pod(packet(names.pod, 8080, 63))
    # What says of itself that something else follows is the same datagram's all the same (RFC 8200, 4.5).
    later = IPv6(src=names.client, dst=names.vip) / IPv6ExtHdrFragment(offset=10, nh=17) / Raw(bytes(24))
    assert Ether(scene.send(later).packet).payload.dst == names.pod


def test_a_second_fragment_header_is_nobody_s(scene: Scene) -> None:
    if scene.family is IPV4:
        return
    names = scene.names
    twice = IPv6ExtHdrFragment(m=1) / IPv6ExtHdrFragment(m=1)
    datagram = UDP(sport=33000, dport=port_of(POD)) / Raw(bytes(64))
    packet = IPv6(src=names.client, dst=names.vip) / twice / datagram
    assert_next_untouched(scene.send(packet), packet)


def test_an_atomic_fragment_is_a_whole_datagram(scene: Scene) -> None:
    if scene.family is IPV4:
        return
    names = scene.names

    def packet(destination: str, port: int, hops: int) -> Packet:
        datagram = UDP(sport=33000, dport=port) / Raw(bytes(64))
        return IPv6(src=names.client, dst=destination, hlim=hops) / IPv6ExtHdrFragment() / datagram

    assert scene.send(packet(names.vip, port_of(POD), 64)).packet == to_pod(packet(names.pod, 8080, 63))
    assert not scene.tables.fragments


# 8. XDP


def test_xdp_leaves_fragments_to_tc(scene: Scene) -> None:
    pieces = pieces_of(scene, REMOTE)
    send_all(scene, pieces)
    for piece in pieces:
        outcome = scene.send(piece, Hook.UPLINK_XDP)
        assert (outcome.verdict, outcome.packet) == (XdpVerdict.PASS, unchanged_macs(piece))


def test_a_silent_endpoint_s_datagram_arrives_whole(scene: Scene) -> None:
    """It was begun before the endpoint fell silent."""
    first, later, *_ = pieces_of(scene, POD)
    scene.send(first)
    scene.change(POD, flags=EndpointFlag.LIVE | EndpointFlag.LOCAL | EndpointFlag.SILENT)
    assert scene.send(later).verdict == Verdict.REDIRECT
