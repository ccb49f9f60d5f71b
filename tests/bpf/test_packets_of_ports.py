"""Packets written by hand, and what must become of them: source ports and partners, rules 2 and
3.9 of docs/packet-path.md.

Each runs through the kernel and the model; what is expected is written here, its checksums by scapy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from blixt_model.family import TCP as TCP_NUMBER
from blixt_model.family import UDP as UDP_NUMBER
from blixt_model.scene import (
    ALSO_POD,
    ALSO_REMOTE,
    POD,
    REMOTE,
    Scene,
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
from blixt_model.tables import Connection, ConnectionFlag, DropReason, Flow, Slot
from blixt_model.ways import Hook, Outcome, Verdict

pytestmark = pytest.mark.bpf

#: The ports to masquerade to, of the tests' settings.
PORTS = (40000, 40001, 40002)
BOTH = pytest.mark.parametrize("protocol", [TCP_NUMBER, UDP_NUMBER], ids=["TCP", "UDP"])


def transport(protocol: int, source_port: int, destination_port: int) -> Packet:
    if protocol == TCP_NUMBER:
        return TCP(sport=source_port, dport=destination_port, flags="SA", seq=5, ack=1)
    return UDP(sport=source_port, dport=destination_port) / Raw(b"hi")


def port_left_with(outcome: Outcome) -> int:
    assert outcome.verdict == Verdict.REDIRECT
    port: int = Ether(outcome.packet).sport
    return port


def pod_replies(scene: Scene, port: int, protocol: int = UDP_NUMBER) -> Outcome:
    """The pod's answer to the client's `port`, as the pod knows it."""
    reply = scene.ip(scene.names.pod, scene.names.client) / transport(protocol, 8080, port)
    return scene.send(reply, Hook.POD_INGRESS)


def remote_replies(scene: Scene, port: int, protocol: int) -> Outcome:
    """The remote endpoint's answer to the node's `port`."""
    return scene.send(scene.ip(scene.names.remote, scene.names.node) / transport(protocol, 8080, port))


def reply_from(scene: Scene, service: int, protocol: int, client_port: int) -> bytes:
    """As the client must see it."""
    answer = transport(protocol, port_of(service), client_port)
    return to_router(scene.ip(scene.names.vip, scene.names.client, 63) / answer)


def entries(scene: Scene) -> dict[Flow, Connection]:
    """Without their times, which move along with the clock."""
    return {flow: replace(entry, seen_tick=0) for flow, entry in scene.tables.connections.items()}


@BOTH
@pytest.mark.parametrize("own", [33000, 40001], ids=["other port", "port of the range"])
def test_a_client_with_one_port_on_two_services_keeps_both_connections(
    scene: Scene, protocol: int, own: int
) -> None:
    """Both lead to one pod: it sees the client with two ports, and each answer finds its service."""
    assert port_left_with(scene.send(opening(scene, POD, protocol, own))) == own
    second = scene.send(opening(scene, ALSO_POD, protocol, own))
    port = port_left_with(second)
    assert port in PORTS
    assert port != own
    sent = opening(scene, ALSO_POD, protocol, port).payload
    sent.dport = 8080
    assert second.packet == to_pod(scene.ip(scene.names.client, scene.names.pod, 63) / sent)
    assert pod_replies(scene, own, protocol).packet == reply_from(scene, POD, protocol, own)
    assert pod_replies(scene, port, protocol).packet == reply_from(scene, ALSO_POD, protocol, own)


@BOTH
def test_one_port_on_two_services_gets_two_ports_of_the_node(scene: Scene, protocol: int) -> None:
    """Both lead to one endpoint of another node."""
    assert port_left_with(scene.send(opening(scene, REMOTE, protocol, 40001))) == 40001
    port = port_left_with(scene.send(opening(scene, ALSO_REMOTE, protocol, 40001)))
    assert port in (40000, 40002)
    for service, node_port in ((REMOTE, 40001), (ALSO_REMOTE, port)):
        reply = remote_replies(scene, node_port, protocol)
        assert reply.packet == reply_from(scene, service, protocol, 40001)


@pytest.mark.parametrize(
    ("ending", "is_over"),
    [(["R"], True), (["FA"], False), (["FA", "pod's FA"], True)],
    ids=["reset", "one FIN", "both FINs"],
)
def test_a_tcp_connection_that_is_over_leaves_its_port(
    scene: Scene, ending: list[str], is_over: bool
) -> None:
    scene.send(syn(scene, POD))
    for flags in ending:
        if flags == "pod's FA":
            closing = TCP(sport=8080, dport=33000, flags="FA")
            scene.send(scene.ip(scene.names.pod, scene.names.client) / closing, Hook.POD_INGRESS)
        else:
            scene.send(syn(scene, POD, flags=flags))
    assert (port_left_with(scene.send(syn(scene, ALSO_POD))) == 33000) == is_over


@pytest.mark.parametrize(
    ("replied", "ticks", "is_over"), [(True, 120, False), (True, 121, True), (False, 500, False)]
)
def test_an_idle_udp_flow_leaves_its_port(scene: Scene, replied: bool, ticks: int, is_over: bool) -> None:
    """What was never answered, and is no connection for that, gives way where no port is free."""
    if replied:
        establish(scene, POD, UDP_NUMBER)
    else:
        scene.send(datagram(scene, POD))
    scene.comparison.age(ticks)
    assert (port_left_with(scene.send(datagram(scene, ALSO_POD))) == 33000) == is_over


def test_a_udp_flow_that_only_sends_keeps_its_port(scene: Scene) -> None:
    """It was answered once, long ago."""
    establish(scene, POD, UDP_NUMBER)
    for _ in range(2):
        scene.comparison.age(100)
        scene.send(datagram(scene, POD))
    assert port_left_with(scene.send(datagram(scene, ALSO_POD))) in PORTS
    assert pod_replies(scene, 33000).packet == reply_from(scene, POD, UDP_NUMBER, 33000)


def test_a_udp_flow_that_is_only_answered_keeps_its_port(scene: Scene) -> None:
    establish(scene, POD, UDP_NUMBER)
    for _ in range(2):
        scene.comparison.age(100)
        pod_replies(scene, 33000)
    assert port_left_with(scene.send(datagram(scene, ALSO_POD))) in PORTS


def test_an_idle_udp_flow_without_its_client_s_entry_leaves_its_port(scene: Scene) -> None:
    establish(scene, POD, UDP_NUMBER)
    scene.comparison.evict(flow_of(scene, POD, UDP_NUMBER))
    scene.comparison.age(121)
    assert port_left_with(scene.send(datagram(scene, ALSO_POD))) == 33000


def test_a_client_that_went_elsewhere_holds_no_port_of_its_old_endpoint(scene: Scene) -> None:
    """Its entry was evicted, and the next packet led to another endpoint."""
    establish(scene, POD, UDP_NUMBER)
    scene.comparison.evict(flow_of(scene, POD, UDP_NUMBER))
    scene.comparison.age(121)
    scene.comparison.change_slot(POD, Slot(0xFFFFFFFF, REMOTE, REMOTE))
    scene.send(datagram(scene, POD))
    assert port_left_with(scene.send(datagram(scene, ALSO_POD))) == 33000


def lose_port(scene: Scene, protocol: int, service: int, also: int, port: int) -> None:
    """A connection of `service` ends, and one of `also` takes its port; the first one's entry is left."""
    establish(scene, service, protocol, port)
    if protocol == TCP_NUMBER:
        scene.send(syn(scene, service, port, flags="R"))
    else:
        scene.comparison.age(121)
    assert port_left_with(establish(scene, also, protocol, port)) == port


@BOTH
@pytest.mark.parametrize(
    ("service", "also", "replies"),
    [(POD, ALSO_POD, pod_replies), (REMOTE, ALSO_REMOTE, remote_replies)],
    ids=["own address", "masqueraded"],
)
def test_a_flow_that_begins_anew_leaves_its_lost_port_s_owner_whole(
    scene: Scene, protocol: int, service: int, also: int, replies: Callable[[Scene, int, int], Outcome]
) -> None:
    lose_port(scene, protocol, service, also, 40001)
    port = port_left_with(scene.send(opening(scene, service, protocol, 40001)))
    assert port != 40001
    assert replies(scene, 40001, protocol).packet == reply_from(scene, also, protocol, 40001)
    assert replies(scene, port, protocol).packet == reply_from(scene, service, protocol, 40001)


@pytest.mark.parametrize(
    ("flags", "marks"),
    [("R", 0), ("FA", ConnectionFlag.FIN_CLIENT)],
    ids=["RST", "FIN"],
)
def test_a_flow_s_late_end_doesn_t_mark_its_lost_port_s_owner(
    scene: Scene, flags: str, marks: ConnectionFlag
) -> None:
    lose_port(scene, TCP_NUMBER, POD, ALSO_POD, 33000)
    old = flow_of(scene, POD, TCP_NUMBER)
    before = {flow: entry.flags for flow, entry in entries(scene).items()}
    assert port_left_with(scene.send(syn(scene, POD, flags=flags))) == 33000
    after = {flow: entry.flags for flow, entry in entries(scene).items()}
    assert after == {**before, old: ConnectionFlag.RESET | marks}


def test_an_old_endpoint_s_reset_doesn_t_mark_the_client_s_new_connection(scene: Scene) -> None:
    establish(scene, POD, TCP_NUMBER, 40001)
    scene.comparison.evict(flow_of(scene, POD, TCP_NUMBER, 40001))
    scene.comparison.change_slot(POD, Slot(0xFFFFFFFF, REMOTE, REMOTE))
    establish(scene, POD, TCP_NUMBER, 40001)
    new = flow_of(scene, POD, TCP_NUMBER, 40001)
    before = entries(scene)[new]
    reset = TCP(sport=8080, dport=40001, flags="R")
    scene.send(scene.ip(scene.names.pod, scene.names.client) / reset, Hook.POD_INGRESS)
    assert entries(scene)[new] == before


@BOTH
@pytest.mark.parametrize(
    ("service", "also"), [(POD, ALSO_POD), (REMOTE, ALSO_REMOTE)], ids=["own address", "masqueraded"]
)
def test_a_flow_whose_entry_was_evicted_gets_its_port_again(
    scene: Scene, service: int, also: int, protocol: int
) -> None:
    for wanted in (service, also):
        first = establish(scene, wanted, protocol, 40001)
        scene.comparison.evict(flow_of(scene, wanted, protocol, 40001))
        again = scene.send(opening(scene, wanted, protocol, 40001))
        assert port_left_with(again) == port_left_with(first)
        assert flow_of(scene, wanted, protocol, 40001)


def test_a_client_s_entry_is_never_written_over(scene: Scene) -> None:
    """A pod's connection to a service is over; that service's address writes, as if it were a client."""
    names = scene.names
    to_remote = port_of(REMOTE)
    for flags in ("S", "answer", "A", "R"):
        if flags == "answer":
            packet = scene.ip(names.remote, names.pod) / TCP(sport=8080, dport=8080, flags="SA")
            scene.send(packet)
            continue
        packet = scene.ip(names.pod, names.vip) / TCP(sport=8080, dport=to_remote, flags=flags)
        scene.send(packet, Hook.POD_INGRESS)
    (key,) = [flow for flow, entry in scene.tables.connections.items() if not entry.is_reply]
    before = entries(scene)[key]
    packet = scene.ip(names.vip, names.vip) / TCP(sport=to_remote, dport=port_of(POD), flags="S")
    assert port_left_with(scene.send(packet)) in PORTS
    assert entries(scene)[key] == before


@BOTH
def test_ports_of_a_client_s_own_address_run_out(scene: Scene, protocol: int) -> None:
    for port in (*PORTS, 33000):
        assert port_left_with(establish(scene, POD, protocol, port)) == port
    before = entries(scene)
    outcome = scene.send(opening(scene, ALSO_POD, protocol))
    assert_dropped(outcome, DropReason.PORTS_EXHAUSTED)
    assert entries(scene) == before
