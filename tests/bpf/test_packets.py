"""Packets written by hand, and what must become of them: docs/packet-path.md but for rules 2 and 3.

Each runs through the kernel and the model; what is expected is written here, its checksums by scapy.
"""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, TCP, UDP, IPOption
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6TimeExceeded,
    IPv6ExtHdrDestOpt,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from blixt_model.family import IPV4
from blixt_model.family import TCP as TCP_NUMBER
from blixt_model.family import UDP as UDP_NUMBER
from blixt_model.scene import (
    EMPTY,
    POD,
    REMOTE,
    ROUTER_MAC,
    SILENT,
    UNREACHABLE,
    Scene,
    answer,
    answer_ip,
    answer_to,
    assert_dropped,
    assert_next_untouched,
    datagram,
    establish,
    port_of,
    syn,
    to_pod,
    to_router,
    unchanged_macs,
)
from blixt_model.tables import DropReason, EndpointFlag
from blixt_model.ways import Hook, Verdict, XdpVerdict

pytestmark = pytest.mark.bpf


# 1. Parse


def test_other_traffic_goes_on(scene: Scene) -> None:
    arp = ARP(psrc="192.0.2.9", pdst="192.0.2.1") / Raw(bytes(20))
    echo = ICMP() if scene.family is IPV4 else ICMPv6EchoRequest()
    for packet in (arp, scene.ip(scene.names.client, scene.names.vip) / echo):
        assert_next_untouched(scene.send(packet), packet)


@pytest.mark.parametrize(("to", "handled"), [(ROUTER_MAC, False), ("ff:ff:ff:ff:ff:ff", True)])
def test_a_frame_for_another_host_goes_on(scene: Scene, to: str, handled: bool) -> None:
    outcome = scene.send(syn(scene, POD), to=to)
    assert (outcome.verdict != Verdict.NEXT) == handled
    assert bool(outcome.changes.embryos) == handled


def test_a_cut_tcp_header_goes_on(scene: Scene) -> None:
    whole = bytes(syn(scene, POD))
    cut = type(syn(scene, POD))(whole[:-1])
    assert_next_untouched(scene.send(cut), cut)


def test_options_and_extension_headers_are_skipped(scene: Scene) -> None:
    def packet(destination: str, port: int, ttl: int) -> Packet:
        transport = TCP(sport=33000, dport=port, flags="S")
        if scene.family is IPV4:
            header = scene.ip(scene.names.client, destination, ttl)
            header.options = [IPOption(b"\x94\x04\0\0")]
            return header / transport
        return scene.ip(scene.names.client, destination, ttl) / IPv6ExtHdrDestOpt() / transport

    outcome = scene.send(packet(scene.names.vip, port_of(POD), 64))
    assert outcome.packet == to_pod(packet(scene.names.pod, 8080, 63))


@pytest.mark.parametrize("ttl", [0, 1])
def test_a_used_up_ttl_is_the_stack_s(scene: Scene, ttl: int) -> None:
    packet = scene.ip(scene.names.client, scene.names.vip, ttl) / TCP(dport=port_of(POD), flags="S")
    assert_next_untouched(scene.send(packet), packet)


# 4. Translation


def test_no_udp_checksum_stays_none(scene: Scene) -> None:
    packet = datagram(scene, POD)
    packet[UDP].chksum = 0
    assert Ether(scene.send(packet).packet)[UDP].chksum == 0


# 5. The way on


def test_an_unknown_neighbour_is_the_kernel_s_to_find(scene: Scene) -> None:
    outcome = scene.send(syn(scene, SILENT))
    assert outcome.verdict == Verdict.REDIRECT
    assert outcome.packet[:12] == unchanged_macs(syn(scene, SILENT))[:12]


def test_where_no_route_leads_the_stack_decides(scene: Scene) -> None:
    outcome = scene.send(syn(scene, UNREACHABLE))
    address = "10.6.0.1" if scene.family is IPV4 else "fd00:6::1"
    expected = scene.ip(scene.names.client, address, 64) / TCP(sport=33000, dport=8080, flags="S")
    assert (outcome.verdict, outcome.packet) == (Verdict.NEXT, unchanged_macs(expected))


def test_the_node_s_own_packet_leaves_by_the_device_it_was_on(scene: Scene) -> None:
    packet = scene.ip(scene.names.node, scene.names.vip) / TCP(sport=1, dport=port_of(REMOTE), flags="S")
    expected = to_router(
        scene.ip(scene.names.node, scene.names.remote, 63) / TCP(sport=1, dport=8080, flags="S")
    )
    outcome = scene.send(packet, Hook.NODE_EGRESS)
    assert (outcome.verdict, outcome.packet) == (Verdict.NEXT, expected)


def test_egress_leaves_alone_what_was_handled_on_its_way_in(scene: Scene) -> None:
    packet = syn(scene, POD)
    assert_next_untouched(scene.send(packet, Hook.NODE_EGRESS, came_in_by="pod0"), packet)
    assert scene.send(packet, Hook.NODE_EGRESS, came_in_by="stranger").verdict == Verdict.REDIRECT


# 6. Answers


def test_refused_udp_is_answered_port_unreachable(scene: Scene) -> None:
    packet = datagram(scene, EMPTY)
    outcome = scene.send(packet, Hook.POD_INGRESS)
    error = ICMP(type=3, code=3) if scene.family is IPV4 else ICMPv6DestUnreach(code=4)
    quoted = Raw(bytes(packet)[: scene.family.header_size + 8])
    assert outcome.packet == answer(answer_ip(scene) / error / quoted)


def test_a_reset_acknowledges_payload_syn_and_fin(scene: Scene) -> None:
    packet = syn(scene, EMPTY, flags="SF", seq=0xFFFFFFFE) / Raw(b"12345")
    reset = Ether(scene.send(packet, Hook.POD_INGRESS).packet)[TCP]
    assert (reset.flags, reset.seq, reset.ack) == ("RA", 0, 5)


def test_a_reset_is_not_answered(scene: Scene) -> None:
    assert_dropped(scene.send(syn(scene, EMPTY, flags="R"), Hook.POD_INGRESS), DropReason.NO_ENDPOINT)


# 7. ICMP errors


@pytest.mark.parametrize("from_router", [False, True])
def test_an_error_about_a_masqueraded_packet_comes_home(scene: Scene, from_router: bool) -> None:
    names = scene.names
    sent = datagram(scene, REMOTE, source_port=40001)
    left = scene.send(sent).packet[14:]
    error: Packet = ICMP(type=11) if scene.family is IPV4 else ICMPv6TimeExceeded()
    source = names.router if from_router else names.remote
    outcome = scene.send(scene.ip(source, names.node) / error / Raw(left))
    sent.hlim = 63  # of IPv6; IPv4's below
    quoted = bytes(sent)
    if scene.family is IPV4:
        quoted = bytes(scene.ip(names.client, names.vip, 63) / sent[UDP])
    shown = names.router if from_router else names.vip
    error = ICMP(type=11) if scene.family is IPV4 else ICMPv6TimeExceeded()
    assert outcome.packet == to_router(scene.ip(shown, names.client, 63) / error / Raw(quoted))


def test_an_error_about_something_else_goes_on(scene: Scene) -> None:
    quoted = Raw(bytes(datagram(scene, POD)))
    error: Packet = ICMP(type=3, code=3) if scene.family is IPV4 else ICMPv6DestUnreach(code=4)
    packet = scene.ip(scene.names.pod, scene.names.client) / error / quoted
    assert_next_untouched(scene.send(packet, Hook.POD_INGRESS), packet)


# 8. XDP


def test_xdp_takes_a_known_flow_that_leaves_by_a_device(scene: Scene) -> None:
    establish(scene, REMOTE, UDP_NUMBER, 40001)
    outcome = scene.send(datagram(scene, REMOTE, source_port=40001), Hook.UPLINK_XDP)
    expected = scene.ip(scene.names.node, scene.names.remote, 63) / UDP(sport=40001, dport=8080)
    assert (outcome.verdict, outcome.packet) == (XdpVerdict.TX, to_router(expected / Raw(b"hello")))


def test_xdp_leaves_udp_to_a_silent_endpoint_to_tc(scene: Scene) -> None:
    establish(scene, REMOTE, UDP_NUMBER, 40001)
    establish(scene, REMOTE, TCP_NUMBER)
    scene.change(REMOTE, flags=EndpointFlag.LIVE | EndpointFlag.SILENT)
    outcome = scene.send(datagram(scene, REMOTE, source_port=40001), Hook.UPLINK_XDP)
    assert outcome.verdict == XdpVerdict.PASS
    assert scene.send(syn(scene, REMOTE, flags="A"), Hook.UPLINK_XDP).verdict == XdpVerdict.TX


def test_xdp_leaves_the_rest_to_tc(scene: Scene) -> None:
    unknown = syn(scene, REMOTE, flags="A")
    assert scene.send(unknown, Hook.UPLINK_XDP).verdict == XdpVerdict.PASS
    opened = scene.send(syn(scene, REMOTE))
    assert scene.send(unknown, Hook.UPLINK_XDP).verdict == XdpVerdict.PASS
    answer_to(scene, opened)
    scene.send(unknown)
    assert scene.send(syn(scene, REMOTE, flags="A"), Hook.UPLINK_XDP).verdict == XdpVerdict.TX
    assert scene.send(syn(scene, REMOTE, flags="FA"), Hook.UPLINK_XDP).verdict == XdpVerdict.PASS
    scene.comparison.age(1)
    assert scene.send(syn(scene, REMOTE, flags="A"), Hook.UPLINK_XDP).verdict == XdpVerdict.PASS
