"""Random services, endpoints and devices over the places of `network`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from blixt_model.choices import Choices
from blixt_model.family import IPV4, SCTP, TCP, UDP, Family
from blixt_model.kernel import ENDPOINTS
from blixt_model.maglev import PART
from blixt_model.network import Network, packed, self_address
from blixt_model.tables import (
    ENDPOINT_REJECT,
    Arrival,
    Device,
    DeviceFlag,
    Endpoint,
    EndpointFlag,
    Flow,
    Frontend,
    KernelFlow,
    NodeRange,
    Service,
    ServiceFlag,
    Slot,
    SlotRange,
    SlotWeights,
    SourceRange,
    Tables,
    TcpState,
    Vacancy,
    VacancyAnswer,
    partner_of,
)

#: Source ports of clients: some are in the range that is masqueraded to.
CLIENT_PORTS = (33000, 40001, 40005, 40006, 39999, 1, 65535, 33001)
WORLD_BYTES = 512

_BACKENDS = (
    *("pod", "remote", "other-pod", "narrow", "other-uplink", "silent-pod", "silent"),
    *("unreachable", "nowhere", "self", "pod", "remote"),
)
_LOCAL = {"pod", "other-pod", "silent-pod", "self"}
_LIVE = EndpointFlag.LIVE
_LEAVING = (
    EndpointFlag.DRAINING,
    EndpointFlag.DRAINING | EndpointFlag.SILENT,
    EndpointFlag.SILENT,
)
_WEIGHTS = (1, 1, 3, 0xFFFFFFFF)
_RANGE_LENGTHS = {4: (32, 24, 8, 0), 6: (128, 64, 16, 0)}


@dataclass(frozen=True, slots=True)
class World:
    """`tables` are where it begins; `clients` and `frontends` who sends and where to."""

    family: Family
    network: Network
    tables: Tables
    clients: tuple[bytes, ...]
    frontends: tuple[Frontend, ...]


def make_world(data: bytes, family: Family, network: Network) -> World:
    choices = Choices(data)
    tables = Tables()
    _endpoints(choices, tables, family, network)
    _devices(choices, tables, family, network)
    frontends = _services(choices, tables, family)
    client, pod = network.place(family, "client"), network.place(family, "pod")
    clients = (
        *(client.address(number) for number in (1, 2, 3)),
        *(pod.address(number) for number in (1, 2)),
        network.place(family, "other-pod").address(1),
        self_address(family),
        network.place(family, "nowhere").address(1),
    )
    _arrivals(choices, tables)
    tables.node_ranges = _node_ranges(choices, family, network)
    _source_ranges(choices, tables, family, clients)
    _vacancies(choices, tables, family, frontends)
    _kernel_flows(choices, tables, family, clients, frontends)
    return World(family, network, tables, clients, frontends)


def _endpoints(choices: Choices, tables: Tables, family: Family, network: Network) -> None:
    by_tunnel = choices.below(2)
    for index in range(1, choices.one_of((2, 3, 4, ENDPOINTS))):
        place = choices.one_of(_BACKENDS)
        flags: int = _LIVE | (EndpointFlag.LOCAL if place in _LOCAL else 0)
        if choices.rarely(8):
            flags = choices.one_of([0, *(flags | leaving for leaving in _LEAVING)])
        flags |= EndpointFlag.COUNTED if flags and index % 2 else 0
        if by_tunnel and flags and place not in _LOCAL and not choices.rarely(8):
            flags |= EndpointFlag.TUNNELLED
        number = 1 if place == "self" else 1 + choices.below(3)
        tables.endpoints[index] = Endpoint(
            address=network.place(family, place).address(number),
            port=choices.one_of([8080, 5353, 80]),
            flags=flags,
            generation=choices.one_of([1, 2, 0xFFFFFFFF]),
            service=0,
        )


def _devices(choices: Choices, tables: Tables, family: Family, network: Network) -> None:
    """Uplinks and pods' devices as a node has them, now and then without something."""
    addresses = {
        "uplink0": self_address(family),
        "uplink1": packed("198.51.100.1" if family is IPV4 else "2001:db8:2::1"),
    }
    for name, address in addresses.items():
        flags: int = DeviceFlag.UPLINK | (0 if choices.rarely(6) else DeviceFlag.MASQUERADE)
        flags |= DeviceFlag.PEER if choices.rarely(8) else 0
        tables.devices[network.ifindexes[name]] = Device(flags, address)
    for name in ("pod0", "pod1"):
        flags = DeviceFlag.POD | (0 if choices.rarely(4) else DeviceFlag.PEER)
        if choices.below(2):
            flags |= DeviceFlag.MASQUERADE
        tables.devices[network.ifindexes[name]] = Device(flags, self_address(family))


def _services(choices: Choices, tables: Tables, family: Family) -> tuple[Frontend, ...]:
    vip = "10.96.0." if family is IPV4 else "fd00:96::"
    frontends = []
    first = first_part = 0
    for number in range(1, 1 + choices.one_of((1, 3, 4, 5, 6))):
        slots = [SlotRange(), SlotRange()]
        algorithm = choices.one_of([0, ServiceFlag.MAGLEV, ServiceFlag.LEAST_CONNECTIONS, 0])
        step = 2 if algorithm == ServiceFlag.LEAST_CONNECTIONS else 1
        for side in (0, 1):
            if algorithm == ServiceFlag.MAGLEV:
                slots[side] = _maglev(choices, tables, first_part)
                first_part += -(-slots[side].count // PART)
                continue
            count = 0 if choices.rarely(8) else 1 + choices.below(5)
            slots[side] = SlotRange(first, count)
            for index in range(first, first + step * count, step):
                tables.slots[index] = _slot(choices, len(tables.endpoints))
                if step > 1:
                    two = (choices.one_of(_WEIGHTS) for _ in range(2))
                    tables.weights[index + 1] = SlotWeights(*two)
            first += step * count
        service = Service(
            id=number,
            flags=_service_flags(choices) | algorithm,
            inside=slots[0],
            outside=slots[1],
            affinity_ticks=choices.one_of([0, 0, 0, 2, 100]),
        )
        address = packed(f"{vip}{number}") if not choices.rarely(6) else self_address(family)
        protocols = choices.one_of([(TCP,), (UDP,), (TCP, UDP), (SCTP,)])
        for protocol in protocols:
            frontend = Frontend(address, choices.one_of([80, 53, 30080]), protocol)
            tables.services[frontend] = service
            frontends.append(frontend)
    unknown = Frontend(packed(f"{vip}9"), 80, TCP)
    return (*dict.fromkeys(frontends), unknown)


def _maglev(choices: Choices, tables: Tables, first: int) -> SlotRange:
    """Any endpoints in any order: how a table is made is another matter."""
    count = choices.one_of((17, 0, 1, 16, 33))
    names = [ENDPOINT_REJECT if choices.rarely(10) else 1 + choices.below(len(tables.endpoints))]
    names += [1 + choices.below(len(tables.endpoints)) for _ in range(2)]
    for slot in range(count):
        tables.maglev[first, slot] = names[slot * 7 % 3]
    return SlotRange(first, count)


def _arrivals(choices: Choices, tables: Tables) -> None:
    """Mostly to endpoints of this node."""
    for service in tables.services.values():
        for index, endpoint in tables.endpoints.items():
            is_local = endpoint.flags & EndpointFlag.LOCAL
            if choices.below(4) if is_local else choices.rarely(12):
                tables.arrivals[Arrival(service.id, endpoint.address)] = index


def _node_ranges(choices: Choices, family: Family, network: Network) -> frozenset[NodeRange]:
    """Where tunnels come from, most often."""
    node = NodeRange(*_range_around(network.place(family, "remote").address(7), choices, family))
    client = NodeRange(*_range_around(network.place(family, "client").address(1), choices, family))
    return choices.one_of((*[frozenset({node})] * 5, frozenset({client}), frozenset({node, client})))


def _range_around(address: bytes, choices: Choices, family: Family) -> tuple[int, bytes]:
    length = choices.one_of(_RANGE_LENGTHS[family.version][:3])
    rest = family.address_size * 8 - length
    return length, (int.from_bytes(address, "big") >> rest << rest).to_bytes(family.address_size, "big")


def _slot(choices: Choices, endpoints: int) -> Slot:
    def endpoint() -> int:
        return ENDPOINT_REJECT if choices.rarely(10) else 1 + choices.below(endpoints)

    threshold = choices.one_of([0xFFFFFFFF, 0x80000000, 0, 0x40000000, 0xC0000000])
    return Slot(threshold, endpoint(), endpoint())


def _service_flags(choices: Choices) -> int:
    flags = 0
    for flag in (ServiceFlag.DROP_INSIDE, ServiceFlag.DROP_OUTSIDE, ServiceFlag.DROP_UDP_REJECTS):
        flags |= flag if choices.below(2) else 0
    return flags | (ServiceFlag.SOURCE_RANGES if choices.rarely(5) else 0)


def _source_ranges(choices: Choices, tables: Tables, family: Family, clients: tuple[bytes, ...]) -> None:
    for _ in range(choices.below(5)):
        length = choices.one_of(_RANGE_LENGTHS[family.version])
        bits = family.address_size * 8
        number = int.from_bytes(choices.one_of(clients), "big") >> (bits - length) << (bits - length)
        tables.source_ranges.add(
            SourceRange(1 + choices.below(5), length, number.to_bytes(family.address_size, "big"))
        )


def _vacancies(choices: Choices, tables: Tables, family: Family, frontends: tuple[Frontend, ...]) -> None:
    """Mostly as a node has them: services' addresses refuse, the rest of their range drops."""
    bits = family.address_size * 8
    for frontend in frontends:
        if choices.below(3):
            answer = VacancyAnswer.DROPPED if choices.rarely(8) else VacancyAnswer.REFUSED
            tables.vacancies[Vacancy(bits, frontend.address)] = answer
    if choices.below(2):
        length = 24 if family is IPV4 else 64
        range_ = packed("10.96.0.0" if family is IPV4 else "fd00:96::")
        tables.vacancies[Vacancy(length, range_)] = VacancyAnswer.DROPPED


def _kernel_flows(
    choices: Choices,
    tables: Tables,
    family: Family,
    clients: tuple[bytes, ...],
    frontends: tuple[Frontend, ...],
) -> None:
    """What rules of the kernel's own translated before, most often to an endpoint of ours."""
    taken = set[Flow]()
    flows = []
    for _ in range(choices.one_of((0, 0, 2, 4))):
        flow = _kernel_flow(choices, tables, family, clients, frontends)
        keys = {flow.original, partner_of(flow.original), flow.becomes, partner_of(flow.becomes)}
        if taken.isdisjoint(keys) and flow.original != flow.becomes:
            taken |= keys
            flows.append(flow)
    tables.kernel_flows = tuple(flows)
    tables.kernel_asked = bool(flows) and not choices.rarely(4)


def _kernel_flow(
    choices: Choices,
    tables: Tables,
    family: Family,
    clients: tuple[bytes, ...],
    frontends: tuple[Frontend, ...],
) -> KernelFlow:
    frontend = choices.one_of(frontends)
    endpoint = choices.one_of(list(tables.endpoints.values()))
    original = Flow(
        choices.one_of(clients),
        frontend.address,
        choices.one_of(CLIENT_PORTS),
        frontend.port,
        frontend.protocol,
    )
    becomes = replace(original, destination=endpoint.address, destination_port=endpoint.port)
    kind = choices.below(4)
    if kind == 1:  # masqueraded, as far as the kernel knows by a port like ours, or by a node port
        port = choices.one_of((40000, 40001, 30080, 33000))
        becomes = replace(becomes, source=self_address(family), source_port=port)
    if kind == 2:  # masqueraded only
        becomes = replace(original, source_port=original.source_port ^ 1)
    states = (TcpState.ESTABLISHED, TcpState.SYN_RECEIVED, TcpState.TIME_WAIT, TcpState.CLOSE)
    state = choices.one_of(states) if original.protocol == TCP else TcpState.NONE
    return KernelFlow(original, becomes, state)
