"""Rows as bytes: the structures of bpf/types.h for both families, packed with struct.Struct.

Addresses and ports are bytes in network byte order; every other number is in the machine's.
`FIELDS` names each structure's members in order; a test compares them with the BTF of the compiled objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from struct import Struct
from typing import Final

#: Changes with any layout in bpf/types.h or bpf/maps.h: pins of another version are never taken over.
LAYOUT_VERSION: Final = 3
TICK_SHIFT: Final = 30
ENDPOINT_REJECT: Final = 0
ALWAYS: Final = 0xFFFFFFFF
#: Slots of Maglev tables in one entry of their array.
MAGLEV_PART: Final = 16
DIGEST_BYTES: Final = 16


class ServiceFlag(IntFlag):
    SOURCE_RANGES = 1 << 0
    DROP_INSIDE = 1 << 1
    DROP_OUTSIDE = 1 << 2
    DROP_UDP_REJECTS = 1 << 3
    MAGLEV = 1 << 4
    LEAST_CONNECTIONS = 1 << 5


class EndpointFlag(IntFlag):
    LIVE = 1 << 0
    LOCAL = 1 << 1
    DRAINING = 1 << 2
    SILENT = 1 << 3
    COUNTED = 1 << 4
    TUNNELLED = 1 << 5


class ConnectionFlag(IntFlag):
    REPLY = 1 << 0
    MASQUERADED = 1 << 1
    FIN_CLIENT = 1 << 2
    FIN_ENDPOINT = 1 << 3
    RESET = 1 << 4
    ANSWERED = 1 << 5
    COUNTED = 1 << 6
    TUNNELLED = 1 << 7


class DeviceFlag(IntFlag):
    UPLINK = 1 << 0
    POD = 1 << 1
    PEER = 1 << 2
    MASQUERADE = 1 << 3


class Opening(IntEnum):
    """Which new flows become ours (bpf/opening.h)."""

    ALL = 0
    STARTS = 1
    NOTHING = 2


class VacancyAnswer(IntEnum):
    REFUSED = 1
    DROPPED = 2


class DropReason(IntEnum):
    NONE = 0
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


DROP_WORDS: Final = {
    DropReason.NO_ENDPOINT: "refused: the service has no endpoint",
    DropReason.REJECT_SHARE: "refused: the share of a backend that is not there",
    DropReason.POLICY_LOCAL: "dropped: no endpoint on this node, and the traffic policy is Local",
    DropReason.SOURCE_RANGE: "dropped: the client is in none of the service's source ranges",
    DropReason.ENDPOINT_GONE: "reset: the connection's endpoint left",
    DropReason.PORTS_EXHAUSTED: "dropped: no free source port for masquerading",
    DropReason.NO_MASQUERADE_ADDRESS: "dropped: the way out has no address of this family",
    DropReason.CONNECTIONS_FULL: "dropped: the connection could not be recorded",
    DropReason.TOO_BIG: "answered: the packet is too big for the way on",
    DropReason.FRAGMENT: "dropped: a later fragment of a datagram whose connection or endpoint is gone",
    DropReason.UNDEFINED_PORT: "refused: no service has that port of a cluster IP",
    DropReason.UNALLOCATED: "dropped: no service has that cluster IP",
    DropReason.NO_WAY: "dropped: nothing leads to the node of an endpoint that is reached by a tunnel",
    DropReason.NO_NODE: "dropped: came in a tunnel from an address that is no node's (--node-ranges)",
}


@dataclass(frozen=True, slots=True)
class Layout:
    """One family's structures. `bits` of an address, 32 or 128; a Struct's name is the C structure's."""

    name: str
    size: int
    flow: Struct  # source, destination, source port, destination port (2 bytes each), protocol
    frontend: Struct  # address, port (2 bytes), protocol
    service: Struct  # id, flags, inside first, count, outside first, count, affinity ticks
    slot: Struct  # threshold, endpoint, alias
    slot_weights: Struct  # of the two that a slot names
    maglev_part: Struct  # endpoints
    maglev_head: Struct  # digest, count
    maglev_member: Struct  # endpoint, weight, then what the kernel uses
    maglev_job: Struct  # first, count, members, price, digest
    endpoint: Struct  # address and port joined, flags, generation, service
    load: Struct  # generation, open connections
    connection: Struct  # in the order of CONNECTION_FIELDS
    embryo: Struct  # in the order of EMBRYO_FIELDS
    device: Struct  # address, flags
    source_range: Struct  # prefix length, service (4 bytes), address
    vacancy: Struct  # prefix length, address
    arrival: Struct  # service, address
    node_range: Struct  # prefix length, address
    affinity_key: Struct  # service, client
    affinity: Struct  # endpoint, generation, seen tick
    socket_peer: Struct  # address and port joined, endpoint, generation, seen tick
    service_counters: Struct  # in the order of COUNTER_FIELDS

    @property
    def bits(self) -> int:
        return self.size * 8


COUNTER_FIELDS: Final = ("connections", "refused", "packets_in", "bytes_in", "packets_out", "bytes_out")
CONNECTION_FIELDS: Final = (
    "source",
    "destination",
    "source_port",
    "destination_port",
    "address_difference",
    "port_difference",
    "endpoint",
    "generation",
    "service",
    "flags",
    "seen_tick",
    "device",
    "mtu",
    "via",
    "to_mac",
    "from_mac",
    "packets",
    "bytes",
)
EMBRYO_FIELDS: Final = (
    "source",
    "destination",
    "source_port",
    "destination_port",
    "endpoint",
    "generation",
    "service",
    "born_tick",
    "seen_tick",
    "device",
    "mtu",
    "via",
    "to_mac",
    "from_mac",
    "flags",
    "packets",
    "answers",
    "bytes",
    "answer_bytes",
)


def _layout(name: str, size: int) -> Layout:
    return Layout(
        name=name,
        size=size,
        flow=Struct(f"={size}s{size}s2s2sB3x"),
        frontend=Struct(f"={size}s2sBx"),
        service=Struct("=7I"),
        slot=Struct("=3I"),
        slot_weights=Struct("=2I4x"),
        maglev_part=Struct(f"={MAGLEV_PART}I"),
        maglev_head=Struct(f"={DIGEST_BYTES}sI{4 * MAGLEV_PART - DIGEST_BYTES - 4}x"),
        maglev_member=Struct("=4IQ"),
        maglev_job=Struct(f"=III4xQ{DIGEST_BYTES}s"),
        endpoint=Struct(f"={size + 2}sHII"),
        load=Struct("=Ii"),
        connection=Struct(f"={size}s{size}s2s2sHHIIIIIIHH6s6sQQ"),
        embryo=Struct(f"={size}s{size}s2s2sIIIIIIHH6s6sHBBII"),
        device=Struct(f"={size}sI"),
        source_range=Struct(f"=I4s{size}s"),
        vacancy=Struct(f"=I{size}s"),
        arrival=Struct(f"=I{size}s"),
        node_range=Struct(f"=I{size}s"),
        affinity_key=Struct(f"=I{size}s"),
        affinity=Struct("=3I"),
        socket_peer=Struct(f"={size + 2}s2xIII"),
        service_counters=Struct("=6Q"),
    )


IPV4: Final = _layout("ipv4", 4)
IPV6: Final = _layout("ipv6", 16)
FAMILIES: Final = (IPV4, IPV6)
