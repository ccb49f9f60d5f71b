"""Rule 5: the way on, and sending a packet along it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, IntEnum

from blixt_model.family import Family
from blixt_model.tables import Changes, DeviceFlag, Tables, Via, Way


class Hook(Enum):
    """A program, by its name in the object."""

    UPLINK_INGRESS = "uplink_ingress"
    POD_INGRESS = "pod_ingress"
    NODE_EGRESS = "node_egress"
    UPLINK_XDP = "uplink_xdp"


class Verdict(IntEnum):
    """Of the TC programs."""

    NEXT = -1
    DROP = 2
    REDIRECT = 7


class XdpVerdict(IntEnum):
    PASS = 2
    TX = 3
    REDIRECT = 4


@dataclass(frozen=True, slots=True)
class Route:
    """What the kernel's routing says of an address. Without `to_mac`, the neighbour isn't known."""

    device: int
    mtu: int
    from_mac: bytes
    to_mac: bytes | None


#: None: nothing to forward to (this node's own address, no route, ...).
Fib = Callable[[bytes], Route | None]


@dataclass(frozen=True, slots=True)
class Settings:
    """The objects' constants. Ports are masqueraded to `port_first` and the `port_count - 1` after it."""

    hash_seed: int
    port_first: int
    port_count: int
    hint_count: int
    closing_count: int


@dataclass(frozen=True, slots=True)
class Circumstances:
    """All that a program's result depends on besides the packet and the tables."""

    family: Family
    hook: Hook
    #: ifindex of the device that the packet came in by; in NODE_EGRESS, that it leaves by.
    device: int
    tick: int
    fib: Fib
    settings: Settings
    #: That device's own.
    mac: bytes = bytes(6)
    #: ifindex that the packet came into the node by; 0: born here.
    came_in_by: int = 0
    #: The endpoint that another node has chosen for what was in a tunnel; 0: it was in none.
    arrived_for: int = 0
    #: Bytes of payload in a segment of a GSO packet; 0: not one.
    gso_size: int = 0

    @property
    def from_outside(self) -> bool:
        """The client is in the network, and this node is the first that its packet comes to."""
        return self.hook is Hook.UPLINK_INGRESS and not self.arrived_for


@dataclass(frozen=True, slots=True)
class Outcome:
    """`redirect` is the ifindex that a redirected packet goes to, None for other verdicts."""

    verdict: Verdict | XdpVerdict
    packet: bytes
    changes: Changes = field(default_factory=Changes)
    redirect: int | None = None


def way_to(destination: bytes, now: Circumstances, tables: Tables) -> Way:
    route = now.fib(destination)
    if route is None:
        return Way()
    device = tables.devices.get(route.device)
    ingress = now.hook is not Hook.NODE_EGRESS
    is_peer = ingress and device is not None and bool(device.flags & DeviceFlag.PEER)
    if route.to_mac is None:
        return Way(Via.PEER if is_peer else Via.NEIGHBOUR, route.device)
    via = Via.PEER if is_peer else Via.DEVICE
    return Way(via, route.device, route.mtu, route.to_mac, route.from_mac)


def send(packet: bytes, way: Way, now: Circumstances, changes: Changes) -> Outcome:
    if way.via == Via.STACK:
        return Outcome(Verdict.NEXT, packet, changes)
    if way.via != Via.NEIGHBOUR and way.to_mac != bytes(6):
        packet = way.to_mac + way.from_mac + packet[12:]
    if way.via == Via.DEVICE and now.hook is Hook.NODE_EGRESS and way.device == now.device:
        return Outcome(Verdict.NEXT, packet, changes)
    return Outcome(Verdict.REDIRECT, packet, changes, way.device)
