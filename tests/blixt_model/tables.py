"""The tables of the packet path: what bpf/maps.h holds, as dictionaries of small values.

Addresses are packed in network byte order, ports are plain numbers, times are ticks.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum, IntEnum, IntFlag
from ipaddress import ip_address

ENDPOINT_REJECT = 0


class ServiceFlag(IntFlag):
    SOURCE_RANGES = 1
    DROP_INSIDE = 2
    DROP_OUTSIDE = 4
    DROP_UDP_REJECTS = 8
    MAGLEV = 16
    LEAST_CONNECTIONS = 32


class EndpointFlag(IntFlag):
    LIVE = 1
    LOCAL = 2
    DRAINING = 4
    SILENT = 8
    COUNTED = 16
    TUNNELLED = 32


class DeviceFlag(IntFlag):
    UPLINK = 1
    POD = 2
    PEER = 4
    MASQUERADE = 8


class ConnectionFlag(IntFlag):
    REPLY = 1
    MASQUERADED = 2
    FIN_CLIENT = 4
    FIN_ENDPOINT = 8
    RESET = 16
    ANSWERED = 32
    COUNTED = 64
    TUNNELLED = 128


CLOSED_BY_BOTH = ConnectionFlag.FIN_CLIENT | ConnectionFlag.FIN_ENDPOINT


class Via(IntEnum):
    STACK = 0
    DEVICE = 1
    NEIGHBOUR = 2
    PEER = 3


class Opening(IntEnum):
    """Which packets find a service."""

    ALL = 0
    STARTS = 1
    NOTHING = 2


class DropReason(IntEnum):
    NO_ENDPOINT = 1
    REJECT_SHARE = 2
    POLICY_LOCAL = 3
    SOURCE_RANGE = 4
    ENDPOINT_GONE = 5
    PORTS_EXHAUSTED = 6
    NO_MASQUERADE_ADDRESS = 7
    CONNECTIONS_FULL = 8
    TOO_BIG = 9
    FRAGMENT = 10
    UNDEFINED_PORT = 11
    UNALLOCATED = 12
    NO_WAY = 13
    NO_NODE = 14


@dataclass(frozen=True, slots=True)
class Flow:
    source: bytes
    destination: bytes
    source_port: int
    destination_port: int
    protocol: int

    def __repr__(self) -> str:
        source, destination = ip_address(self.source), ip_address(self.destination)
        return f"<{source} {self.source_port} to {destination} {self.destination_port}, {self.protocol}>"


@dataclass(frozen=True, slots=True)
class Frontend:
    address: bytes
    port: int
    protocol: int


@dataclass(frozen=True, slots=True)
class SlotRange:
    first: int = 0
    count: int = 0


@dataclass(frozen=True, slots=True)
class Service:
    id: int
    flags: int = 0
    inside: SlotRange = SlotRange()
    outside: SlotRange = SlotRange()
    affinity_ticks: int = 0


@dataclass(frozen=True, slots=True)
class Slot:
    threshold: int = 0
    endpoint: int = ENDPOINT_REJECT
    alias: int = ENDPOINT_REJECT


@dataclass(frozen=True, slots=True)
class SlotWeights:
    """Stands in a slot's place, behind the one whose two endpoints it is about."""

    endpoint: int
    alias: int


@dataclass(frozen=True, slots=True)
class Load:
    """Open connections of an endpoint of this generation."""

    generation: int = 0
    open: int = 0


@dataclass(frozen=True, slots=True)
class Endpoint:
    address: bytes
    port: int
    flags: int
    generation: int
    service: int

    @property
    def live(self) -> bool:
        return bool(self.flags & EndpointFlag.LIVE)

    @property
    def draining(self) -> bool:
        return bool(self.flags & EndpointFlag.DRAINING)

    @property
    def silent(self) -> bool:
        return bool(self.flags & EndpointFlag.SILENT)


@dataclass(frozen=True, slots=True)
class Way:
    """How a packet goes on; the zeros of an unknown way."""

    via: Via = Via.STACK
    device: int = 0
    mtu: int = 0
    to_mac: bytes = bytes(6)
    from_mac: bytes = bytes(6)


@dataclass(frozen=True, slots=True)
class Connection:
    """What a packet of a flow becomes: the flow `becomes`, sent by `way`."""

    becomes: Flow
    endpoint: int
    generation: int
    service: int
    flags: int = 0
    seen_tick: int = 0
    way: Way = Way()
    packets: int = 0
    bytes: int = 0

    @property
    def is_reply(self) -> bool:
        return bool(self.flags & ConnectionFlag.REPLY)


@dataclass(frozen=True, slots=True)
class Embryo:
    """A flow that is no connection yet: `flow` is its client's, `way` leads to the endpoint."""

    flow: Flow
    endpoint: int
    generation: int
    service: int
    born_tick: int
    seen_tick: int
    way: Way
    flags: int = 0
    packets: int = 0
    answers: int = 0
    bytes: int = 0
    answer_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Hint:
    """Where a client's flow has its embryo. `device`: whose address it is masqueraded as, 0: its own."""

    endpoint: int
    device: int
    source_port: int
    tag: int


@dataclass(frozen=True, slots=True)
class Closing:
    """A connection that was over at `tick`, by its client's flow."""

    client: Flow
    tick: int


@dataclass(frozen=True, slots=True)
class Device:
    flags: int
    address: bytes


@dataclass(frozen=True, slots=True)
class SourceRange:
    """A network of `length` bits whose members may use the service."""

    service: int
    length: int
    address: bytes


class VacancyAnswer(IntEnum):
    REFUSED = 1
    DROPPED = 2


@dataclass(frozen=True, slots=True)
class Vacancy:
    """A network of `length` bits in which flows to no service end."""

    length: int
    address: bytes


@dataclass(frozen=True, slots=True)
class Arrival:
    """Where a tunnel leads to, and the service that what is in it is to."""

    service: int
    address: bytes


@dataclass(frozen=True, slots=True)
class NodeRange:
    """A network of `length` bits that nodes' addresses are from."""

    length: int
    address: bytes

    def has(self, address: bytes) -> bool:
        rest = len(address) * 8 - self.length
        return int.from_bytes(address, "big") >> rest == int.from_bytes(self.address, "big") >> rest


@dataclass(frozen=True, slots=True)
class AffinityKey:
    service: int
    client: bytes


@dataclass(frozen=True, slots=True)
class Affinity:
    endpoint: int
    generation: int
    seen_tick: int


@dataclass(frozen=True, slots=True)
class Datagram:
    """One that is on its way in fragments. `protocol` is 0 in IPv6."""

    source: bytes
    destination: bytes
    identification: bytes
    protocol: int


@dataclass(frozen=True, slots=True)
class FirstFragment:
    """What a datagram's first fragment told."""

    source_port: int
    destination_port: int
    protocol: int
    seen_tick: int


@dataclass(frozen=True, slots=True)
class Counters:
    connections: int = 0
    refused: int = 0
    packets_in: int = 0
    bytes_in: int = 0
    packets_out: int = 0
    bytes_out: int = 0

    def plus(self, other: Counters) -> Counters:
        return Counters(
            self.connections + other.connections,
            self.refused + other.refused,
            self.packets_in + other.packets_in,
            self.bytes_in + other.bytes_in,
            self.packets_out + other.packets_out,
            self.bytes_out + other.bytes_out,
        )


class TcpState(IntEnum):
    """The kernel's, of a flow that it tracks; NONE for UDP."""

    NONE = 0
    SYN_RECEIVED = 2
    ESTABLISHED = 3
    TIME_WAIT = 7
    CLOSE = 8


@dataclass(frozen=True, slots=True)
class KernelFlow:
    """What the kernel tracks, and translates `original`'s packets to."""

    original: Flow
    becomes: Flow
    tcp_state: TcpState = TcpState.NONE

    @property
    def translates_source(self) -> bool:
        was, now = self.original, self.becomes
        return (was.source, was.source_port) != (now.source, now.source_port)

    @property
    def translates_destination(self) -> bool:
        was, now = self.original, self.becomes
        return (was.destination, was.destination_port) != (now.destination, now.destination_port)

    @property
    def is_over(self) -> bool:
        return self.tcp_state in (TcpState.TIME_WAIT, TcpState.CLOSE)


class KeyState(Enum):
    """Whose a partner's key is that a new connection would have."""

    UNUSED = "nobody's"
    OWN = "this very connection's, whose other entry is gone"
    OVER = "a connection's that is over"
    TAKEN = "a living connection's"
    UNANSWERED = "a UDP flow's that goes on, though nothing answers it any more"
    CLIENT = "some client's packets'"
    EMBRYO_OWN = "this very flow's, which is no connection yet"
    EMBRYO_OVER = "a flow's that was reset before it was a connection"
    EMBRYO_TAKEN = "another flow's, which is no connection yet"
    EMBRYO_YIELDS = "another flow's, which is no connection yet and would give it up"
    KERNEL = "a flow's that the kernel translates"

    @property
    def is_free(self) -> bool:
        return self in (
            KeyState.UNUSED,
            KeyState.OWN,
            KeyState.OVER,
            KeyState.EMBRYO_OWN,
            KeyState.EMBRYO_OVER,
        )


@dataclass(frozen=True, slots=True)
class KeyTried:
    protocol: int
    masquerading: bool
    state: KeyState


@dataclass(slots=True)
class Changes:
    """What a packet did to the tables. A connection or an embryo that became None was deleted.

    `keys` were tried for the partner, in this order, and `left_to_kernel` is a flow that it translates:
    nothing applies them, they tell what a test has reached.
    """

    connections: dict[Flow, Connection | None] = field(default_factory=dict)
    embryos: dict[Flow, Embryo | None] = field(default_factory=dict)
    hints: dict[int, Hint] = field(default_factory=dict)
    #: The connection that is over by this packet.
    closed: Closing | None = None
    affinities: dict[AffinityKey, Affinity] = field(default_factory=dict)
    loads: dict[int, Load] = field(default_factory=dict)
    fragments: dict[Datagram, FirstFragment] = field(default_factory=dict)
    counters: dict[int, Counters] = field(default_factory=dict)
    drops: list[DropReason] = field(default_factory=list)
    keys: list[KeyTried] = field(default_factory=list)
    left_to_kernel: Flow | None = None

    def count(self, service: int, more: Counters) -> None:
        self.counters[service] = self.counters.get(service, Counters()).plus(more)


@dataclass(slots=True)
class Tables:
    services: dict[Frontend, Service] = field(default_factory=dict)
    slots: dict[int, Slot] = field(default_factory=dict)
    weights: dict[int, SlotWeights] = field(default_factory=dict)
    loads: dict[int, Load] = field(default_factory=dict)
    #: (first entry of a table, slot in it) -> endpoint.
    maglev: dict[tuple[int, int], int] = field(default_factory=dict)
    endpoints: dict[int, Endpoint] = field(default_factory=dict)
    devices: dict[int, Device] = field(default_factory=dict)
    source_ranges: set[SourceRange] = field(default_factory=set)
    vacancies: dict[Vacancy, VacancyAnswer] = field(default_factory=dict)
    connections: dict[Flow, Connection] = field(default_factory=dict)
    embryos: dict[Flow, Embryo] = field(default_factory=dict)
    hints: dict[int, Hint] = field(default_factory=dict)
    #: All that were over, in this order.
    closed: list[Closing] = field(default_factory=list)
    affinities: dict[AffinityKey, Affinity] = field(default_factory=dict)
    fragments: dict[Datagram, FirstFragment] = field(default_factory=dict)
    counters: dict[int, Counters] = field(default_factory=dict)
    drops: dict[DropReason, int] = field(default_factory=dict)
    opening: Opening = Opening.ALL
    #: -> the index of an endpoint on this node.
    arrivals: dict[Arrival, int] = field(default_factory=dict)
    node_ranges: frozenset[NodeRange] = frozenset()
    #: In the kernel's connection tracking; whether the programs ask for new flows there.
    kernel_flows: tuple[KernelFlow, ...] = ()
    kernel_asked: bool = False

    def is_node(self, address: bytes) -> bool:
        return any(entry.has(address) for entry in self.node_ranges)

    def in_source_ranges(self, service: int, client: bytes) -> bool:
        number = int.from_bytes(client, "big")
        bits = len(client) * 8
        return any(
            number >> (bits - entry.length) == int.from_bytes(entry.address, "big") >> (bits - entry.length)
            for entry in self.source_ranges
            if entry.service == service
        )

    def vacancy(self, address: bytes) -> VacancyAnswer | None:
        """What the longest prefix of the address says."""
        number, bits = int.from_bytes(address, "big"), len(address) * 8
        for length in range(bits, -1, -1):
            network = (number >> (bits - length) << (bits - length)).to_bytes(len(address), "big")
            if (answer := self.vacancies.get(Vacancy(length, network))) is not None:
                return answer
        return None

    def leads_to(self, service: Service) -> set[int]:
        """Endpoints that it may choose."""
        found = set()
        for side in (service.inside, service.outside):
            if service.flags & ServiceFlag.MAGLEV:
                found |= {self.maglev[side.first, slot] for slot in range(side.count)}
            else:
                step = 2 if service.flags & ServiceFlag.LEAST_CONNECTIONS else 1
                slots = [self.slots[side.first + slot * step] for slot in range(side.count)]
                found |= {index for slot in slots for index in (slot.endpoint, slot.alias)}
        return found

    def apply(self, changes: Changes) -> None:
        for flow, connection in changes.connections.items():
            if connection is None:
                self.connections.pop(flow, None)
            else:
                self.connections[flow] = connection
        for flow, embryo in changes.embryos.items():
            if embryo is None:
                self.embryos.pop(flow, None)
            else:
                self.embryos[flow] = embryo
        self.hints.update(changes.hints)
        if changes.closed is not None:
            self.closed.append(changes.closed)
        self.affinities.update(changes.affinities)
        self.loads.update(changes.loads)
        self.fragments.update(changes.fragments)
        for service, more in changes.counters.items():
            self.counters[service] = self.counters.get(service, Counters()).plus(more)
        for reason in changes.drops:
            self.drops[reason] = self.drops.get(reason, 0) + 1

    def known(self) -> dict[Flow, Connection]:
        """What packets of each known flow become, those that are no connections yet among them."""
        found = dict(self.connections)
        for key, embryo in self.embryos.items():
            same = Connection(partner_of(key), embryo.endpoint, embryo.generation, embryo.service)
            found[embryo.flow] = replace(same, flags=embryo.flags, seen_tick=embryo.seen_tick)
            reply = replace(same, becomes=partner_of(embryo.flow))
            found[key] = replace(reply, flags=embryo.flags | ConnectionFlag.REPLY)
        return found

    def age(self, ticks: int) -> None:
        """As if everything seen so far had been seen `ticks` earlier."""
        for flow in self.connections:
            self.age_one(flow, ticks)
        for flow, embryo in self.embryos.items():
            self.embryos[flow] = replace(
                embryo, born_tick=embryo.born_tick - ticks, seen_tick=embryo.seen_tick - ticks
            )
        self.closed = [replace(closing, tick=closing.tick - ticks) for closing in self.closed]
        for key, affinity in self.affinities.items():
            self.affinities[key] = replace(affinity, seen_tick=affinity.seen_tick - ticks)
        for datagram, first in self.fragments.items():
            self.fragments[datagram] = replace(first, seen_tick=first.seen_tick - ticks)

    def age_one(self, flow: Flow, ticks: int) -> None:
        connection = self.connections[flow]
        if connection.seen_tick:
            self.connections[flow] = replace(connection, seen_tick=connection.seen_tick - ticks)


def partner_of(becomes: Flow) -> Flow:
    """The key under which the answers to what a flow becomes are found."""
    return Flow(
        becomes.destination, becomes.source, becomes.destination_port, becomes.source_port, becomes.protocol
    )
