"""Packets written by hand, and what must become of them: flows that the kernel translates (rule 3).

What it tracks is in the namespace's own connection tracking, put there as conntrackd does.
"""

from __future__ import annotations

import dataclasses

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.packet import Raw

from blixt_model.family import TCP as TCP_NUMBER
from blixt_model.family import UDP as UDP_NUMBER
from blixt_model.network import packed
from blixt_model.scene import (
    ALSO_POD,
    POD,
    REMOTE,
    Scene,
    assert_next_untouched,
    datagram,
    flow_of,
    port_of,
    syn,
)
from blixt_model.tables import DropReason, Flow, KernelFlow, TcpState
from blixt_model.ways import Hook, Verdict

pytestmark = pytest.mark.bpf


def tracked(
    scene: Scene, protocol: int, state: TcpState = TcpState.NONE, *, service: int = POD, masqueraded: str = ""
) -> KernelFlow:
    """The client's flow to a service, which the kernel leads to the pod."""
    original = Flow(packed(scene.names.client), packed(scene.names.vip), 33000, port_of(service), protocol)
    becomes = dataclasses.replace(original, destination=packed(scene.names.pod), destination_port=8080)
    if masqueraded:
        becomes = dataclasses.replace(becomes, source=packed(masqueraded), source_port=port_of(service))
    return KernelFlow(original, becomes, state)


def embryo_key(scene: Scene) -> Flow:
    """Of the only flow that has one."""
    (key,) = scene.tables.embryos
    return key


@pytest.mark.parametrize("asked", [True, False], ids=["asked", "not asked"])
def test_a_connection_of_the_kernel_goes_on_there(scene: Scene, asked: bool) -> None:
    scene.comparison.track(tracked(scene, TCP_NUMBER, TcpState.ESTABLISHED), asked=asked)
    packet = syn(scene, POD, flags="A")
    assert_next_untouched(scene.send(packet), packet)
    assert not scene.tables.connections


def test_what_the_kernel_does_not_know_is_ours(scene: Scene) -> None:
    scene.comparison.track(tracked(scene, TCP_NUMBER, TcpState.ESTABLISHED))
    assert scene.send(syn(scene, POD, 33001, flags="A")).verdict == Verdict.REDIRECT
    assert scene.send(datagram(scene, POD)).verdict == Verdict.REDIRECT


def test_a_datagram_of_the_kernel_s_flow_is_its_own_while_it_is_asked(scene: Scene) -> None:
    scene.comparison.track(tracked(scene, UDP_NUMBER))
    packet = datagram(scene, POD)
    assert_next_untouched(scene.send(packet), packet)
    scene.comparison.track(tracked(scene, UDP_NUMBER), asked=False)
    assert scene.send(packet).verdict == Verdict.REDIRECT


def test_what_we_hold_is_ours(scene: Scene) -> None:
    """The kernel's old rules may translate a packet of ours, one whose TTL ends here."""
    scene.send(datagram(scene, POD))
    scene.send(syn(scene, POD))
    scene.comparison.track(tracked(scene, UDP_NUMBER), tracked(scene, TCP_NUMBER, TcpState.ESTABLISHED))
    assert scene.send(datagram(scene, POD)).verdict == Verdict.REDIRECT
    assert scene.send(syn(scene, POD, flags="A")).verdict == Verdict.REDIRECT
    answer = scene.ip(scene.names.pod, scene.names.client) / UDP(sport=8080, dport=33000) / Raw(b"hi")
    assert scene.send(answer, Hook.POD_INGRESS).verdict == Verdict.REDIRECT
    assert scene.send(datagram(scene, POD)).verdict == Verdict.REDIRECT
    assert flow_of(scene, POD, UDP_NUMBER) in scene.tables.connections
    scene.comparison.age(121)
    assert scene.send(datagram(scene, POD)).verdict == Verdict.REDIRECT


@pytest.mark.parametrize(
    ("state", "whose"),
    [
        (TcpState.SYN_RECEIVED, Verdict.NEXT),
        (TcpState.ESTABLISHED, Verdict.NEXT),
        (TcpState.TIME_WAIT, Verdict.REDIRECT),
        (TcpState.CLOSE, Verdict.REDIRECT),
    ],
)
def test_whose_a_syn_is(scene: Scene, state: TcpState, whose: Verdict) -> None:
    scene.comparison.track(tracked(scene, TCP_NUMBER, state))
    assert scene.send(syn(scene, POD)).verdict == whose
    if whose is Verdict.REDIRECT:
        # The kernel's connection is over: the key of its answers is free.
        assert embryo_key(scene).destination_port == 33000


def test_the_last_packets_of_a_connection_of_the_kernel_stay_there(scene: Scene) -> None:
    scene.comparison.track(tracked(scene, TCP_NUMBER, TcpState.TIME_WAIT))
    packet = syn(scene, POD, flags="FA")
    assert_next_untouched(scene.send(packet), packet)


def test_answers_of_the_kernel_s_flows_are_not_ours(scene: Scene) -> None:
    scene.comparison.track(tracked(scene, TCP_NUMBER, TcpState.ESTABLISHED))
    answer = scene.ip(scene.names.pod, scene.names.client) / TCP(sport=8080, dport=33000, flags="A")
    assert_next_untouched(scene.send(answer, Hook.POD_INGRESS), answer)


def test_a_flow_of_ours_never_takes_the_answers_of_the_kernel_s(scene: Scene) -> None:
    """One client, one port, two services with the same endpoint: the kernel has one, and we the other."""
    scene.comparison.track(tracked(scene, UDP_NUMBER))
    scene.send(datagram(scene, ALSO_POD))
    assert embryo_key(scene).destination_port in range(40000, 40003)
    answer = scene.ip(scene.names.pod, scene.names.client) / UDP(sport=8080, dport=33000) / Raw(b"kernel's")
    assert_next_untouched(scene.send(answer, Hook.POD_INGRESS), answer)


def test_a_node_port_that_the_kernel_masquerades_with(scene: Scene) -> None:
    """An answer to the node's address, at a port that is a service's as well."""
    flow = tracked(scene, TCP_NUMBER, TcpState.ESTABLISHED, service=REMOTE, masqueraded=scene.names.vip)
    scene.comparison.track(flow)
    head = scene.ip(scene.names.pod, scene.names.vip)
    answer = head / TCP(sport=8080, dport=port_of(REMOTE), flags="A")
    assert_next_untouched(scene.send(answer), answer)


def test_a_flow_that_is_tracked_untranslated_is_ours(scene: Scene) -> None:
    """As that of a program of this node, which the kernel knows before we see it."""
    flow = tracked(scene, TCP_NUMBER, TcpState.ESTABLISHED)
    scene.comparison.track(KernelFlow(flow.original, flow.original, flow.tcp_state))
    assert scene.send(syn(scene, POD, flags="A")).verdict == Verdict.REDIRECT
    assert scene.tables.drops.get(DropReason.ENDPOINT_GONE, 0) == 0
