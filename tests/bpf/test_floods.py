"""Floods of new flows, and tables and ports that are all taken: connections go on, and drops are counted.

Through the kernel alone, which is quick: each packet's rules are compared elsewhere. The tables have hardly
more room than the kernel's LRU maps want for themselves, and the floods have many times that.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

import pytest

from blixt_model.comparison import Comparison
from blixt_model.family import TCP, UDP, Family
from blixt_model.frames import Shape, frame
from blixt_model.kernel import CONNECTIONS, EMBRYOS, Kernel, Run
from blixt_model.network import LINKS, Network, inside, mac, packed
from blixt_model.parse import parse
from blixt_model.scene import POD, REMOTE, Scene, port_of
from blixt_model.tables import DropReason, Flow, partner_of
from blixt_model.ways import Hook, Settings, Verdict

pytestmark = pytest.mark.bpf

SYN, SYN_ACK, ACK, RST_ACK, FIN_ACK = 0x02, 0x12, 0x10, 0x14, 0x11
FLOOD = 8 * EMBRYOS
#: An LRU map gives up entries before it is full: each CPU takes free ones in bundles.
TALKING = CONNECTIONS // 16
#: For closed connections, in the roomy scene.
PLACES = CONNECTIONS // 8
BOTH = pytest.mark.parametrize("protocol", [TCP, UDP], ids=["TCP", "UDP"])
_MACS = {link.name: mac(link.mac) for link in LINKS}


class Flood(Enum):
    """What becomes of its packets."""

    UNANSWERED = "nothing"
    ANSWERED = "each is answered, and nothing more"
    REFUSED = "each is answered, and that with a reset"


@dataclass(slots=True)
class Sender:
    """Packets to one service of a scene's tables, and what comes back."""

    scene: Scene
    service: int
    protocol: int

    def client_s(self, client: bytes, port: int, flags: int = SYN) -> Run:
        names = self.scene.names
        flow = Flow(client, packed(names.vip), port, port_of(self.service), self.protocol)
        return self._run(Hook.UPLINK_INGRESS, "uplink0", flow, flags)

    def answer(self, sent: Run, flags: int = SYN_ACK) -> Run:
        packet = parse(sent.packet, self.scene.family)
        assert packet is not None
        local = self.service == POD
        hook, device = (Hook.POD_INGRESS, "pod0") if local else (Hook.UPLINK_INGRESS, "uplink0")
        return self._run(hook, device, partner_of(packet.flow), flags)

    def establish(self, client: bytes, port: int) -> Run:
        """What became of its first packet."""
        opened = self.client_s(client, port)
        self.answer(opened)
        assert self.client_s(client, port, ACK).verdict == Verdict.REDIRECT
        return opened

    def _run(self, hook: Hook, device: str, flow: Flow, flags: int) -> Run:
        raw = frame(Shape(self.scene.family, flow, tcp_flags=flags, payload=b"x" * 20))
        comparison = self.scene.comparison
        ifindex = comparison.network.ifindexes[device]
        return comparison.kernel.run(hook, _MACS[device] + raw[6:], ifindex, came_in_by=ifindex)


@pytest.fixture
def roomy(family: Family, settings: Settings, known_network: Network, kernel: Kernel) -> Iterator[Scene]:
    """With as many places for closed connections as a node has, for the size of its table."""
    many = replace(settings, closing_count=PLACES)
    loaded = Kernel(kernel.path, family, many)
    try:
        with inside(known_network.name):
            yield Scene(Comparison(loaded, known_network, many))
    finally:
        loaded.close()


def sources(scene: Scene) -> Iterator[tuple[bytes, int]]:
    """Random addresses of clients' networks, with random ports."""
    choose = random.Random(5)
    network = packed(scene.names.client)[:-3]
    while True:
        yield network + choose.randbytes(3), choose.randrange(1024, 65536)


def flood(sender: Sender, kind: Flood, packets: int = FLOOD) -> int:
    """How many were sent on."""
    sent_on = 0
    for (client, port), _ in zip(sources(sender.scene), range(packets), strict=False):
        sent = sender.client_s(client, port)
        sent_on += sent.verdict == Verdict.REDIRECT
        if kind is not Flood.UNANSWERED and sent.verdict == Verdict.REDIRECT:
            sender.answer(sent, SYN_ACK if kind is Flood.ANSWERED else RST_ACK)
    return sent_on


def clients(scene: Scene, count: int) -> list[tuple[bytes, int]]:
    return [(packed(scene.names.other_client), 20000 + number) for number in range(count)]


def assert_all_go_on(sender: Sender, opened: dict[tuple[bytes, int], Run]) -> None:
    """Each connection's packets become what they were, both ways."""
    entries = sender.scene.comparison.kernel.connections()
    assert len(entries) >= 2 * len(opened)
    for (client, port), first in opened.items():
        again = sender.client_s(client, port, ACK)
        assert again.verdict == Verdict.REDIRECT
        assert ends(sender.scene, again) == ends(sender.scene, first)
        back = sender.answer(first, ACK)
        vip = packed(sender.scene.names.vip)
        assert back.verdict == Verdict.REDIRECT
        assert ends(sender.scene, back) == Flow(vip, client, port_of(sender.service), port, sender.protocol)


def ends(scene: Scene, run: Run) -> Flow:
    packet = parse(run.packet, scene.family)
    assert packet is not None
    return packet.flow


@BOTH
@pytest.mark.parametrize("kind", list(Flood), ids=lambda kind: kind.value)
def test_a_flood_of_new_flows_throws_out_no_connection(scene: Scene, protocol: int, kind: Flood) -> None:
    """Idle ones: nothing of theirs is used meanwhile."""
    sender = Sender(scene, POD, protocol)
    opened = {client: sender.establish(*client) for client in clients(scene, TALKING)}
    before = scene.comparison.kernel.connections().keys()
    assert flood(sender, kind) == FLOOD
    assert scene.comparison.kernel.connections().keys() == before
    assert len(scene.comparison.kernel.embryos()) > EMBRYOS // 2
    assert_all_go_on(sender, opened)
    assert scene.comparison.kernel.drops() == {}


def test_connections_are_opened_during_a_flood(scene: Scene) -> None:
    sender = Sender(scene, POD, TCP)
    opened = {}
    for client in clients(scene, TALKING):
        flood(sender, Flood.ANSWERED, EMBRYOS // 4)
        opened[client] = sender.establish(*client)
    assert_all_go_on(sender, opened)


@BOTH
def test_where_connections_are_too_many_those_not_used_go(scene: Scene, protocol: int) -> None:
    """The table is full, of connections; no packet is dropped for that."""
    sender = Sender(scene, POD, protocol)
    talking = {client: sender.establish(*client) for client in clients(scene, TALKING)}
    for (client, port), number in zip(sources(scene), range(2 * CONNECTIONS), strict=False):
        sender.establish(client, port)
        if number % (CONNECTIONS // 16) == 0:
            assert_all_go_on(sender, talking)
    assert_all_go_on(sender, talking)
    assert scene.comparison.kernel.drops() == {}


def test_connections_that_come_and_go_throw_out_none_that_is_idle(roomy: Scene) -> None:
    """However many, and whoever ends them; what is closed goes first."""
    sender = Sender(roomy, POD, TCP)
    kernel = roomy.comparison.kernel
    idle = {client: sender.establish(*client) for client in clients(roomy, TALKING)}
    theirs = kernel.connections().keys()
    for (client, port), number in zip(sources(roomy), range(4 * CONNECTIONS), strict=False):
        opened = sender.establish(client, port)
        if number % 3:
            sender.client_s(client, port, FIN_ACK)
        sender.answer(opened, FIN_ACK if number % 3 else RST_ACK)
        if number % (PLACES // 2) == 0:
            kernel.age_closed(3)
    assert theirs <= kernel.connections().keys()
    assert_all_go_on(sender, idle)


def test_a_connection_closed_just_now_serves_what_comes_late(roomy: Scene) -> None:
    sender = Sender(roomy, POD, TCP)
    opened = {}
    for client, port in clients(roomy, PLACES + 10):
        opened[client, port] = sender.establish(client, port)
        sender.client_s(client, port, FIN_ACK)
        sender.answer(opened[client, port], FIN_ACK)
    assert_all_go_on(sender, opened)


@BOTH
def test_where_no_port_is_left_connections_go_on_and_the_rest_is_counted(
    scene: Scene, protocol: int, settings_ports: range
) -> None:
    sender = Sender(scene, REMOTE, protocol)
    opened = {client: sender.establish(*client) for client in clients(scene, len(settings_ports))}
    assert {ends(scene, first).source_port for first in opened.values()} == set(settings_ports)
    assert flood(sender, Flood.UNANSWERED, 500) == 0
    assert_all_go_on(sender, opened)
    assert scene.comparison.kernel.drops() == {DropReason.PORTS_EXHAUSTED: 500}


def test_flows_that_hold_the_last_ports_and_are_not_answered_are_no_connections(
    scene: Scene, settings_ports: range
) -> None:
    """One port is a connection's, the flood has the others, and hands them on."""
    sender = Sender(scene, REMOTE, TCP)
    (client,) = clients(scene, 1)
    opened = {client: sender.establish(*client)}
    assert flood(sender, Flood.UNANSWERED, 200) == len(settings_ports) - 1
    scene.comparison.kernel.age_embryos(3)
    assert flood(sender, Flood.UNANSWERED, 200) == len(settings_ports) - 1
    assert_all_go_on(sender, opened)
    dropped = 2 * (200 - len(settings_ports) + 1)
    assert scene.comparison.kernel.drops() == {DropReason.PORTS_EXHAUSTED: dropped}
