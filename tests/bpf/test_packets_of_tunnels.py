"""Packets written by hand, and what must become of them: tunnels, rules 13 to 15."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6PacketTooBig, ICMPv6TimeExceeded, IPv6
from scapy.packet import Packet, Padding, Raw

from blixt_model.family import IPV4
from blixt_model.network import packed
from blixt_model.scene import (
    POD,
    REMOTE,
    SILENT,
    UNREACHABLE,
    Scene,
    answer_ip,
    assert_dropped,
    assert_next_untouched,
    datagram,
    port_of,
    syn,
    to_pod,
    to_router,
)
from blixt_model.tables import Arrival, ConnectionFlag, DropReason, EndpointFlag, NodeRange, Opening, Slot
from blixt_model.ways import Hook, Outcome, Verdict

pytestmark = pytest.mark.bpf

LIVE, LOCAL, TUNNELLED = EndpointFlag.LIVE, EndpointFlag.LOCAL, EndpointFlag.TUNNELLED
OTHER_NODE = {4: "10.2.0.7", 6: "fd00:2::7"}


@pytest.fixture(autouse=True)
def tunnels(scene: Scene) -> None:
    """Endpoints that aren't on this node are reached by tunnels; the pod is reached by others' tunnels."""
    for endpoint in (REMOTE, SILENT, UNREACHABLE):
        scene.change(endpoint, flags=LIVE | TUNNELLED)
    scene.comparison.arrive({Arrival(POD, packed(scene.names.pod)): POD})
    scene.comparison.know_nodes(node_range(scene))


def node_range(scene: Scene) -> NodeRange:
    """Where the other node is from."""
    return NodeRange(*{4: (24, packed("10.2.0.0")), 6: (64, packed("fd00:2::"))}[scene.family.version])


def outer(scene: Scene, source: str, destination: str, traffic_class: int = 0) -> Packet:
    if scene.family is IPV4:
        return IP(src=source, dst=destination, ttl=64, id=0, flags="DF", proto=4, tos=traffic_class)
    return IPv6(src=source, dst=destination, hlim=64, nh=41, tc=traffic_class)


def too_big(scene: Scene, source: str, destination: str, ttl: int, mtu: int) -> Packet:
    """The headers of such an error; one that this node makes is not to be cut to pieces."""
    if scene.family is IPV4:
        own = {"id": 0, "flags": "DF"} if ttl == 64 else {}
        return ip4(source, destination, ttl, **own) / ICMP(type=3, code=4, nexthopmtu=mtu)
    return scene.ip(source, destination, ttl) / ICMPv6PacketTooBig(mtu=mtu)


def ip4(source: str, destination: str, ttl: int, **more: Any) -> Packet:
    return IP(src=source, dst=destination, ttl=ttl, **more)


def in_tunnel(scene: Scene, packet: Packet) -> bytes:
    return to_router(outer(scene, scene.names.node, scene.names.remote) / packet)


def arriving(scene: Scene, packet: Packet, end: str = "") -> Packet:
    return outer(scene, OTHER_NODE[scene.family.version], end or scene.names.pod) / packet


# 13. Into a tunnel


@pytest.mark.parametrize("make", [syn, datagram])
def test_a_packet_goes_on_as_it_is(scene: Scene, make: type) -> None:
    packet = make(scene, REMOTE)
    outcome = scene.send(packet)
    assert (outcome.verdict, outcome.packet) == (Verdict.REDIRECT, in_tunnel(scene, packet))
    (embryo,) = scene.tables.embryos.values()
    assert embryo.flags & ConnectionFlag.TUNNELLED


def test_a_class_of_traffic_goes_with_the_tunnel_and_ecn_stays_inside(scene: Scene) -> None:
    packet = datagram(scene, REMOTE)
    if scene.family is IPV4:
        packet.tos = 0xBB
    else:
        packet.tc = 0xBB
    head = outer(scene, scene.names.node, scene.names.remote, 0xB8)
    assert scene.send(packet).packet == to_router(head / packet)


def test_a_short_frame_s_padding_is_not_in_the_tunnel_s_length(scene: Scene) -> None:
    packet = datagram(scene, REMOTE, payload=b"")
    expected = outer(scene, scene.names.node, scene.names.remote) / packet
    assert scene.send(packet / Padding(bytes(6))).packet == to_router(expected) + bytes(6)


def test_the_client_s_next_packet_makes_a_connection_of_one_entry(scene: Scene) -> None:
    scene.send(syn(scene, REMOTE))
    outcome = scene.send(syn(scene, REMOTE, flags="A"))
    assert outcome.packet == in_tunnel(scene, syn(scene, REMOTE, flags="A"))
    (entry,) = scene.tables.connections.values()
    assert entry.becomes.source == packed(scene.names.node)
    assert entry.becomes.destination == packed(scene.names.remote)
    assert entry.flags & ConnectionFlag.TUNNELLED
    scene.comparison.age(1)
    assert scene.send(syn(scene, REMOTE, flags="A")).packet == outcome.packet
    assert len(scene.tables.connections) == 1


def test_a_first_packet_that_opens_nothing_makes_no_connection_yet(scene: Scene) -> None:
    scene.send(syn(scene, REMOTE, flags="A"))
    assert not scene.tables.connections


@pytest.mark.parametrize("flags", ["FA", "RA"])
def test_the_client_ends_it(scene: Scene, flags: str) -> None:
    for each in ("S", "A", flags):
        scene.send(syn(scene, REMOTE, flags=each))
    assert scene.send(syn(scene, REMOTE, flags="A")).verdict == Verdict.REDIRECT, "it still reads what comes"
    scene.send(syn(scene, REMOTE))
    assert not scene.tables.connections
    assert len(scene.tables.embryos) == 1, "it begins anew"


def test_an_endpoint_that_is_gone_resets(scene: Scene) -> None:
    for flags in ("S", "A"):
        scene.send(syn(scene, REMOTE, flags=flags))
    scene.change(REMOTE, generation=2, flags=LIVE | TUNNELLED)
    assert scene.send(syn(scene, REMOTE, flags="A", ack=9)).changes.drops == [DropReason.ENDPOINT_GONE]


@pytest.mark.parametrize("make", [syn, datagram])
def test_what_does_not_fit_with_the_tunnel_s_header_is_told(scene: Scene, make: type) -> None:
    header = scene.family.header_size
    transport = 20 if make is syn else 8
    fits = make(scene, REMOTE) / Raw(bytes(1500 - 2 * header - transport - (5 if make is datagram else 0)))
    outcome = scene.send(fits)
    assert outcome.packet == in_tunnel(scene, fits)
    outcome = scene.send(fits / Raw(b"x"))
    assert outcome.changes.drops == [DropReason.TOO_BIG]
    told = 14 + header + 4
    assert int.from_bytes(outcome.packet[told : told + 4], "big") == 1500 - header


def test_pods_need_no_tunnel(scene: Scene) -> None:
    head = scene.ip(scene.names.other_pod, scene.names.vip)
    packet = head / UDP(sport=5, dport=port_of(REMOTE)) / Raw(b"x")
    expected = scene.ip(scene.names.other_pod, scene.names.remote, 63) / UDP(sport=5, dport=8080) / Raw(b"x")
    assert scene.send(packet, Hook.POD_INGRESS).packet == to_router(expected)


def test_a_neighbour_that_is_not_known_is_the_kernel_s_to_find(scene: Scene) -> None:
    outcome = scene.send(datagram(scene, SILENT))
    assert outcome.verdict == Verdict.REDIRECT
    assert len(outcome.packet) == len(bytes(datagram(scene, SILENT))) + 14 + scene.family.header_size


def test_without_a_way_nothing_is_put_in_a_tunnel(scene: Scene) -> None:
    assert_dropped(scene.send(syn(scene, UNREACHABLE)), DropReason.NO_WAY)


def test_a_flow_goes_on_as_it_began_when_the_forwarding_changes(scene: Scene) -> None:
    for flags in ("S", "A"):
        scene.send(syn(scene, REMOTE, flags=flags))
    scene.change(REMOTE, flags=LIVE)
    assert scene.send(syn(scene, REMOTE, flags="A")).packet == in_tunnel(scene, syn(scene, REMOTE, flags="A"))
    masqueraded = scene.send(syn(scene, REMOTE, 33001))
    assert len(masqueraded.packet) == len(bytes(syn(scene, REMOTE))) + 14


def test_an_endpoint_s_own_packets_are_no_answers_of_a_tunnelled_flow(scene: Scene) -> None:
    scene.send(datagram(scene, REMOTE))
    own = scene.ip(scene.names.remote, scene.names.client) / UDP(sport=8080, dport=33000) / Raw(b"own")
    assert_next_untouched(scene.send(own), own)


# 14. Out of a tunnel


def expect_delivered(scene: Scene, outcome: Outcome, transport: Packet) -> None:
    expected = to_pod(scene.ip(scene.names.client, scene.names.pod, 63) / transport)
    assert (outcome.verdict, outcome.packet) == (Verdict.REDIRECT, expected)


def test_what_another_node_has_sent_is_delivered_and_answered_directly(scene: Scene) -> None:
    outcome = scene.send(arriving(scene, syn(scene, POD)))
    expect_delivered(scene, outcome, TCP(sport=33000, dport=8080, flags="S", seq=0))
    reply = TCP(sport=8080, dport=33000, flags="SA", seq=5, ack=1)
    outcome = scene.send(scene.ip(scene.names.pod, scene.names.client) / reply, Hook.POD_INGRESS)
    expected = TCP(sport=port_of(POD), dport=33000, flags="SA", seq=5, ack=1)
    assert outcome.packet == to_router(scene.ip(scene.names.vip, scene.names.client, 63) / expected)
    outcome = scene.send(arriving(scene, syn(scene, POD, flags="A", ack=6)))
    expect_delivered(scene, outcome, TCP(sport=33000, dport=8080, flags="A", seq=0, ack=6))
    assert len(scene.tables.connections) == 2


def test_nobody_chooses_again(scene: Scene) -> None:
    """The service would lead elsewhere, or refuse, or drop: the other node has decided."""
    scene.comparison.change_slot(POD, Slot())
    outcome = scene.send(arriving(scene, datagram(scene, POD)))
    expect_delivered(scene, outcome, UDP(sport=33000, dport=8080) / Raw(b"hello"))


def test_only_an_endpoint_of_the_very_service_is_a_tunnel_s_end(scene: Scene) -> None:
    for packet in (
        arriving(scene, datagram(scene, REMOTE)),
        arriving(scene, datagram(scene, POD), end=scene.names.other_pod),
        arriving(scene, scene.ip(scene.names.client, scene.names.pod) / UDP(sport=9, dport=9)),
    ):
        assert_next_untouched(scene.send(packet), packet)
    for hook in (Hook.POD_INGRESS, Hook.NODE_EGRESS):
        packet = arriving(scene, datagram(scene, POD))
        assert_next_untouched(scene.send(packet, hook), packet)


@pytest.mark.parametrize("opening", [Opening.STARTS, Opening.NOTHING])
def test_what_is_another_version_s_stays_in_its_tunnel(scene: Scene, opening: Opening) -> None:
    scene.send(arriving(scene, datagram(scene, POD)))
    scene.comparison.set_opening(opening)
    other = arriving(scene, datagram(scene, POD, 33001))
    assert_next_untouched(scene.send(other), other)
    known = scene.send(arriving(scene, datagram(scene, POD)))
    expect_delivered(scene, known, UDP(sport=33000, dport=8080) / Raw(b"hello"))
    start = arriving(scene, syn(scene, POD))
    outcome = scene.send(start)
    if opening is Opening.NOTHING:
        assert_next_untouched(outcome, start)
    else:
        expect_delivered(scene, outcome, TCP(sport=33000, dport=8080, flags="S", seq=0))


def test_nobody_but_nodes_sends_tunnels(scene: Scene) -> None:
    packet = arriving(scene, datagram(scene, POD))
    other = NodeRange(scene.family.address_size * 8, packed(scene.names.client))
    for ranges in ((), (other,)):
        scene.comparison.know_nodes(*ranges)
        assert_dropped(scene.send(packet), DropReason.NO_NODE)
        elsewhere = arriving(scene, datagram(scene, POD), end=scene.names.other_pod)
        assert_next_untouched(scene.send(elsewhere), elsewhere)  # somebody else's tunnel
    scene.comparison.know_nodes(other, node_range(scene))
    expect_delivered(scene, scene.send(packet), UDP(sport=33000, dport=8080) / Raw(b"hello"))


def test_a_connection_whose_endpoint_left_is_reset_directly(scene: Scene) -> None:
    scene.send(arriving(scene, syn(scene, POD)))
    reply = TCP(sport=8080, dport=33000, flags="SA", seq=5, ack=1)
    scene.send(scene.ip(scene.names.pod, scene.names.client) / reply, Hook.POD_INGRESS)
    scene.send(arriving(scene, syn(scene, POD, flags="A", ack=6)))
    scene.change(POD, generation=2, flags=0)
    scene.comparison.arrive({})
    outcome = scene.send(arriving(scene, syn(scene, POD, flags="A", ack=6)))
    assert outcome.changes.drops == [DropReason.ENDPOINT_GONE]
    reset = TCP(sport=port_of(POD), dport=33000, flags="R", seq=6, window=0)
    assert (outcome.verdict, outcome.packet) == (Verdict.REDIRECT, to_router(answer_ip(scene) / reset))


def test_packets_do_not_go_in_circles(scene: Scene) -> None:
    """This node has sent the flow on before; now another one sends it here."""
    scene.send(datagram(scene, REMOTE))
    scene.comparison.arrive({Arrival(REMOTE, packed(scene.names.pod)): POD})
    outcome = scene.send(arriving(scene, datagram(scene, REMOTE)))
    expect_delivered(scene, outcome, UDP(sport=33000, dport=8080) / Raw(b"hello"))


# 15. ICMP errors


def test_too_big_for_the_tunnel_s_way_is_told_to_the_client(scene: Scene) -> None:
    packet = syn(scene, REMOTE) / Raw(bytes(64))
    sent = scene.send(packet)
    quoted = Raw(sent.packet[14:])
    router, header = OTHER_NODE[scene.family.version], scene.family.header_size
    error = too_big(scene, router, scene.names.node, 60, 1400) / quoted
    expected = too_big(scene, router, scene.names.client, 64, 1400 - header) / Raw(bytes(packet))
    outcome = scene.send(error)
    assert (outcome.verdict, outcome.packet) == (Verdict.REDIRECT, to_router(expected))


def test_other_errors_of_the_tunnel_s_way_are_the_stack_s(scene: Scene) -> None:
    quoted = Raw(scene.send(syn(scene, REMOTE)).packet[14:])
    router, node = OTHER_NODE[scene.family.version], scene.names.node
    message = ICMP(type=11, code=0) if scene.family is IPV4 else ICMPv6TimeExceeded()
    error = scene.ip(router, node, 60) / message / quoted
    assert_next_untouched(scene.send(error), error)


def test_an_error_about_an_answer_goes_on_to_the_endpoint_s_node(scene: Scene) -> None:
    scene.send(syn(scene, REMOTE))
    answer = scene.ip(scene.names.vip, scene.names.client, 50)
    answer = answer / TCP(sport=port_of(REMOTE), dport=33000, flags="SA") / Raw(bytes(30))
    router, vip = OTHER_NODE[scene.family.version], scene.names.vip
    error = too_big(scene, router, vip, 60, 1400) / Raw(bytes(answer))
    assert scene.send(error).packet == in_tunnel(scene, error)


def test_and_is_that_node_s_to_translate(scene: Scene) -> None:
    scene.send(arriving(scene, syn(scene, POD)))
    answer = scene.ip(scene.names.vip, scene.names.client, 50)
    answer = answer / TCP(sport=port_of(POD), dport=33000, flags="SA") / Raw(bytes(30))
    router, vip = OTHER_NODE[scene.family.version], scene.names.vip
    translated = scene.ip(scene.names.pod, scene.names.client, 50)
    translated = translated / TCP(sport=8080, dport=33000, flags="SA") / Raw(bytes(30))
    error = too_big(scene, router, vip, 60, 1400)
    expected = too_big(scene, router, scene.names.pod, 59, 1400)
    outcome = scene.send(arriving(scene, error / Raw(bytes(answer))))
    assert outcome.packet == to_pod(expected / Raw(bytes(translated)))
