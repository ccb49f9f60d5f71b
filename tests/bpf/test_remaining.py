"""Which flows remain, while another plane takes the new ones: `count_remaining` of docs/packet-path.md."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scapy.layers.inet import TCP

from blixt_model.family import TCP as TCP_NUMBER
from blixt_model.family import UDP as UDP_NUMBER
from blixt_model.scene import POD, Scene, establish, flow_of, syn
from blixt_model.tables import Flow, partner_of
from blixt_model.ways import Hook

pytestmark = pytest.mark.bpf


def entries(scene: Scene) -> int:
    return len(scene.comparison.kernel.connections())


def unseen(scene: Scene, flow: Flow, ticks: int) -> None:
    """Neither side was seen for so long."""
    comparison = scene.comparison
    connections = comparison.tables.connections
    for key in (flow, partner_of(connections[flow].becomes)):
        seen = (comparison._tick - ticks) & 0xFFFFFFFF
        connections[key] = replace(connections[key], seen_tick=seen)
        comparison._write_seen_tick(key)


@pytest.mark.parametrize(("protocol", "longest"), [(UDP_NUMBER, 120), (TCP_NUMBER, 6706)], ids=["udp", "tcp"])
def test_a_flow_remains_as_long_as_one_side_is_seen(scene: Scene, protocol: int, longest: int) -> None:
    establish(scene, POD, protocol)
    flow = flow_of(scene, POD, protocol, 33000)
    assert (scene.comparison.kernel.remaining(), entries(scene)) == (1, 2)
    unseen(scene, flow, longest - 5)
    assert (scene.comparison.kernel.remaining(), entries(scene)) == (1, 2)
    unseen(scene, flow, longest + 5)
    assert (scene.comparison.kernel.remaining(), entries(scene)) == (0, 0)


def test_a_connection_that_is_over_remains_for_its_last_packets(scene: Scene) -> None:
    establish(scene, POD, TCP_NUMBER)
    flow = flow_of(scene, POD, TCP_NUMBER, 33000)
    scene.send(syn(scene, POD, source_port=33000, flags="FA", ack=1))
    fin = TCP(sport=8080, dport=33000, flags="FA")
    scene.send(scene.ip(scene.names.pod, scene.names.client) / fin, Hook.POD_INGRESS)
    assert scene.comparison.kernel.remaining() == 1
    unseen(scene, flow, 20)
    assert (scene.comparison.kernel.remaining(), entries(scene)) == (0, 0)


def test_an_embryo_remains(scene: Scene) -> None:
    scene.send(syn(scene, POD))
    assert scene.comparison.kernel.remaining() == 1
    assert len(scene.comparison.kernel.embryos()) == 1
