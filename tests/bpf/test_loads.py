"""Least connections: what is counted, and what is counted afresh; by packets through kernel and model."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scapy.layers.inet import TCP

from blixt_model.family import TCP as TCP_NUMBER
from blixt_model.family import UDP as UDP_NUMBER
from blixt_model.scene import POD, Scene, datagram, establish, flow_of, syn
from blixt_model.tables import ConnectionFlag, EndpointFlag, Flow, partner_of
from blixt_model.ways import Hook

pytestmark = pytest.mark.bpf

COUNTED = EndpointFlag.LIVE | EndpointFlag.LOCAL | EndpointFlag.COUNTED


def opened(scene: Scene, source_port: int) -> Flow:
    """A connection to POD's endpoint, which is counted."""
    establish(scene, POD, TCP_NUMBER, source_port)
    return flow_of(scene, POD, TCP_NUMBER, source_port)


def load(scene: Scene) -> int:
    """The same in the model, or a packet would have been a Mismatch."""
    return scene.comparison.kernel.loads([POD])[POD].open


def finish(scene: Scene, source_port: int, flags: str = "FA") -> None:
    scene.send(syn(scene, POD, source_port=source_port, flags=flags, ack=1))


def finish_endpoint(scene: Scene, source_port: int) -> None:
    fin = TCP(sport=8080, dport=source_port, flags="FA")
    scene.send(scene.ip(scene.names.pod, scene.names.client) / fin, Hook.POD_INGRESS)


def write_seen_ticks_ago(scene: Scene, flow: Flow, ticks: int) -> None:
    comparison = scene.comparison
    connections = comparison.tables.connections
    seen = (comparison._tick - ticks) & 0xFFFFFFFF
    connections[flow] = replace(connections[flow], seen_tick=seen)
    comparison._write_seen_tick(flow)


def test_a_connection_counts_from_its_promotion_to_both_fins(scene: Scene) -> None:
    scene.change(POD, flags=COUNTED)
    scene.send(syn(scene, POD, source_port=33001))
    assert load(scene) == 0, "a SYN alone may be a flood's"
    for port in (33001, 33002, 33003):
        opened(scene, port)
    assert load(scene) == 3
    finish(scene, 33001)
    assert load(scene) == 3
    finish_endpoint(scene, 33001)
    assert load(scene) == 2
    finish(scene, 33001)
    finish_endpoint(scene, 33001)
    assert load(scene) == 2, "once"
    finish(scene, 33002, "R")
    assert load(scene) == 1


def test_who_was_thrown_out_is_no_longer_counted_after_a_recount(scene: Scene) -> None:
    scene.change(POD, flags=COUNTED)
    gone = opened(scene, 33001)
    opened(scene, 33002)
    scene.comparison.evict(gone)
    assert load(scene) == 2
    scene.comparison.recount()
    assert load(scene) == 1


def test_connections_from_before_are_counted_once_somebody_asks_for_it(scene: Scene) -> None:
    opened(scene, 33001)
    opened(scene, 33002)
    scene.change(POD, flags=COUNTED)
    assert scene.comparison.kernel.loads([POD])[POD].open == 0
    scene.comparison.recount()
    assert load(scene) == 2
    finish(scene, 33001, "R")
    assert load(scene) == 1


def test_another_endpoint_with_the_index_begins_at_nothing(scene: Scene) -> None:
    scene.change(POD, flags=COUNTED)
    opened(scene, 33001)
    scene.change(POD, flags=COUNTED, generation=2)
    opened(scene, 33002)
    assert load(scene) == 1
    finish(scene, 33001, "R")
    assert load(scene) == 1


@pytest.mark.parametrize(("ticks", "counted"), [(6706, 1), (6707, 0)])
def test_tcp_unseen_for_two_hours_is_not_counted(scene: Scene, ticks: int, counted: int) -> None:
    scene.change(POD, flags=COUNTED)
    flow = opened(scene, 33001)
    partner = partner_of(scene.tables.connections[flow].becomes)
    write_seen_ticks_ago(scene, flow, ticks)
    write_seen_ticks_ago(scene, partner, ticks + 10)
    scene.comparison.recount()
    assert load(scene) == counted
    write_seen_ticks_ago(scene, flow, 1)
    scene.comparison.recount()
    assert load(scene) == 1, "it is seen again"


@pytest.mark.parametrize(("ticks", "counted"), [(120, 1), (121, 0)])
def test_a_connection_that_one_side_has_ended_is_not_counted_for_long(
    scene: Scene, ticks: int, counted: int
) -> None:
    scene.change(POD, flags=COUNTED)
    flow = opened(scene, 33001)
    finish(scene, 33001)
    partner = partner_of(scene.tables.connections[flow].becomes)
    for one in (flow, partner):
        write_seen_ticks_ago(scene, one, ticks)
    scene.comparison.recount()
    assert load(scene) == counted


def test_idle_udp_is_not_counted_unless_one_side_still_sends(scene: Scene) -> None:
    scene.change(POD, flags=COUNTED)
    establish(scene, POD, UDP_NUMBER, source_port=33001)
    assert load(scene) == 1
    flow = flow_of(scene, POD, UDP_NUMBER, 33001)
    partner = partner_of(scene.tables.connections[flow].becomes)
    write_seen_ticks_ago(scene, flow, 31)
    write_seen_ticks_ago(scene, partner, 30)
    scene.comparison.recount()
    assert load(scene) == 1
    write_seen_ticks_ago(scene, partner, 31)
    scene.comparison.recount()
    assert load(scene) == 0
    assert not scene.tables.connections[flow].flags & ConnectionFlag.COUNTED
    write_seen_ticks_ago(scene, flow, 121)
    write_seen_ticks_ago(scene, partner, 121)
    scene.send(datagram(scene, POD, source_port=33001))
    assert load(scene) == 1, "it begins anew"


@pytest.mark.parametrize(("ticks", "counted"), [(30, 1), (31, 0)])
def test_a_question_and_its_answer_count_for_a_while(scene: Scene, ticks: int, counted: int) -> None:
    scene.change(POD, flags=COUNTED)
    scene.send(datagram(scene, POD, source_port=33001))
    assert load(scene) == 1
    scene.comparison.age(ticks)
    scene.comparison.recount()
    assert load(scene) == counted
