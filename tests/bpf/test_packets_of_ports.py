"""Packets written by hand, and what must become of them: source ports, rule 3.9 of docs/packet-path.md.

Each runs through the kernel and the model; what is expected is written here, its checksums by scapy.
"""

from __future__ import annotations

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from blixt_model.scene import (
    ALSO_POD,
    ALSO_REMOTE,
    POD,
    REMOTE,
    Scene,
    assert_dropped,
    datagram,
    flow_of,
    port_of,
    syn,
    to_pod,
    to_router,
)
from blixt_model.tables import ConnectionFlag, DropReason, Flow
from blixt_model.ways import Hook, Outcome, Verdict

pytestmark = pytest.mark.bpf

#: The ports to masquerade to, of the tests' settings.
PORTS = (40000, 40001, 40002)
TCP_NUMBER, UDP_NUMBER = 6, 17
BOTH = pytest.mark.parametrize("protocol", [TCP_NUMBER, UDP_NUMBER], ids=["TCP", "UDP"])


def opening(scene: Scene, service: int, protocol: int, source_port: int = 33000) -> Packet:
    if protocol == TCP_NUMBER:
        return syn(scene, service, source_port)
    return datagram(scene, service, source_port)


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


def reply_from(scene: Scene, service: int, protocol: int, client_port: int) -> bytes:
    """As the client must see it."""
    answer = transport(protocol, port_of(service), client_port)
    return to_router(scene.ip(scene.names.vip, scene.names.client, 63) / answer)


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
    assert scene.tables.connections[flow_of(scene, ALSO_POD, protocol, own)].flags == (
        ConnectionFlag.MASQUERADED
    )
    assert pod_replies(scene, own, protocol).packet == reply_from(scene, POD, protocol, own)
    assert pod_replies(scene, port, protocol).packet == reply_from(scene, ALSO_POD, protocol, own)


@BOTH
def test_one_port_on_two_services_gets_two_ports_of_the_node(scene: Scene, protocol: int) -> None:
    """Both lead to one endpoint of another node."""
    names = scene.names
    assert port_left_with(scene.send(opening(scene, REMOTE, protocol, 40001))) == 40001
    port = port_left_with(scene.send(opening(scene, ALSO_REMOTE, protocol, 40001)))
    assert port in (40000, 40002)
    for service, node_port in ((REMOTE, 40001), (ALSO_REMOTE, port)):
        reply = scene.ip(names.remote, names.node) / transport(protocol, 8080, node_port)
        assert scene.send(reply).packet == reply_from(scene, service, protocol, 40001)


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
    """Where no reply was ever seen, none is known to be missing."""
    scene.send(datagram(scene, POD))
    if replied:
        pod_replies(scene, 33000)
    scene.comparison.age(ticks)
    assert (port_left_with(scene.send(datagram(scene, ALSO_POD))) == 33000) == is_over


@BOTH
@pytest.mark.parametrize(
    ("service", "also"), [(POD, ALSO_POD), (REMOTE, ALSO_REMOTE)], ids=["own address", "masqueraded"]
)
def test_a_flow_whose_entry_was_evicted_gets_its_port_again(
    scene: Scene, service: int, also: int, protocol: int
) -> None:
    for wanted in (service, also):
        first = scene.send(opening(scene, wanted, protocol, 40001))
        scene.comparison.evict(flow_of(scene, wanted, protocol, 40001))
        again = scene.send(opening(scene, wanted, protocol, 40001))
        assert port_left_with(again) == port_left_with(first)


def test_a_client_s_entry_is_never_written_over(scene: Scene) -> None:
    """A pod's connection to a service is over; that service's address writes, as if it were a client."""
    names = scene.names
    to_remote = port_of(REMOTE)
    for flags in ("S", "R"):
        packet = scene.ip(names.pod, names.vip) / TCP(sport=8080, dport=to_remote, flags=flags)
        scene.send(packet, Hook.POD_INGRESS)
    (key,) = [flow for flow, entry in scene.tables.connections.items() if not entry.is_reply]
    entry = scene.tables.connections[key]
    packet = scene.ip(names.vip, names.vip) / TCP(sport=to_remote, dport=port_of(POD), flags="S")
    assert port_left_with(scene.send(packet)) in PORTS
    assert scene.tables.connections[key] == entry


@BOTH
def test_ports_of_a_client_s_own_address_run_out(scene: Scene, protocol: int) -> None:
    for port in (*PORTS, 33000):
        assert port_left_with(scene.send(opening(scene, POD, protocol, port))) == port
    before = dict[Flow, object](scene.tables.connections)
    outcome = scene.send(opening(scene, ALSO_POD, protocol))
    assert_dropped(outcome, DropReason.PORTS_EXHAUSTED)
    assert scene.tables.connections == before
