"""Which new flows become ours while others stand behind our programs: `opening` of docs/packet-path.md."""

from __future__ import annotations

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.packet import Packet, Raw

from blixt_model.family import TCP as TCP_NUMBER
from blixt_model.family import UDP as UDP_NUMBER
from blixt_model.scene import (
    POD,
    Scene,
    assert_next_untouched,
    datagram,
    establish,
    opening,
    port_of,
    syn,
)
from blixt_model.tables import Opening
from blixt_model.ways import Hook, Verdict

pytestmark = pytest.mark.bpf


def assert_left(scene: Scene, packet: Packet) -> None:
    assert_next_untouched(scene.send(packet), packet)


def test_nothing_is_opened(scene: Scene) -> None:
    scene.comparison.set_opening(Opening.NOTHING)
    for packet in (syn(scene, POD), datagram(scene, POD)):
        assert_left(scene, packet)
    assert scene.tables.connections == {}


def test_only_what_begins_is_opened(scene: Scene) -> None:
    scene.comparison.set_opening(Opening.STARTS)
    middle = TCP(sport=33001, dport=port_of(POD), flags="A", seq=7, ack=9)
    assert_left(scene, datagram(scene, POD))
    assert_left(scene, scene.ip(scene.names.client, scene.names.vip) / middle)
    assert scene.send(syn(scene, POD)).verdict == Verdict.REDIRECT
    assert scene.tables.embryos != {}


@pytest.mark.parametrize("answered", [False, True])
def test_known_flows_go_on(scene: Scene, answered: bool) -> None:
    for protocol in (TCP_NUMBER, UDP_NUMBER):
        if answered:
            establish(scene, POD, protocol)
        else:
            scene.send(opening(scene, POD, protocol))
    scene.comparison.set_opening(Opening.NOTHING)
    for packet in (syn(scene, POD), datagram(scene, POD)):
        assert scene.send(packet).verdict == Verdict.REDIRECT
    answer = UDP(sport=8080, dport=33000) / Raw(b"hi")
    outcome = scene.send(scene.ip(scene.names.pod, scene.names.client) / answer, Hook.POD_INGRESS)
    assert outcome.verdict == Verdict.REDIRECT


def test_a_flow_that_is_over_is_not_opened_again(scene: Scene) -> None:
    establish(scene, POD, TCP_NUMBER)
    reset = TCP(sport=33000, dport=port_of(POD), flags="R")
    scene.send(scene.ip(scene.names.client, scene.names.vip) / reset)
    scene.comparison.set_opening(Opening.NOTHING)
    assert_left(scene, syn(scene, POD))
    assert scene.tables.connections == {}


def test_an_endpoint_takes_up_anothers_connection_by_the_key_of_one_that_is_over(scene: Scene) -> None:
    """Its client's packets came by another plane's rules, from the port that it had here before."""
    establish(scene, POD, TCP_NUMBER)
    answer = scene.ip(scene.names.pod, scene.names.client) / TCP(sport=8080, dport=33000, flags="SA")
    assert scene.send(answer, Hook.POD_INGRESS).verdict == Verdict.REDIRECT, "it isn't over"
    reset = TCP(sport=33000, dport=port_of(POD), flags="R")
    scene.send(scene.ip(scene.names.client, scene.names.vip) / reset)
    scene.comparison.set_opening(Opening.NOTHING)
    assert_next_untouched(scene.send(answer, Hook.POD_INGRESS), answer)
    assert scene.tables.connections == {}
