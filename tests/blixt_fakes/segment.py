"""A segment with nodes on it whose time is a number: announcers, and the kernels under them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from math import inf
from random import Random

from blixt_backend.announce import frames, ndp
from blixt_backend.announce.announcer import Announcer
from blixt_backend.announce.frames import ETHERTYPE_ARP, ETHERTYPE_IPV6, Mac, Operation
from blixt_backend.announce.interface import Interface
from blixt_backend.announce.ndp import Solicitation
from blixt_backend.announce.session import Identity
from blixt_backend.model import ChangeSet, Endpoint, PackedAddress, Service, ServiceView


def ip(text: str) -> PackedAddress:
    return PackedAddress(ip_address(text).packed)


def balanced(
    name: str,
    addresses: Iterable[PackedAddress],
    endpoints: Sequence[Endpoint] = (),
    *,
    local: bool = False,
    announce: bool = True,
) -> ServiceView:
    """A service with load balancer IPs."""
    service = Service(
        "ns",
        name,
        type="LoadBalancer",
        load_balancer_ips=tuple(addresses),
        external_traffic_local=local,
        announce=announce,
    )
    return ServiceView(service, tuple(endpoints))


def change(*views: ServiceView, removed: Sequence[str] = (), resync: bool = False) -> ChangeSet:
    """What a plane has applied."""
    changed = {view.service.path: view for view in views}
    return ChangeSet(changed, frozenset(removed), changed, resync=resync)


@dataclass
class Node:
    """A node: its kernel lives while `kernel`, its daemon while there is an announcer."""

    segment: Segment
    name: str
    interface: Interface
    kernel: bool = True
    announcer: Announcer | None = None
    due: float = inf
    starts: int = 0
    groups: set[PackedAddress] = field(default_factory=set)

    def start(self, *applied: ChangeSet, group: str = "test") -> None:
        """A new process of the daemon, whose plane has applied these changes."""
        self.starts += 1
        boot = f"{self.name}{self.starts}".encode().ljust(8)[:8]
        self.groups.clear()
        self.announcer = Announcer(Identity(self.name, group, boot), random=self.segment.random)
        self.announcer.attach(self.interface, self, self.segment.now)
        for each in applied:
            self.announcer.applied(each)
        self.due = self.segment.now

    def apply(self, *changes: ChangeSet) -> None:
        assert self.announcer
        for each in changes:
            self.announcer.applied(each)
        self.due = self.segment.now

    def terminate(self) -> None:
        """SIGTERM."""
        if self.announcer:
            self.announcer.stop()
        self.kill()

    def kill(self) -> None:
        """SIGKILL."""
        self.announcer, self.due = None, inf

    def crash(self) -> None:
        """The whole machine, at once."""
        self.kill()
        self.kernel = False

    @property
    def held(self) -> set[PackedAddress]:
        return set(self.announcer.held) if self.announcer else set()

    # As the announcer's wire.

    def send(self, frame: bytes) -> None:
        self.segment.put(self, frame)

    def join(self, group: PackedAddress) -> None:
        assert group not in self.groups
        self.groups.add(group)

    def leave(self, group: PackedAddress) -> None:
        self.groups.remove(group)


class Segment:
    """Frames reach all others at once, unless their nodes are on different sides of a `split`."""

    def __init__(self, *names: str, seed: int = 0) -> None:
        self.now = 1000.0
        self.random = Random(seed)
        self.nodes = {name: self._node(number, name) for number, name in enumerate(names, 1)}
        #: Nodes that are on the other side.
        self.split: set[str] = set()
        #: (time, sender's name or "", frame), of all that was sent.
        self.log: list[tuple[float, str, bytes]] = []
        self._queue: deque[tuple[Node | None, bytes]] = deque()

    def _node(self, number: int, name: str) -> Node:
        own = (ip(f"203.0.113.{number}"), ip(f"fe80::{number:x}"), ip(f"2001:db8:1::{number:x}"))
        mac = Mac(bytes((2, 0, 0, 0, number >> 8, number & 255)))
        return Node(self, name, Interface("eth0", 2, mac, own, frozenset(own)))

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def put(self, sender: Node | None, frame: bytes) -> None:
        """Send a frame; without a sender, as a host that is no node."""
        self.log.append((self.now, sender.name if sender else "", frame))
        self._queue.append((sender, frame))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        ticks = 0
        while True:
            self._deliver()
            due = min(node.due for node in self.nodes.values())
            if due > end:
                break
            assert (ticks := ticks + 1) < 200_000, "time stands still"
            self.now = max(self.now, due)
            for node in self.nodes.values():
                if node.due <= self.now and node.announcer:
                    node.due = node.announcer.tick(self.now)
        self.now = end

    def holders(self, address: PackedAddress) -> list[str]:
        """Who answers for an address."""
        return [node.name for node in self.nodes.values() if address in node.held]

    def sent(self, since: float, sender: str) -> list[bytes]:
        return [frame for at, name, frame in self.log if at >= since and name == sender]

    def _deliver(self) -> None:
        while self._queue:
            sender, frame = self._queue.popleft()
            for node in self.nodes.values():
                if node is sender or (sender and (node.name in self.split) != (sender.name in self.split)):
                    continue
                to = Mac(frame[:6])
                if not node.kernel or not (to[0] & 1 or to == node.interface.mac):
                    continue
                self._answer_as_kernel(node, frame)
                if node.announcer and node.announcer.receive(frame, self.now):
                    node.due = self.now

    def _answer_as_kernel(self, node: Node, raw: bytes) -> None:
        """What a kernel does with questions for its own addresses."""
        frame = frames.parse_ethernet(raw)
        assert frame
        if frame.ethertype == ETHERTYPE_ARP:
            arp = frames.parse_arp(frame.payload)
            if arp and arp.operation is Operation.REQUEST and arp.target in node.interface.addresses:
                self.put(node, frames.arp_answer(arp, node.interface.mac))
        elif frame.ethertype == ETHERTYPE_IPV6:
            message = ndp.parse_ndp(frame)
            if isinstance(message, Solicitation) and message.target in node.interface.addresses:
                self.put(node, ndp.neighbour_answer(message, node.interface.mac, message.target))
