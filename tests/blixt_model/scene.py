"""A small, fixed world for packets written by hand, in scapy's words. The same in both families."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from blixt_model.comparison import Comparison
from blixt_model.family import IPV4, Family
from blixt_model.family import SCTP as SCTP_NUMBER
from blixt_model.family import TCP as TCP_NUMBER
from blixt_model.family import UDP as UDP_NUMBER
from blixt_model.network import packed
from blixt_model.steps import Sent
from blixt_model.tables import (
    Device,
    DeviceFlag,
    DropReason,
    Endpoint,
    EndpointFlag,
    Flow,
    Frontend,
    Service,
    ServiceFlag,
    Slot,
    SlotRange,
    SourceRange,
    Tables,
)
from blixt_model.ways import Hook, Outcome, Verdict

OUTER_MAC, NODE_MAC = "02:00:00:00:01:bb", "02:00:00:00:01:00"
POD_MAC, POD_DEVICE_MAC = "02:00:00:00:f0:03", "02:00:00:00:02:00"
ROUTER_MAC, UPLINK_MAC = "02:00:00:00:f0:01", "02:00:00:00:01:00"

_LIVE, _LOCAL = EndpointFlag.LIVE, EndpointFlag.LOCAL
#: Endpoints' indices, and the service (with the same id) that has it as its only one.
POD, REMOTE, NARROW, SILENT, UNREACHABLE = 1, 2, 3, 4, 5
#: Services without endpoints: none at all, and a reject share that only one client may ask for.
EMPTY, REJECTING = 6, 7
#: Services of their own with the endpoint POD or REMOTE.
ALSO_POD, ALSO_REMOTE = 8, 9


@dataclass(frozen=True, slots=True)
class Names:
    """Addresses as text."""

    client: str
    other_client: str
    pod: str
    other_pod: str
    remote: str
    router: str
    node: str
    vip: str

    @staticmethod
    def of(family: Family) -> Names:
        if family is IPV4:
            return Names(
                client="203.0.113.1",
                other_client="203.0.113.2",
                pod="10.1.0.1",
                other_pod="10.1.0.2",
                remote="10.2.0.1",
                router="10.2.0.7",
                node="192.0.2.1",
                vip="10.96.0.1",
            )
        return Names(
            client="2001:db8:c::1",
            other_client="2001:db8:c::2",
            pod="fd00:1::1",
            other_pod="fd00:1::2",
            remote="fd00:2::1",
            router="fd00:2::7",
            node="2001:db8:1::1",
            vip="fd00:96::1",
        )


@dataclass(slots=True)
class Scene:
    """Every service has the virtual address, one slot and, on port 80 + its id, TCP, UDP and SCTP."""

    comparison: Comparison
    family: Family = field(init=False)
    names: Names = field(init=False)

    def __post_init__(self) -> None:
        self.family = self.comparison.kernel.family
        self.names = Names.of(self.family)
        self.comparison.begin(self._tables())

    def ip(
        self, source: str, destination: str, ttl: int = 64, *, flags: str = "", frag: int = 0, proto: int = 0
    ) -> Packet:
        """A network header; what follows `ttl` is IPv4's."""
        if self.family is not IPV4:
            return IPv6(src=source, dst=destination, hlim=ttl)
        header = IP(src=source, dst=destination, ttl=ttl, flags=flags, frag=frag)
        if proto:
            header.proto = proto
        return header

    def send(
        self,
        packet: Packet,
        hook: Hook = Hook.UPLINK_INGRESS,
        *,
        came_in_by: str = "",
        gso_size: int = 0,
        to: str = NODE_MAC,
    ) -> Outcome:
        """Through kernel and model, which must agree; on pod0, or on uplink0 for the other hooks."""
        device = "pod0" if hook is Hook.POD_INGRESS else "uplink0"
        if hook in (Hook.UPLINK_INGRESS, Hook.POD_INGRESS):
            came_in_by = device
        frame = bytes(Ether(src=OUTER_MAC, dst=to) / packet)
        return self.comparison.send(Sent(hook, device, frame, came_in_by, gso_size))

    @property
    def tables(self) -> Tables:
        return self.comparison.tables

    def change(self, endpoint: int, *, generation: int = 1, flags: int = _LIVE | _LOCAL) -> None:
        changed = replace(self.tables.endpoints[endpoint], generation=generation, flags=int(flags))
        self.comparison.change_endpoint(endpoint, changed)

    def _tables(self) -> Tables:
        tables = Tables()
        place = self.comparison.network.place
        endpoints = {
            POD: (place(self.family, "pod"), _LIVE | _LOCAL),
            REMOTE: (place(self.family, "remote"), _LIVE),
            NARROW: (place(self.family, "narrow"), _LIVE | _LOCAL),
            SILENT: (place(self.family, "silent"), _LIVE | _LOCAL),
            UNREACHABLE: (place(self.family, "unreachable"), _LIVE | _LOCAL),
        }
        for index, (where, flags) in endpoints.items():
            tables.endpoints[index] = Endpoint(where.address(1), 8080, int(flags), 1, index)
            tables.slots[index] = Slot(0xFFFFFFFF, index, index)
            self._add(tables, Service(index, 0, SlotRange(index, 1), SlotRange(index, 1)))
        for index, endpoint in ((ALSO_POD, POD), (ALSO_REMOTE, REMOTE)):
            tables.slots[index] = Slot(0xFFFFFFFF, endpoint, endpoint)
            self._add(tables, Service(index, 0, SlotRange(index, 1), SlotRange(index, 1)))
        self._add(tables, Service(EMPTY, ServiceFlag.DROP_OUTSIDE))
        guarded = ServiceFlag.DROP_UDP_REJECTS | ServiceFlag.SOURCE_RANGES
        self._add(tables, Service(REJECTING, guarded, SlotRange(0, 1), SlotRange(0, 1)))
        allowed = packed(self.names.client)
        tables.source_ranges.add(SourceRange(REJECTING, len(allowed) * 8, allowed))
        tables.slots[0] = Slot()
        self._add_devices(tables)
        return tables

    def _add(self, tables: Tables, service: Service) -> None:
        for protocol in (TCP_NUMBER, UDP_NUMBER, SCTP_NUMBER):
            tables.services[Frontend(packed(self.names.vip), 80 + service.id, protocol)] = service

    def _add_devices(self, tables: Tables) -> None:
        ifindexes, node = self.comparison.network.ifindexes, packed(self.names.node)
        uplink = Device(DeviceFlag.UPLINK | DeviceFlag.MASQUERADE, node)
        pod = Device(DeviceFlag.POD | DeviceFlag.PEER | DeviceFlag.MASQUERADE, node)
        tables.devices.update({ifindexes["uplink0"]: uplink, ifindexes["pod0"]: pod})


def to_pod(packet: Packet) -> bytes:
    return bytes(Ether(src=POD_DEVICE_MAC, dst=POD_MAC) / packet)


def to_router(packet: Packet) -> bytes:
    return bytes(Ether(src=UPLINK_MAC, dst=ROUTER_MAC) / packet)


def unchanged_macs(packet: Packet) -> bytes:
    return bytes(Ether(src=OUTER_MAC, dst=NODE_MAC) / packet)


def answer(packet: Packet) -> bytes:
    return bytes(Ether(src=NODE_MAC, dst=OUTER_MAC) / packet)


def port_of(service: int) -> int:
    return 80 + service


def syn(
    scene: Scene, service: int, source_port: int = 33000, flags: str = "S", seq: int = 0, ack: int = 0
) -> Packet:
    head = scene.ip(scene.names.client, scene.names.vip)
    return head / TCP(sport=source_port, dport=port_of(service), flags=flags, seq=seq, ack=ack)


def datagram(scene: Scene, service: int, source_port: int = 33000, payload: bytes = b"hello") -> Packet:
    head = scene.ip(scene.names.client, scene.names.vip)
    return head / UDP(sport=source_port, dport=port_of(service)) / Raw(payload)


def opening(scene: Scene, service: int, protocol: int, source_port: int = 33000) -> Packet:
    if protocol == TCP_NUMBER:
        return syn(scene, service, source_port)
    return datagram(scene, service, source_port)


def answer_to(scene: Scene, opened: Outcome, flags: str = "SA") -> Outcome:
    """What the endpoint sends back to the packet that it was sent."""
    sent = Ether(opened.packet).payload
    header = scene.ip(sent.dst, sent.src)
    if TCP in sent:
        packet = header / TCP(sport=sent.dport, dport=sent.sport, flags=flags, seq=5, ack=1)
    else:
        packet = header / UDP(sport=sent.dport, dport=sent.sport) / Raw(b"hi")
    return scene.send(packet, Hook.POD_INGRESS if sent.dst == scene.names.pod else Hook.UPLINK_INGRESS)


def establish(scene: Scene, service: int, protocol: int, source_port: int = 33000) -> Outcome:
    """A connection of two packets of the client and one answer; what became of the first."""
    opened = scene.send(opening(scene, service, protocol, source_port))
    answer_to(scene, opened)
    if protocol == TCP_NUMBER:
        scene.send(syn(scene, service, source_port, flags="A"))
    else:
        scene.send(datagram(scene, service, source_port))
    flow_of(scene, service, protocol, source_port)
    return opened


def assert_dropped(outcome: Outcome, *reasons: DropReason) -> None:
    assert (outcome.verdict, outcome.changes.drops) == (Verdict.DROP, list(reasons))


def assert_next_untouched(outcome: Outcome, packet: Packet) -> None:
    assert (outcome.verdict, outcome.packet) == (Verdict.NEXT, unchanged_macs(packet))


def answer_ip(scene: Scene) -> Packet:
    """The network header of every answer: from where the client wrote to."""
    if scene.family is IPV4:
        return IP(src=scene.names.vip, dst=scene.names.client, ttl=64, id=0, flags="DF")
    return scene.ip(scene.names.vip, scene.names.client)


def flow_of(scene: Scene, service: int, protocol: int, source_port: int = 33000) -> Flow:
    (flow,) = [
        flow
        for flow, entry in scene.tables.connections.items()
        if not entry.is_reply
        and (flow.protocol, flow.source_port, flow.destination_port)
        == (protocol, source_port, port_of(service))
    ]
    return flow
