"""Packets written by hand, and what must become of them: rule 3.12 of docs/packet-path.md."""

from __future__ import annotations

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.packet import Packet, Raw

from blixt_model.family import IPV4
from blixt_model.network import packed
from blixt_model.scene import (
    POD,
    Scene,
    answer,
    answer_ip,
    assert_dropped,
    assert_next_untouched,
    port_of,
    syn,
    to_pod,
)
from blixt_model.tables import DropReason, Opening, Vacancy, VacancyAnswer
from blixt_model.ways import Hook, Verdict

pytestmark = pytest.mark.bpf

UNDEFINED = 9


@pytest.fixture
def scene(scene: Scene) -> Scene:
    """The virtual address refuses, the rest of its range drops."""
    vip, bits = packed(scene.names.vip), 8 * scene.family.address_size
    length = 16 if scene.family is IPV4 else 112
    range_ = vip[: length // 8] + bytes((bits - length) // 8)
    scene.tables.vacancies.update(
        {Vacancy(bits, vip): VacancyAnswer.REFUSED, Vacancy(length, range_): VacancyAnswer.DROPPED}
    )
    scene.comparison.begin(scene.tables)
    return scene


def unallocated(scene: Scene) -> str:
    return "10.96.7.7" if scene.family is IPV4 else "fd00:96::7"


def to(scene: Scene, address: str, flags: str = "S") -> Packet:
    return scene.ip(scene.names.client, address) / TCP(sport=33000, dport=UNDEFINED, flags=flags, seq=0)


@pytest.mark.parametrize("hook", [Hook.UPLINK_INGRESS, Hook.POD_INGRESS, Hook.NODE_EGRESS])
def test_an_undefined_port_is_refused(scene: Scene, hook: Hook) -> None:
    outcome = scene.send(to(scene, scene.names.vip), hook)
    reset = TCP(sport=UNDEFINED, dport=33000, flags="RA", seq=0, ack=1, window=0)
    assert outcome.packet == answer(answer_ip(scene) / reset)
    assert outcome.changes.drops == [DropReason.UNDEFINED_PORT]
    datagram = scene.ip(scene.names.client, scene.names.vip) / UDP(sport=1, dport=UNDEFINED) / Raw(b"hello")
    outcome = scene.send(datagram, hook)
    assert (outcome.verdict, outcome.changes.drops) == (Verdict.REDIRECT, [DropReason.UNDEFINED_PORT])
    assert scene.tables.counters == {}


def test_an_address_that_no_service_has_is_silent(scene: Scene) -> None:
    assert_dropped(scene.send(to(scene, unallocated(scene))), DropReason.UNALLOCATED)


def test_defined_ports_and_other_addresses_are_as_ever(scene: Scene) -> None:
    head = scene.ip(scene.names.client, scene.names.pod, ttl=63)
    expected = head / TCP(sport=33000, dport=8080, flags="S", seq=0)
    assert scene.send(syn(scene, POD)).packet == to_pod(expected)
    elsewhere = to(scene, scene.names.remote)
    assert_next_untouched(scene.send(elsewhere), elsewhere)


def test_only_what_begins_a_flow_is_answered(scene: Scene) -> None:
    for address in (scene.names.vip, unallocated(scene)):
        packet = to(scene, address, "A")
        assert_next_untouched(scene.send(packet), packet)


def test_what_another_version_still_serves_is_not_undefined(scene: Scene) -> None:
    scene.tables.opening = Opening.NOTHING
    scene.comparison.begin(scene.tables)
    packet = syn(scene, POD)
    assert port_of(POD) != UNDEFINED
    assert_next_untouched(scene.send(packet), packet)


@pytest.mark.parametrize("allowed", [Opening.NOTHING, Opening.STARTS])
def test_who_may_not_open_leaves_undefined_ports_to_whoever_may(scene: Scene, allowed: Opening) -> None:
    """The plane that carries the services now may know of more of them."""
    scene.comparison.set_opening(allowed)
    for address in (scene.names.vip, unallocated(scene)):
        datagram = scene.ip(scene.names.client, address) / UDP(sport=1, dport=UNDEFINED) / Raw(b"hello")
        assert_next_untouched(scene.send(datagram), datagram)
        if allowed is Opening.NOTHING:
            packet = to(scene, address)
            assert_next_untouched(scene.send(packet), packet)
