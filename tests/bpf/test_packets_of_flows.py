"""Packets written by hand, and what must become of them: flows, rules 2 and 3 of docs/packet-path.md.

Each runs through the kernel and the model; what is expected is written here, its checksums by scapy.
"""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6PacketTooBig,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from blixt_model.family import IPV4
from blixt_model.family import TCP as TCP_NUMBER
from blixt_model.family import UDP as UDP_NUMBER
from blixt_model.scene import (
    EMPTY,
    NARROW,
    POD,
    REJECTING,
    REMOTE,
    Scene,
    answer,
    answer_ip,
    assert_dropped,
    assert_next_untouched,
    datagram,
    establish,
    flow_of,
    port_of,
    syn,
    to_pod,
    to_router,
    unchanged_macs,
)
from blixt_model.tables import ConnectionFlag, Counters, DropReason, EndpointFlag, Slot
from blixt_model.ways import Hook, Verdict

pytestmark = pytest.mark.bpf


# 2. A known flow


def test_a_reply_is_translated_back(scene: Scene) -> None:
    scene.send(syn(scene, POD))
    reply = TCP(sport=8080, dport=33000, flags="SA", seq=5, ack=1)
    outcome = scene.send(scene.ip(scene.names.pod, scene.names.client) / reply, Hook.POD_INGRESS)
    expected = TCP(sport=port_of(POD), dport=33000, flags="SA", seq=5, ack=1)
    assert outcome.verdict == Verdict.REDIRECT
    assert outcome.packet == to_router(scene.ip(scene.names.vip, scene.names.client, 63) / expected)


def test_both_directions_are_counted(scene: Scene) -> None:
    scene.send(datagram(scene, POD))
    reply = scene.ip(scene.names.pod, scene.names.client) / UDP(sport=8080, dport=33000) / Raw(b"hi")
    scene.send(reply, Hook.POD_INGRESS)
    header = scene.family.header_size
    expected = Counters(
        connections=1, packets_in=1, bytes_in=header + 13, packets_out=1, bytes_out=header + 10
    )
    assert scene.tables.counters == {POD: expected}


def test_an_endpoint_that_is_gone_resets_tcp(scene: Scene) -> None:
    establish(scene, POD, TCP_NUMBER)
    scene.change(POD, generation=2)
    outcome = scene.send(syn(scene, POD, flags="PA", seq=7, ack=99))
    reset = TCP(sport=port_of(POD), dport=33000, flags="R", seq=99, window=0)
    assert outcome.changes.drops == [DropReason.ENDPOINT_GONE]
    assert outcome.packet == answer(answer_ip(scene) / reset)
    assert not scene.tables.connections


def test_udp_moves_when_its_endpoint_is_gone(scene: Scene) -> None:
    establish(scene, POD, UDP_NUMBER)
    scene.change(POD, generation=2)
    outcome = scene.send(datagram(scene, POD))
    (moved,) = scene.tables.embryos.values()
    assert (outcome.verdict, moved.generation, moved.packets) == (Verdict.REDIRECT, 2, 1)


@pytest.mark.parametrize(("ticks", "packets"), [(120, 3), (121, 1)])
def test_udp_begins_anew_after_120_ticks(scene: Scene, ticks: int, packets: int) -> None:
    establish(scene, POD, UDP_NUMBER)
    scene.comparison.age(ticks)
    scene.send(datagram(scene, POD))
    assert scene.tables.connections[flow_of(scene, POD, 17)].packets == packets


def test_a_draining_endpoint_keeps_its_connections(scene: Scene) -> None:
    establish(scene, POD, TCP_NUMBER)
    scene.change(POD, flags=EndpointFlag.LIVE | EndpointFlag.LOCAL | EndpointFlag.DRAINING)
    outcome = scene.send(syn(scene, POD, flags="A"))
    assert outcome.verdict == Verdict.REDIRECT
    assert scene.tables.connections[flow_of(scene, POD, 6)].packets == 3


_LOCAL_AND_SILENT = EndpointFlag.LIVE | EndpointFlag.LOCAL | EndpointFlag.SILENT


@pytest.mark.parametrize("more", [0, EndpointFlag.DRAINING], ids=["silent", "and draining"])
def test_tcp_to_a_silent_endpoint_goes_on(scene: Scene, more: int) -> None:
    establish(scene, POD, TCP_NUMBER)
    scene.change(POD, flags=_LOCAL_AND_SILENT | more)
    scene.comparison.change_slot(POD, Slot(0xFFFFFFFF, REMOTE, REMOTE))
    outcome = scene.send(syn(scene, POD, flags="A"))
    expected = TCP(sport=33000, dport=8080, flags="A")
    assert outcome.packet == to_pod(scene.ip(scene.names.client, scene.names.pod, 63) / expected)
    assert scene.tables.connections[flow_of(scene, POD, 6)].packets == 3


@pytest.mark.parametrize("more", [0, EndpointFlag.DRAINING], ids=["silent", "and draining"])
def test_udp_leaves_a_silent_endpoint(scene: Scene, more: int) -> None:
    establish(scene, POD, UDP_NUMBER, 40001)
    scene.change(POD, flags=_LOCAL_AND_SILENT | more)
    scene.comparison.change_slot(POD, Slot(0xFFFFFFFF, REMOTE, REMOTE))
    outcome = scene.send(datagram(scene, POD, source_port=40001))
    expected = UDP(sport=40001, dport=8080) / Raw(b"hello")
    assert outcome.packet == to_router(scene.ip(scene.names.node, scene.names.remote, 63) / expected)
    assert (len(scene.tables.connections), len(scene.tables.embryos)) == (0, 1)


def test_udp_stays_with_an_endpoint_that_only_drains(scene: Scene) -> None:
    establish(scene, POD, UDP_NUMBER)
    scene.change(POD, flags=EndpointFlag.LIVE | EndpointFlag.LOCAL | EndpointFlag.DRAINING)
    scene.send(datagram(scene, POD))
    assert scene.tables.connections[flow_of(scene, POD, 17)].packets == 3


def test_a_syn_after_both_fins_begins_anew(scene: Scene) -> None:
    establish(scene, POD, TCP_NUMBER)
    scene.send(syn(scene, POD, flags="FA"))
    closing = TCP(sport=8080, dport=33000, flags="FA")
    scene.send(scene.ip(scene.names.pod, scene.names.client) / closing, Hook.POD_INGRESS)
    both = ConnectionFlag.FIN_CLIENT | ConnectionFlag.FIN_ENDPOINT
    assert scene.tables.connections[flow_of(scene, POD, 6)].flags == both
    scene.send(syn(scene, POD))
    assert scene.tables.connections[flow_of(scene, POD, 6)].flags == 0


def close(scene: Scene, source_port: int, ending: str) -> None:
    """Whichever ends it, a connection to the pod is over."""
    answer = TCP(sport=8080, dport=source_port, flags="RA" if ending == "pod's RST" else "FA")
    if ending == "FINs":
        scene.send(syn(scene, POD, source_port, flags="FA"))
    if ending == "client's RST":
        scene.send(syn(scene, POD, source_port, flags="R"))
    else:
        scene.send(scene.ip(scene.names.pod, scene.names.client) / answer, Hook.POD_INGRESS)


@pytest.mark.parametrize(
    ("ending", "ticks", "goes"),
    [("FINs", 3, True), ("FINs", 2, False), ("pod's RST", 3, True), ("client's RST", 3, False)],
)
def test_a_closed_connection_makes_room_for_one_that_closes_later(
    scene: Scene, ending: str, ticks: int, goes: bool
) -> None:
    """There are two places for closed ones."""
    for port in (33001, 33002, 33003):
        establish(scene, POD, TCP_NUMBER, port)
    close(scene, 33001, ending)
    scene.comparison.age(ticks)
    close(scene, 33002, "FINs")
    assert len(scene.tables.connections) == 6
    close(scene, 33003, "FINs")
    assert len(scene.tables.connections) == (4 if goes else 6)


def test_a_closed_connection_that_is_used_again_stays(scene: Scene) -> None:
    for port in (33001, 33002, 33003):
        establish(scene, POD, TCP_NUMBER, port)
    close(scene, 33001, "FINs")
    scene.comparison.age(3)
    scene.send(syn(scene, POD, 33001))
    for port in (33002, 33003):
        close(scene, port, "FINs")
    assert len(scene.tables.connections) == 6


def test_a_closed_connection_with_late_packets_stays(scene: Scene) -> None:
    for port in (33001, 33002, 33003):
        establish(scene, POD, TCP_NUMBER, port)
    close(scene, 33001, "FINs")
    scene.comparison.age(3)
    scene.send(syn(scene, POD, 33001, flags="A"))
    for port in (33002, 33003):
        close(scene, port, "FINs")
    assert len(scene.tables.connections) == 6


def test_an_evicted_partner_is_put_back_in_the_next_tick(scene: Scene) -> None:
    establish(scene, POD, TCP_NUMBER)
    (partner,) = [flow for flow, entry in scene.tables.connections.items() if entry.is_reply]
    scene.comparison.evict(partner)
    scene.send(syn(scene, POD, flags="A"))
    assert partner not in scene.tables.connections
    scene.comparison.age(1)
    scene.send(syn(scene, POD, flags="A"))
    assert scene.tables.connections[partner].is_reply


def test_too_big_is_answered_with_the_mtu(scene: Scene) -> None:
    payload = bytes(1400)
    packet = datagram(scene, NARROW, payload=payload)
    if scene.family is IPV4:
        packet.flags = "DF"
        error: Packet = ICMP(type=3, code=4, nexthopmtu=600)
    else:
        error = ICMPv6PacketTooBig(mtu=1280)
    outcome = scene.send(packet)
    quoted = Raw(bytes(packet)[: scene.family.header_size + 8])
    assert outcome.changes.drops == [DropReason.TOO_BIG]
    assert outcome.packet == answer(answer_ip(scene) / error / quoted)


def test_too_big_to_begin_anew_is_answered_like_any_packet(scene: Scene) -> None:
    establish(scene, NARROW, TCP_NUMBER)
    scene.send(syn(scene, NARROW, flags="R"))
    packet = syn(scene, NARROW) / Raw(bytes(1400))
    if scene.family is IPV4:
        packet.flags = "DF"
    assert scene.send(packet).changes.drops == [DropReason.TOO_BIG]
    entry = scene.tables.connections[flow_of(scene, NARROW, TCP_NUMBER)]
    assert (entry.flags, entry.packets) == (0, 0)


def test_too_big_without_df_is_the_stack_s_to_cut(scene: Scene) -> None:
    """In IPv4; IPv6 routers cut nothing."""
    outcome = scene.send(datagram(scene, NARROW, payload=bytes(1300)))
    if scene.family is not IPV4:
        assert outcome.changes.drops == [DropReason.TOO_BIG]
        return
    expected = scene.ip(scene.names.client, "10.4.0.1") / UDP(sport=33000, dport=8080) / Raw(bytes(1300))
    assert (outcome.verdict, outcome.packet) == (Verdict.NEXT, unchanged_macs(expected))


def test_segments_of_a_gso_packet_need_to_fit_only(scene: Scene) -> None:
    mtu = 600 if scene.family is IPV4 else 1280
    headers = scene.family.header_size + 20
    for size, verdict in ((mtu - headers, []), (mtu - headers + 1, [DropReason.TOO_BIG])):
        packet = syn(scene, NARROW, flags="A") / Raw(bytes(2800))
        if scene.family is IPV4:
            packet.flags = "DF"
        assert scene.send(packet, gso_size=size).changes.drops == verdict


# 3. A new flow


def test_a_new_flow_to_a_pod_of_this_node(scene: Scene) -> None:
    outcome = scene.send(syn(scene, POD, seq=1))
    expected = TCP(sport=33000, dport=8080, flags="S", seq=1)
    assert outcome.verdict == Verdict.REDIRECT
    assert outcome.packet == to_pod(scene.ip(scene.names.client, scene.names.pod, 63) / expected)
    assert (len(scene.tables.connections), len(scene.tables.embryos)) == (0, 1)


def test_what_is_no_service_goes_on(scene: Scene) -> None:
    packet = scene.ip(scene.names.client, scene.names.vip) / TCP(dport=9, flags="S")
    assert_next_untouched(scene.send(packet), packet)


def test_a_remote_endpoint_sees_the_node(scene: Scene) -> None:
    outcome = scene.send(datagram(scene, REMOTE, source_port=40001))
    expected = UDP(sport=40001, dport=8080) / Raw(b"hello")
    assert outcome.packet == to_router(scene.ip(scene.names.node, scene.names.remote, 63) / expected)
    reply = scene.ip(scene.names.remote, scene.names.node) / UDP(sport=8080, dport=40001) / Raw(b"hi")
    back = scene.ip(scene.names.vip, scene.names.client, 63) / UDP(sport=port_of(REMOTE), dport=40001)
    assert scene.send(reply).packet == to_router(back / Raw(b"hi"))


def test_a_pod_s_own_remote_connection_keeps_its_address(scene: Scene) -> None:
    packet = scene.ip(scene.names.pod, scene.names.vip) / TCP(sport=1, dport=port_of(REMOTE), flags="S")
    outcome = scene.send(packet, Hook.POD_INGRESS)
    expected = TCP(sport=1, dport=8080, flags="S")
    assert outcome.packet == to_router(scene.ip(scene.names.pod, scene.names.remote, 63) / expected)


def test_a_pod_reaches_itself_through_its_service(scene: Scene) -> None:
    packet = scene.ip(scene.names.pod, scene.names.vip) / TCP(sport=40002, dport=port_of(POD), flags="S")
    outcome = scene.send(packet, Hook.POD_INGRESS)
    expected = TCP(sport=40002, dport=8080, flags="S")
    assert outcome.packet == to_pod(scene.ip(scene.names.node, scene.names.pod, 63) / expected)


def test_masquerade_ports_collide_and_run_out(scene: Scene) -> None:
    """There are three ports, and more flows that all want the same one."""
    outcomes = []
    for client in range(1, 20):
        address = scene.names.client[:-1] + str(client)
        packet = scene.ip(address, scene.names.vip) / UDP(sport=40001, dport=port_of(REMOTE))
        outcomes.append(scene.send(packet))
    ports = [Ether(sent.packet)[UDP].sport for sent in outcomes if sent.verdict == Verdict.REDIRECT]
    assert sorted(ports) == [40000, 40001, 40002]
    assert_dropped(outcomes[-1], DropReason.PORTS_EXHAUSTED)


def test_a_service_without_endpoints_refuses_or_drops(scene: Scene) -> None:
    assert_dropped(scene.send(syn(scene, EMPTY)), DropReason.POLICY_LOCAL)
    outcome = scene.send(syn(scene, EMPTY, seq=9), Hook.POD_INGRESS)
    reset = TCP(sport=port_of(EMPTY), dport=33000, flags="RA", seq=0, ack=10, window=0)
    assert outcome.changes.drops == [DropReason.NO_ENDPOINT]
    assert outcome.packet == answer(answer_ip(scene) / reset)
    assert scene.tables.counters[EMPTY].refused == 1


def test_the_reject_share_is_silent_for_udp(scene: Scene) -> None:
    assert_dropped(scene.send(datagram(scene, REJECTING)), DropReason.REJECT_SHARE)
    outcome = scene.send(syn(scene, REJECTING))
    assert (outcome.verdict, outcome.changes.drops) == (Verdict.REDIRECT, [DropReason.REJECT_SHARE])


def test_only_source_ranges_may_come_in(scene: Scene) -> None:
    packet = scene.ip(scene.names.other_client, scene.names.vip) / TCP(dport=port_of(REJECTING), flags="S")
    assert_dropped(scene.send(packet), DropReason.SOURCE_RANGE)
    assert scene.send(packet, Hook.POD_INGRESS).changes.drops == [DropReason.REJECT_SHARE]


def test_without_an_address_there_is_no_masquerade(scene: Scene) -> None:
    packet = scene.ip(scene.names.pod, scene.names.vip) / UDP(dport=port_of(POD))
    tables = scene.tables
    tables.devices.clear()
    scene.comparison.begin(tables)
    assert_dropped(scene.send(packet, Hook.POD_INGRESS), DropReason.NO_MASQUERADE_ADDRESS)
