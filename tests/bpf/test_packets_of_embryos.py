"""Packets written by hand, and what must become of them: flows that are no connections yet, rules 3.9 to
3.11 of docs/packet-path.md.

Each runs through the kernel and the model; what is expected is written here, its checksums by scapy.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from scapy.layers.inet import ICMP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from blixt_model.embryos import EMBRYO_PACKETS, EMBRYO_TICKS
from blixt_model.family import IPV4
from blixt_model.family import TCP as TCP_NUMBER
from blixt_model.family import UDP as UDP_NUMBER
from blixt_model.scene import (
    ALSO_POD,
    POD,
    REMOTE,
    Scene,
    answer_to,
    assert_dropped,
    datagram,
    establish,
    flow_of,
    opening,
    port_of,
    syn,
    to_pod,
    to_router,
)
from blixt_model.tables import Counters, DropReason, Embryo, EndpointFlag, Slot
from blixt_model.ways import Hook, Outcome, Verdict

pytestmark = pytest.mark.bpf

BOTH = pytest.mark.parametrize("protocol", [TCP_NUMBER, UDP_NUMBER], ids=["TCP", "UDP"])
#: The ports to masquerade to, of the tests' settings.
PORTS = (40000, 40001, 40002)


def counts(scene: Scene) -> tuple[int, int]:
    """Entries of connections, and flows that are none yet."""
    return len(scene.tables.connections), len(scene.tables.embryos)


def the_only(scene: Scene) -> Embryo:
    (embryo,) = scene.tables.embryos.values()
    return embryo


def port_left_with(outcome: Outcome) -> int:
    assert outcome.verdict == Verdict.REDIRECT
    port: int = Ether(outcome.packet).sport
    return port


def turned(scene: Scene, service: int) -> None:
    """The service's slots lead to the remote endpoint from now on."""
    scene.comparison.change_slot(service, Slot(0xFFFFFFFF, REMOTE, REMOTE))


# When a flow becomes a connection


@BOTH
@pytest.mark.parametrize("service", [POD, REMOTE], ids=["pod", "masqueraded"])
def test_a_flow_is_a_connection_when_its_client_sends_on_after_an_answer(
    scene: Scene, protocol: int, service: int
) -> None:
    opened = scene.send(opening(scene, service, protocol, 40001))
    assert counts(scene) == (0, 1)
    answered = answer_to(scene, opened)
    assert counts(scene) == (0, 1)
    head = scene.ip(scene.names.vip, scene.names.client, 63)
    if protocol == TCP_NUMBER:
        answer: Packet = TCP(sport=port_of(service), dport=40001, flags="SA", seq=5, ack=1)
    else:
        answer = UDP(sport=port_of(service), dport=40001) / Raw(b"hi")
    assert answered.packet == to_router(head / answer)
    going_on = (
        syn(scene, service, 40001, flags="A") if protocol == TCP_NUMBER else datagram(scene, service, 40001)
    )
    sent = scene.send(going_on)
    assert (counts(scene), sent.verdict) == ((2, 0), Verdict.REDIRECT)
    client_s = scene.tables.connections[flow_of(scene, service, protocol, 40001)]
    (endpoint_s,) = (entry for entry in scene.tables.connections.values() if entry.is_reply)
    assert (client_s.packets, endpoint_s.packets) == (2, 1)
    counted = scene.tables.counters[service]
    assert (counted.connections, counted.packets_in, counted.packets_out) == (1, 2, 1)


@pytest.mark.parametrize("flags", ["S", "R", "RA"])
def test_neither_a_syn_nor_a_reset_after_an_answer_makes_a_connection(scene: Scene, flags: str) -> None:
    """Who is sent an answer to a SYN that he never sent says RST."""
    answer_to(scene, scene.send(syn(scene, POD)))
    assert scene.send(syn(scene, POD, flags=flags)).verdict == Verdict.REDIRECT
    assert counts(scene) == (0, 1)


def test_a_refused_syn_leaves_no_connection_and_the_next_begins_anew(scene: Scene) -> None:
    refused = answer_to(scene, scene.send(syn(scene, POD)), flags="RA")
    assert Ether(refused.packet)[TCP].flags == "RA"
    assert scene.send(syn(scene, POD, flags="A")).verdict == Verdict.REDIRECT
    assert counts(scene) == (0, 1)
    scene.send(syn(scene, POD))
    assert (the_only(scene).packets, the_only(scene).flags) == (1, 0)


@pytest.mark.parametrize(("ticks", "promoted"), [(EMBRYO_TICKS, False), (EMBRYO_TICKS + 1, True)])
def test_a_udp_flow_that_is_never_answered_is_a_connection_after_some_ticks(
    scene: Scene, ticks: int, promoted: bool
) -> None:
    scene.send(datagram(scene, POD))
    scene.comparison.age(ticks)
    scene.send(datagram(scene, POD))
    assert counts(scene) == ((2, 0) if promoted else (0, 1))


def test_tcp_that_is_never_answered_is_no_connection(scene: Scene) -> None:
    for flags in ("S", "S", "A", "PA"):
        scene.send(syn(scene, POD, flags=flags))
        scene.comparison.age(EMBRYO_TICKS + 1)
    assert counts(scene) == (0, 1)


def test_many_packets_of_one_flow_are_no_flood_of_flows(scene: Scene) -> None:
    for number in range(EMBRYO_PACKETS):
        assert counts(scene) == (0, int(number > 0))
        scene.send(datagram(scene, POD))
    assert counts(scene) == (2, 0)
    assert scene.tables.connections[flow_of(scene, POD, UDP_NUMBER)].packets == EMBRYO_PACKETS


def test_many_answers_to_one_packet_make_a_connection(scene: Scene) -> None:
    opened = scene.send(datagram(scene, POD))
    for _ in range(EMBRYO_PACKETS):
        assert counts(scene) == (0, 1)
        answer_to(scene, opened)
    (endpoint_s,) = (entry for entry in scene.tables.connections.values() if entry.is_reply)
    assert (counts(scene), endpoint_s.packets) == ((2, 0), EMBRYO_PACKETS)
    assert answer_to(scene, opened).verdict == Verdict.REDIRECT


# Where its packets go meanwhile


@BOTH
@pytest.mark.parametrize("service", [POD, REMOTE], ids=["pod", "masqueraded"])
def test_a_retry_goes_the_same_way_though_the_slots_are_others(
    scene: Scene, protocol: int, service: int
) -> None:
    first = scene.send(opening(scene, service, protocol, 33000))
    other = REMOTE if service == POD else POD
    scene.comparison.change_slot(service, Slot(0xFFFFFFFF, other, other))
    scene.comparison.age(1)
    assert scene.send(opening(scene, service, protocol, 33000)).packet == first.packet
    assert (counts(scene), the_only(scene).packets) == ((0, 1), 2)
    assert scene.tables.counters[service].connections == 1


@BOTH
def test_a_retry_finds_its_port_again_without_the_hint(scene: Scene, protocol: int) -> None:
    """Other flows have written over it."""
    first = scene.send(opening(scene, REMOTE, protocol, 33000))
    scene.comparison.lose_hints()
    again = scene.send(opening(scene, REMOTE, protocol, 33000))
    assert (again.packet, counts(scene)) == (first.packet, (0, 1))
    assert the_only(scene).packets == 2
    assert scene.tables.counters[REMOTE].connections == 1


def test_an_answered_flow_is_a_connection_soon_without_the_hint(scene: Scene) -> None:
    answer_to(scene, scene.send(syn(scene, REMOTE)))
    scene.comparison.lose_hints()
    scene.send(syn(scene, REMOTE, flags="A"))
    assert counts(scene) == (2, 0)


def test_a_syn_leaves_a_draining_endpoint(scene: Scene) -> None:
    scene.send(syn(scene, POD, 40001))
    scene.change(POD, flags=EndpointFlag.LIVE | EndpointFlag.LOCAL | EndpointFlag.DRAINING)
    turned(scene, POD)
    assert Ether(scene.send(syn(scene, POD, 40001)).packet).dst != Ether(to_pod(Raw())).dst
    assert counts(scene) == (0, 1)


def test_unanswered_udp_leaves_a_silent_endpoint_and_stays_with_one_that_drains(scene: Scene) -> None:
    first = scene.send(datagram(scene, POD, 40001))
    turned(scene, POD)
    scene.change(POD, flags=EndpointFlag.LIVE | EndpointFlag.LOCAL | EndpointFlag.DRAINING)
    assert scene.send(datagram(scene, POD, 40001)).packet == first.packet
    scene.change(POD, flags=EndpointFlag.LIVE | EndpointFlag.LOCAL | EndpointFlag.SILENT)
    assert Ether(scene.send(datagram(scene, POD, 40001)).packet)[UDP].dport == 8080
    assert the_only(scene).endpoint == REMOTE


def test_an_unanswered_flow_leaves_an_endpoint_that_is_gone(scene: Scene) -> None:
    scene.send(syn(scene, POD))
    scene.change(POD, generation=2)
    scene.send(syn(scene, POD))
    assert (the_only(scene).generation, the_only(scene).packets) == (2, 1)


# Keys and ports


@BOTH
def test_one_port_on_two_services_is_two_flows(scene: Scene, protocol: int) -> None:
    first = scene.send(opening(scene, POD, protocol))
    second = scene.send(opening(scene, ALSO_POD, protocol))
    assert (port_left_with(first), port_left_with(second) in PORTS) == (33000, True)
    for opened, service in ((first, POD), (second, ALSO_POD)):
        back = Ether(answer_to(scene, opened).packet).payload.payload
        assert (back.sport, back.dport) == (port_of(service), 33000)


@pytest.mark.parametrize(("ticks", "dropped"), [(EMBRYO_TICKS, True), (EMBRYO_TICKS + 1, False)])
def test_where_no_port_is_free_an_unanswered_flow_gives_way(scene: Scene, ticks: int, dropped: bool) -> None:
    for port in PORTS:
        assert port_left_with(scene.send(datagram(scene, REMOTE, port))) == port
    scene.comparison.age(ticks)
    outcome = scene.send(datagram(scene, REMOTE, 33000))
    if dropped:
        assert_dropped(outcome, DropReason.PORTS_EXHAUSTED)
    else:
        assert port_left_with(outcome) in PORTS
    assert counts(scene) == (0, len(PORTS))


@BOTH
def test_a_connection_gives_no_way(scene: Scene, protocol: int) -> None:
    for port in PORTS:
        establish(scene, REMOTE, protocol, port)
    scene.comparison.age(EMBRYO_TICKS + 1)
    assert_dropped(scene.send(opening(scene, REMOTE, protocol)), DropReason.PORTS_EXHAUSTED)
    assert counts(scene) == (2 * len(PORTS), 0)


@pytest.mark.parametrize(("ticks", "left"), [(1, 1), (2, 0)])
def test_a_client_that_goes_to_the_endpoint_itself_gets_its_answers(
    scene: Scene, ticks: int, left: int
) -> None:
    """Not while the packet to the service may still be on its way through another hook."""
    scene.send(datagram(scene, POD))
    scene.comparison.age(ticks)
    direct = scene.ip(scene.names.client, scene.names.pod) / UDP(sport=33000, dport=8080)
    assert scene.send(direct).verdict == Verdict.NEXT
    assert counts(scene) == (0, left)


# Errors, fragments, evicted entries


def test_an_error_about_an_unanswered_packet_comes_home(scene: Scene) -> None:
    sent = datagram(scene, REMOTE, 40001)
    left = scene.send(sent).packet[14:]
    error: Packet = ICMP(type=3, code=3) if scene.family is IPV4 else ICMPv6DestUnreach(code=4)
    outcome = scene.send(scene.ip(scene.names.remote, scene.names.node) / error / Raw(left))
    got = Ether(outcome.packet)
    assert (got.payload.src, got.payload.dst) == (scene.names.vip, scene.names.client)
    assert bytes(sent[UDP])[:4] in outcome.packet[-len(left) :]


@pytest.mark.parametrize("service", [POD, REMOTE], ids=["pod", "masqueraded"])
def test_an_error_about_an_answer_goes_to_the_endpoint(scene: Scene, service: int) -> None:
    opened = scene.send(datagram(scene, service, 40001))
    back = answer_to(scene, opened).packet[14:]
    error: Packet = ICMP(type=3, code=3) if scene.family is IPV4 else ICMPv6DestUnreach(code=4)
    outcome = scene.send(scene.ip(scene.names.client, scene.names.vip) / error / Raw(back))
    endpoint = scene.names.pod if service == POD else scene.names.remote
    assert (outcome.verdict, Ether(outcome.packet).payload.dst) == (Verdict.REDIRECT, endpoint)


def test_a_client_whose_own_entry_was_thrown_out_is_a_connection_at_once(scene: Scene) -> None:
    establish(scene, POD, TCP_NUMBER)
    scene.comparison.evict(flow_of(scene, POD, TCP_NUMBER))
    scene.send(syn(scene, POD, flags="A"))
    assert counts(scene) == (2, 0)


def test_an_entry_is_not_put_back_where_a_new_flow_is(scene: Scene) -> None:
    """The endpoint's entry of a connection was thrown out, and its key is another service's by now."""
    establish(scene, POD, UDP_NUMBER)
    (key,) = [flow for flow, entry in scene.tables.connections.items() if entry.is_reply]
    scene.comparison.evict(key)
    assert port_left_with(scene.send(datagram(scene, ALSO_POD))) == 33000
    scene.comparison.age(1)
    scene.send(datagram(scene, POD))
    assert key in scene.tables.embryos
    assert key not in scene.tables.connections


def test_answers_are_counted_for_their_service(scene: Scene) -> None:
    answer_to(scene, scene.send(datagram(scene, POD)))
    header = scene.family.header_size
    assert scene.tables.counters[POD] == Counters(
        connections=1, packets_in=1, bytes_in=header + 13, packets_out=1, bytes_out=header + 10
    )
    embryo = the_only(scene)
    assert (embryo.packets, embryo.bytes) == (1, header + 13)
    assert (embryo.answers, embryo.answer_bytes) == (1, header + 10)


def test_an_answer_by_the_node_s_own_hook_is_translated(scene: Scene) -> None:
    """Its device isn't one of ours."""
    opened = scene.send(datagram(scene, POD))
    sent = Ether(opened.packet).payload
    reply = scene.ip(sent.dst, sent.src) / UDP(sport=sent.dport, dport=sent.sport) / Raw(b"hi")
    outcome = scene.send(reply, Hook.NODE_EGRESS, came_in_by="stranger")
    assert Ether(outcome.packet)[UDP].sport == port_of(POD)


def test_the_way_is_looked_up_again_in_the_next_tick(scene: Scene) -> None:
    scene.send(datagram(scene, POD))
    before = the_only(scene)
    scene.comparison.age(1)
    scene.send(datagram(scene, POD))
    assert replace(the_only(scene), born_tick=0) == replace(
        before, born_tick=0, packets=2, bytes=2 * before.bytes
    )
    assert the_only(scene).born_tick == the_only(scene).seen_tick - 1
