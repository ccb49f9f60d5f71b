"""Nodes on a segment whose time is a number: who answers for what, as daemons and machines come and go."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP, Ether

from blixt_backend.announce import frames, ndp
from blixt_backend.announce.election import holder
from blixt_backend.announce.frames import BROADCAST, Arp, Mac, Operation
from blixt_backend.announce.heartbeat import Heartbeat, State, group_id
from blixt_backend.model import Endpoint, PackedAddress
from blixt_fakes.segment import Node, Segment, balanced, change, ip

STRANGER = Mac(bytes.fromhex("02ffffffffff"))
V4 = [ip(f"192.0.2.{n}") for n in range(1, 21)]
V6 = [ip(f"2001:db8::{n:x}") for n in range(1, 11)]
ALL = [*V4, *V6]
SERVICES = change(*(balanced(f"s{n}", [address]) for n, address in enumerate(ALL)), resync=True)
A, B, C = "node1", "node2", "node3"


def started(*names: str, seconds: float = 10, services: Any = SERVICES) -> Segment:
    """A segment whose nodes have found each other."""
    segment = Segment(*names)
    for node in segment.nodes.values():
        node.start(services)
    segment.run(seconds)
    return segment


def expected(*names: str) -> dict[PackedAddress, list[str]]:
    """Each address with the one that should answer for it, of the nodes that there are."""
    return {address: [name] for address in ALL if (name := holder(address, names))}


def now_held(segment: Segment) -> dict[PackedAddress, list[str]]:
    return {address: segment.holders(address) for address in ALL}


def those_of(name: str, *names: str) -> list[PackedAddress]:
    return [address for address, holders in expected(*names).items() if holders == [name]]


def replies(segment: Segment, address: PackedAddress) -> list[str]:
    """Who answers a stranger's question for an address, by its nodes' names."""
    mark = len(segment.log)
    if len(address) == 4:
        request = Arp(Operation.REQUEST, STRANGER, ip("203.0.113.200"), Mac(bytes(6)), address)
        segment.put(None, request.frame(BROADCAST))
    else:
        segment.put(None, ndp.neighbour_question(address, BROADCAST, STRANGER, ip("fe80::200")))
    segment.run(0)
    return [name for _, name, frame in segment.log[mark:] if frame[:6] == STRANGER]


# --- start ---


def test_nobody_claims_anything_before_it_has_listened_long_enough() -> None:
    segment = Segment(A)
    segment[A].start(SERVICES)
    segment.run(3.9)
    assert now_held(segment) == {address: [] for address in ALL}
    segment.run(2)
    assert now_held(segment) == expected(A)


def test_nothing_is_claimed_before_something_is_applied() -> None:
    segment = Segment(A, B)
    segment[A].start()
    segment[B].start(SERVICES)
    segment.run(60)
    assert now_held(segment) == expected(B)
    segment[A].apply(SERVICES)
    segment.run(2)
    assert now_held(segment) == expected(A, B)


def test_an_address_is_asked_about_and_then_announced_in_both_forms_a_few_times() -> None:
    segment = started(A, services=change(balanced("a", [V4[0], V6[0]])))
    sent = [Ether(frame) for frame in segment.sent(0, A)]
    arps = [(p[ARP].op, p[ARP].psrc, p[ARP].pdst) for p in sent if ARP in p]
    address = "192.0.2.1"
    assert arps == [(1, "0.0.0.0", address), *[(1, address, address), (2, address, address)] * 3]
    ndps = [(type(p[IPv6].payload), p[IPv6].src, p[IPv6].dst) for p in sent if IPv6 in p]
    announcement = (ICMPv6ND_NA, "fe80::1", "ff02::1")
    assert ndps == [(ICMPv6ND_NS, "::", "ff02::1:ff00:1"), *[announcement] * 3]


def test_all_agree_and_each_address_has_one_holder() -> None:
    segment = started(A, B, C)
    assert now_held(segment) == expected(A, B, C)
    assert {len(holders) for holders in now_held(segment).values()} == {1}
    for address in (V4[0], V6[0]):
        assert replies(segment, address) == segment.holders(address)


def test_a_node_that_comes_takes_only_its_own() -> None:
    segment = Segment(A, B, C)
    for name in (A, B):
        segment[name].start(SERVICES)
    segment.run(10)
    before = now_held(segment)
    segment[C].start(SERVICES)
    segment.run(10)
    after = now_held(segment)
    assert after == expected(A, B, C)
    assert {address for address in ALL if after[address] != before[address]} == set(those_of(C, A, B, C))


def test_nodes_that_start_together_take_nothing_from_each_other() -> None:
    segment = Segment(A, B, C)
    claimed: Counter[PackedAddress] = Counter()
    for name, seconds in ((A, 1.5), (B, 1.5), (C, 12)):
        segment[name].start(SERVICES)
        segment.run(seconds)
    for address in V4:
        claims = {
            name
            for _, name, frame in segment.log
            for arp in [frames.parse_arp(frame[14:])]
            if arp and arp.sender == address
        }
        claimed[address] = len(claims)
    assert set(claimed.values()) == {1}


# --- the end of a node ---


def test_a_dead_node_is_replaced_in_seconds_and_nothing_else_moves() -> None:
    segment = started(A, B, C)
    segment[B].crash()
    segment.run(5.5)
    survivors = {a: [n for n in h if n != B] for a, h in expected(A, B, C).items() if h != [B]}
    assert now_held(segment) == {**survivors, **{a: expected(A, C)[a] for a in those_of(B, A, B, C)}}
    assert now_held(segment) == expected(A, C)


def test_it_comes_back_and_has_its_own_again() -> None:
    segment = started(A, B)
    segment[B].crash()
    segment.run(60)
    segment[B].kernel = True
    segment[B].start(SERVICES)
    segment.run(10)
    assert now_held(segment) == expected(A, B)


@pytest.mark.parametrize("end", [Node.terminate, Node.kill], ids=["SIGTERM", "SIGKILL"])
@pytest.mark.parametrize("away", [0.1, 3, 12, 25])
def test_a_daemon_that_comes_back_in_time_loses_no_address(end: Callable[[Node], None], away: float) -> None:
    segment = started(A, B, C)
    mark = segment.now
    end(segment[B])
    segment.run(away)
    assert now_held(segment) == {a: [n for n in h if n != B] for a, h in expected(A, B, C).items()}
    segment[B].start()
    segment.run(0.5)  # loading its programs takes a while
    segment[B].apply(SERVICES)
    segment.run(2.5)
    assert now_held(segment) == expected(A, B, C)
    for name in (A, C):  # nor did anybody try to take one
        taken = [frame for frame in segment.sent(mark, name) if claims_any(frame, those_of(B, A, B, C))]
        assert taken == []


def claims_any(frame: bytes, addresses: list[PackedAddress]) -> bool:
    arp = frames.parse_arp(frame[14:])
    return arp is not None and arp.sender in addresses


@pytest.mark.parametrize("end", [Node.terminate, Node.kill], ids=["SIGTERM", "SIGKILL"])
def test_a_daemon_that_stays_away_loses_its_addresses(end: Callable[[Node], None]) -> None:
    segment = started(A, B)
    end(segment[B])
    segment.run(28)
    assert now_held(segment) == {a: [n for n in h if n != B] for a, h in expected(A, B).items()}
    segment.run(5)
    assert now_held(segment) == expected(A)


def test_a_machine_that_goes_down_after_its_daemon_is_replaced_in_seconds() -> None:
    segment = started(A, B)
    segment[B].terminate()
    segment.run(2)
    segment[B].crash()
    segment.run(5.5)
    assert now_held(segment) == expected(A)


def test_a_daemon_that_never_gets_ready_loses_its_addresses() -> None:
    segment = started(A, B)
    segment[B].kill()
    segment[B].start()  # and its plane can't apply anything
    segment.run(35)
    assert now_held(segment) == expected(A)


def test_who_leaves_is_replaced_at_once() -> None:
    segment = started(A, B)
    segment[B].kill()
    leaving = Heartbeat(B, group_id("test"), b"cleaning", State.LEAVING)
    segment.put(segment[B], leaving.frame(segment[B].interface.mac))
    segment.run(1)
    assert now_held(segment) == expected(A)


def test_a_newcomer_leaves_their_addresses_to_those_that_are_kept() -> None:
    segment = Segment(A, B, C)
    for name in (A, B):
        segment[name].start(SERVICES)
    segment.run(10)
    segment[B].kill()
    segment.run(5)
    segment[C].start(SERVICES)
    segment.run(10)
    assert now_held(segment) == {a: [n for n in h if n != B] for a, h in expected(A, B, C).items()}
    segment[B].start(SERVICES)
    segment.run(3)
    assert now_held(segment) == expected(A, B, C)


# --- what services want ---


def test_addresses_come_and_go_with_their_services() -> None:
    segment = started(A, B)
    for node in segment.nodes.values():
        node.apply(change(removed=["ns/s0"]), change(balanced("new", [ip("192.0.2.200")])))
    segment.run(2)
    assert segment.holders(V4[0]) == []
    assert segment.holders(ip("192.0.2.200")) == [holder(ip("192.0.2.200"), [A, B])]
    assert replies(segment, V4[0]) == []


def test_local_ones_follow_their_endpoints() -> None:
    segment = started(A, B)
    other = {A: B, B: A}
    home = holder(V4[0], [A, B])
    assert home
    for node, holders in ((other[home], [other[home]]), (home, [home]), ("elsewhere", [])):
        local = [Endpoint("e", (ip("10.0.0.1"),), node=node)]
        for each in segment.nodes.values():
            each.apply(change(balanced("s0", [V4[0]], local, local=True)))
        segment.run(2)
        assert segment.holders(V4[0]) == holders


def test_groups_are_joined_while_addresses_are_held() -> None:
    """Two addresses may be heard of by one group."""
    one, two = ip("2001:db8::1"), ip("2001:db8:f::1")
    group = ndp.solicited_node(one)
    segment = started(A, services=change(balanced("a", [one]), balanced("b", [two])))
    assert segment[A].groups == {group}
    segment[A].apply(change(removed=["ns/a"]))
    segment.run(1)
    assert segment[A].groups == {group}
    segment[A].apply(change(removed=["ns/b"]))
    segment.run(1)
    assert segment[A].groups == set()


def test_many_addresses_are_taken_over_without_a_flood() -> None:
    many = [PackedAddress((10 << 24 | number).to_bytes(4, "big")) for number in range(2000)]
    services = change(balanced("many", many))
    segment = started(A, B, services=services, seconds=30)
    assert len(segment[A].held) + len(segment[B].held) == len(many)
    segment[B].crash()
    mark = segment.now
    segment.run(30)
    assert len(segment[A].held) == len(many)
    by_second = Counter(int(at) for at, name, _ in segment.log if at >= mark and name == A)
    assert max(by_second.values()) <= 2 * 550 + 20


# --- others on the segment ---


def test_what_somebody_else_has_is_left_to_them(caplog: pytest.LogCaptureFixture) -> None:
    segment = Segment(A)
    segment[A].start(SERVICES)
    taken = Arp(Operation.REPLY, STRANGER, V4[0], Mac(bytes(6)), ip("0.0.0.0")).frame(BROADCAST)
    told = ndp.neighbour_announcement(V6[0], STRANGER, ip("fe80::99"))
    for _ in range(100):
        segment.run(0.1)
        segment.put(None, taken)
        segment.put(None, told)
    assert segment.holders(V4[0]) == segment.holders(V6[0]) == []
    assert segment.holders(V4[1]) == [A]
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert sorted(warnings) == [
        f"{text} on eth0: 02:ff:ff:ff:ff:ff has it, so it is not announced; give one of them another address"
        for text in ("192.0.2.1", "2001:db8::1")
    ]
    # They let it go, and in half a minute at the latest it is ours.
    segment.run(32)
    assert segment.holders(V4[0]) == segment.holders(V6[0]) == [A]


def test_what_we_have_we_keep_and_say_so_once(caplog: pytest.LogCaptureFixture) -> None:
    segment = started(A)
    claim = Arp(Operation.REQUEST, STRANGER, V4[0], Mac(bytes(6)), V4[0]).frame(BROADCAST)
    for _ in range(50):
        segment.put(None, claim)
        segment.run(0.1)
    assert replies(segment, V4[0]) == [A]
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING] == [
        "192.0.2.1 on eth0: 02:ff:ff:ff:ff:ff answers for it too; give one of them another address"
    ]


def test_probes_are_answered_so_that_duplicates_are_noticed() -> None:
    segment = started(A)
    mark = len(segment.log)
    segment.put(None, frames.arp_probe(V4[0], STRANGER))
    segment.put(None, ndp.neighbour_probe(V6[0], STRANGER))
    segment.run(0)
    arp, advertisement = (Ether(frame) for _, name, frame in segment.log[mark:] if name == A)
    assert (arp[ARP].op, arp[ARP].psrc, arp.dst) == (2, "192.0.2.1", STRANGER.hex(":"))
    assert (advertisement[ICMPv6ND_NA].S, advertisement[IPv6].dst) == (0, "ff02::1")


def test_nodes_own_addresses_are_never_announced(caplog: pytest.LogCaptureFixture) -> None:
    """A Gateway may ask for any address."""
    segment = Segment(A, B)
    of_b = segment[B].interface.addresses
    elsewhere = ip("192.0.2.250")  # on another interface of the node's
    segment[A].interface = replace(segment[A].interface, taken=segment[A].interface.taken | {elsewhere})
    for node in segment.nodes.values():
        node.start(change(balanced("gw.tcp", [*of_b, elsewhere])))
    segment.run(10)
    assert [segment.holders(address) for address in of_b] == [[], [], []]
    assert A not in segment.holders(elsewhere)
    assert "203.0.113.2 is not announced on eth0: it is a node's own address" in caplog.text
    segment[B].crash()
    segment.run(10)
    assert [segment.holders(address) for address in of_b] == [[], [], []], "it will be back"


def test_another_group_is_another_cluster() -> None:
    segment = Segment(A, B)
    segment[A].start(SERVICES, group="one")
    segment[B].start(SERVICES, group="two")
    segment.run(3)
    # Both have all of these, so that each sees the other's answers: nothing that is configured so.
    assert segment[A].announcer
    segment[B].kill()
    segment.run(10)
    assert now_held(segment) == expected(A)


def test_strange_heartbeats_are_told_of_once_and_change_nothing(caplog: pytest.LogCaptureFixture) -> None:
    segment = started(A)
    caplog.clear()
    twin = Heartbeat(A, group_id("test"), b"the-twin", State.READY)
    alien = Heartbeat("alien", group_id("other"), b"an-alien", State.READY)
    caplog.set_level(logging.INFO)
    for _ in range(5):
        segment.put(None, twin.frame(STRANGER))
        segment.put(None, alien.frame(STRANGER))
        segment.put(None, frames.Ethernet(BROADCAST, STRANGER, 0x88B5, b"BLXT\x07").pack())
        segment.run(1)
    assert [(r.levelno, r.getMessage()) for r in caplog.records] == [
        (30, "eth0: 02:ff:ff:ff:ff:ff is also called node1; give each node its own --node-name"),
        (20, "eth0: another --announce-group is there too, that of alien"),
        (30, "eth0: 02:ff:ff:ff:ff:ff sends heartbeats that can't be read"),
    ]
    assert now_held(segment) == expected(A)


# --- a segment that falls apart, and a process that sleeps ---


def test_two_halves_of_a_segment_meet_again() -> None:
    segment = started(A, B)
    segment.split = {B}
    segment.run(20)
    assert now_held(segment) == {address: [A, B] for address in ALL}
    segment.split = set()
    mark = segment.now
    segment.run(5)
    assert now_held(segment) == expected(A, B)
    # Who was in the other half has heard otherwise: the last word is the holder's.
    for address in V4:
        told = [
            name
            for at, name, frame in segment.log
            if at >= mark and (arp := frames.parse_arp(frame[14:])) and arp.sender == arp.target == address
        ]
        assert told[-1:] == expected(A, B)[address]


def test_a_process_that_slept_does_not_take_the_others_for_dead() -> None:
    segment = started(A, B)
    sleeper = segment[A]
    announcer, due = sleeper.announcer, sleeper.due
    sleeper.kill()
    segment.run(20)
    assert segment.holders(those_of(A, A, B)[0]) == [], "its kernel lives, so it is waited for"
    sleeper.announcer, sleeper.due = announcer, due
    mark = segment.now
    segment.run(3)
    assert now_held(segment) == expected(A, B)
    taken = [frame for frame in segment.sent(mark, A) if claims_any(frame, those_of(B, A, B))]
    assert taken == []


def test_an_interface_that_went_away_is_begun_with_anew() -> None:
    segment = started(A, B)
    announcer = segment[A].announcer
    assert announcer
    announcer.detach()
    assert segment[A].held == set()
    assert announcer.tick(segment.now) == float("inf")
    assert not announcer.receive(frames.arp_probe(V4[0], STRANGER), segment.now)
    announcer.stop()
    segment.run(10)
    segment[A].groups.clear()
    announcer.attach(segment[A].interface, segment[A], segment.now)
    segment[A].due = segment.now
    segment.run(2)
    assert now_held(segment) == expected(A, B)


def test_another_mac_is_announced() -> None:
    segment = started(A)
    node = segment[A]
    mac = Mac(bytes.fromhex("020000000077"))
    node.interface = replace(node.interface, mac=mac)
    mark = segment.now
    assert node.announcer
    node.announcer.update(node.interface, segment.now)
    node.due = segment.now
    segment.run(1)
    arps = [frames.parse_arp(frame[14:]) for frame in segment.sent(mark, A)]
    told = {arp.sender for arp in arps if arp and arp.sender_mac == mac}
    assert told >= set(V4)


def test_log_lines_are_few(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    segment = started(A, B)
    lines = [record.getMessage() for record in caplog.records]
    assert "eth0: node1 may announce addresses" in lines
    named = [line for line in lines if line.startswith("announcing ")]
    assert all(line.endswith(" on eth0") for line in named)
    assert any("more addresses" in line for line in named)
    caplog.clear()
    for node in segment.nodes.values():
        node.apply(change(removed=["ns/s0"]))
    segment[B].crash()
    segment.run(10)
    lines = [record.getMessage() for record in caplog.records]
    assert "eth0: node2 may announce no more" in lines
    assert len(lines) < 15
