"""SCTP written by hand, in scapy's words and with its checksums: what differs from TCP and UDP."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6PacketTooBig, IPv6ExtHdrFragment
from scapy.layers.sctp import (
    SCTP,
    SCTPChunkAbort,
    SCTPChunkCookieAck,
    SCTPChunkCookieEcho,
    SCTPChunkData,
    SCTPChunkInit,
    SCTPChunkInitAck,
    SCTPChunkShutdownAck,
    SCTPChunkShutdownComplete,
)
from scapy.packet import Packet, Raw

from blixt_model.family import ETHERNET_SIZE, IPV4
from blixt_model.family import SCTP as SCTP_NUMBER
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
    flow_of,
    port_of,
    to_pod,
    to_router,
    unchanged_macs,
)
from blixt_model.tables import ConnectionFlag, DropReason
from blixt_model.ways import Hook, Verdict, XdpVerdict

pytestmark = pytest.mark.bpf

CLIENT_PORT, SERVER_PORT, TAG, PEER_TAG = 33000, 8080, 0x11111111, 0x22222222
INIT = SCTPChunkInit(init_tag=TAG, a_rwnd=65536, n_out_streams=1, n_in_streams=1, init_tsn=1)
INIT_ACK = SCTPChunkInitAck(init_tag=PEER_TAG, a_rwnd=65536, n_out_streams=1, n_in_streams=1, init_tsn=1)


def from_client(scene: Scene, service: int, *chunks: Packet, tag: int = PEER_TAG) -> Packet:
    head = scene.ip(scene.names.client, scene.names.vip)
    return stacked(head / SCTP(sport=CLIENT_PORT, dport=port_of(service), tag=tag), *chunks)


def from_pod(scene: Scene, *chunks: Packet) -> Packet:
    head = scene.ip(scene.names.pod, scene.names.client)
    return stacked(head / SCTP(sport=SERVER_PORT, dport=CLIENT_PORT, tag=TAG), *chunks)


def stacked(packet: Packet, *chunks: Packet) -> Packet:
    for chunk in chunks:
        packet = packet / chunk
    return packet


def begun(scene: Scene) -> None:
    """An association with the pod, as far as makes it a connection."""
    scene.send(from_client(scene, POD, INIT, tag=0))
    scene.send(from_pod(scene, INIT_ACK), Hook.POD_INGRESS)
    assert scene.tables.connections == {}
    scene.send(from_client(scene, POD, SCTPChunkCookieEcho(cookie=b"four")))
    assert len(scene.tables.connections) == 2


def flags_of(scene: Scene) -> int:
    return scene.tables.connections[flow_of(scene, POD, SCTP_NUMBER)].flags


@pytest.mark.parametrize("length", [1, 2, 3, 4, 100, 1400])
def test_ports_change_and_so_does_the_sum_of_the_packet(scene: Scene, length: int) -> None:
    begun(scene)
    data = SCTPChunkData(data=bytes(range(256)) * 6)
    data.data = data.data[:length]
    outcome = scene.send(from_client(scene, POD, data))
    expected = scene.ip(scene.names.client, scene.names.pod, 63)
    expected = expected / SCTP(sport=CLIENT_PORT, dport=SERVER_PORT, tag=PEER_TAG) / data
    assert outcome.packet == to_pod(expected)
    back = scene.send(from_pod(scene, data), Hook.POD_INGRESS)
    expected = scene.ip(scene.names.vip, scene.names.client, 63)
    expected = expected / SCTP(sport=port_of(POD), dport=CLIENT_PORT, tag=TAG) / data
    assert back.packet == to_router(expected)


def test_a_sum_that_is_left_to_the_device_stays_zero(scene: Scene) -> None:
    packet = from_client(scene, POD, INIT, tag=0)
    packet[SCTP].chksum = 0
    outcome = scene.send(packet)
    expected = scene.ip(scene.names.client, scene.names.pod, 63)
    expected = expected / SCTP(sport=CLIENT_PORT, dport=SERVER_PORT, tag=0, chksum=0) / INIT
    assert outcome.packet == to_pod(expected)


def test_a_wrong_sum_stays_wrong(scene: Scene) -> None:
    packet = from_client(scene, POD, INIT, tag=0)
    packet[SCTP].chksum = 0x12345678
    outcome = scene.send(packet)
    right = scene.ip(scene.names.client, scene.names.pod, 63)
    right = right / SCTP(sport=CLIENT_PORT, dport=SERVER_PORT, tag=0) / INIT
    assert outcome.packet != to_pod(right)
    assert len(outcome.packet) == len(to_pod(right))


def test_it_lasts_until_both_have_said_its_end(scene: Scene) -> None:
    begun(scene)
    scene.send(from_pod(scene, SCTPChunkShutdownAck()), Hook.POD_INGRESS)
    assert flags_of(scene) & (ConnectionFlag.FIN_CLIENT | ConnectionFlag.FIN_ENDPOINT) == (
        ConnectionFlag.FIN_ENDPOINT
    )
    scene.send(from_client(scene, POD, SCTPChunkShutdownComplete()))
    assert flags_of(scene) & ConnectionFlag.FIN_CLIENT
    again = scene.send(from_client(scene, POD, INIT, tag=0))
    assert (again.verdict, flags_of(scene)) == (Verdict.REDIRECT, 0)


def test_an_abort_ends_it_at_once(scene: Scene) -> None:
    begun(scene)
    scene.send(from_pod(scene, SCTPChunkAbort()), Hook.POD_INGRESS)
    assert flags_of(scene) & ConnectionFlag.RESET


def refusal(scene: Scene, packet: Packet) -> bytes:
    quoted = Raw(bytes(packet)[: scene.family.header_size + 20])
    error = ICMP(type=3, code=3) if scene.family is IPV4 else ICMPv6DestUnreach(code=4)
    return answer(answer_ip(scene) / error / quoted)


def test_where_nobody_is_an_init_is_refused_by_an_error_with_its_tag(scene: Scene) -> None:
    packet = from_client(scene, EMPTY, INIT, tag=0)
    outcome = scene.send(packet, Hook.POD_INGRESS)
    assert (outcome.verdict, outcome.packet) == (Verdict.REDIRECT, refusal(scene, packet))
    assert outcome.changes.drops == [DropReason.NO_ENDPOINT]


def test_an_association_whose_endpoint_is_gone_is_told(scene: Scene) -> None:
    begun(scene)
    scene.change(POD, generation=2)
    packet = from_client(scene, POD, SCTPChunkData(data=b"more than four"))
    outcome = scene.send(packet)
    assert (outcome.verdict, outcome.packet) == (Verdict.REDIRECT, refusal(scene, packet))
    assert outcome.changes.drops == [DropReason.ENDPOINT_GONE]
    assert scene.tables.connections == {}


@pytest.mark.parametrize("chunk", [SCTPChunkCookieAck(), SCTPChunkAbort() / Raw(bytes(16))])
def test_what_is_too_short_to_quote_and_an_abort_are_not_answered(scene: Scene, chunk: Packet) -> None:
    begun(scene)
    scene.change(POD, generation=2)
    assert_dropped(scene.send(from_client(scene, POD, chunk)), DropReason.ENDPOINT_GONE)


def test_too_big_is_told(scene: Scene) -> None:
    packet = from_client(scene, NARROW, SCTPChunkData(data=bytes(1400)))
    outcome = scene.send(packet)
    mtu = 600 if scene.family is IPV4 else 1280
    error = ICMP(type=3, code=4, nexthopmtu=mtu) if scene.family is IPV4 else ICMPv6PacketTooBig(mtu=mtu)
    quoted = Raw(bytes(packet)[: scene.family.header_size + 20])
    assert outcome.packet == answer(answer_ip(scene) / error / quoted)


def test_segments_are_what_their_sender_knows_to_fit(scene: Scene) -> None:
    """GSO_BY_FRAGS, which is no size."""
    packet = from_client(scene, NARROW, SCTPChunkData(data=bytes(1400)))
    assert scene.send(packet, gso_size=0xFFFF).changes.drops == []


def test_a_fragment_goes_on(scene: Scene) -> None:
    whole = from_client(scene, POD, INIT, tag=0)
    if scene.family is IPV4:
        whole.flags = "MF"
        fragment = whole
    else:
        fragment = scene.ip(scene.names.client, scene.names.vip) / IPv6ExtHdrFragment(m=1) / whole[SCTP]
    outcome = scene.send(fragment)
    assert_next_untouched(outcome, fragment)
    assert outcome.changes.fragments == {}


@pytest.mark.parametrize("missing", [1, 4])
def test_a_cut_header_goes_on(scene: Scene, missing: int) -> None:
    whole = bytes(from_client(scene, POD, SCTPChunkCookieAck()))
    cut = type(scene.ip(scene.names.client, scene.names.vip))(whole[:-missing])
    assert_next_untouched(scene.send(cut), cut)


def test_xdp_leaves_it_to_tc(scene: Scene) -> None:
    scene.send(from_client(scene, REMOTE, INIT, tag=0))
    packet = from_client(scene, REMOTE, SCTPChunkData(data=b"hello"))
    outcome = scene.send(packet, Hook.UPLINK_XDP)
    assert (outcome.verdict, outcome.packet) == (XdpVerdict.PASS, unchanged_macs(packet))


def test_an_error_about_it_finds_its_sender(scene: Scene) -> None:
    """The pod's, about the client's packet; what is quoted keeps its checksum."""
    begun(scene)
    quoted = scene.ip(scene.names.client, scene.names.pod, 63)
    quoted = quoted / SCTP(sport=CLIENT_PORT, dport=SERVER_PORT, tag=PEER_TAG) / SCTPChunkData(data=b"hello")
    error = ICMP(type=3, code=2) if scene.family is IPV4 else ICMPv6DestUnreach(code=1)
    head = scene.ip(scene.names.pod, scene.names.client)
    outcome = scene.send(head / error / Raw(bytes(quoted)), Hook.POD_INGRESS)
    assert outcome.verdict == Verdict.REDIRECT
    at = ETHERNET_SIZE + 2 * scene.family.header_size + 8
    told = SCTP(outcome.packet[at:])
    assert (told.sport, told.dport, told.tag) == (CLIENT_PORT, port_of(POD), PEER_TAG)
    assert told.chksum == SCTP(bytes(quoted[SCTP])).chksum


@pytest.mark.parametrize(("asked", "verdict"), [(True, Verdict.NEXT), (False, Verdict.REDIRECT)])
def test_what_opens_nothing_may_be_the_kernel_s(scene: Scene, asked: bool, verdict: Verdict) -> None:
    """Whose SCTP flows can't be looked up, as UDP's and TCP's are."""
    scene.comparison.track(asked=asked)
    assert scene.send(from_client(scene, POD, SCTPChunkData(data=b"hello"))).verdict == verdict
    assert scene.send(from_client(scene, POD, INIT, tag=0)).verdict == Verdict.REDIRECT
