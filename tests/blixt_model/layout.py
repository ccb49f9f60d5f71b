"""The model's tables as the kernel's maps hold them: the structures of bpf/types.h, little-endian."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from blixt_model.family import Family
from blixt_model.tables import (
    Affinity,
    AffinityKey,
    Connection,
    Datagram,
    Device,
    Embryo,
    Endpoint,
    FirstFragment,
    Flow,
    Frontend,
    NodeRange,
    Service,
    Slot,
    SourceRange,
    Vacancy,
    Via,
    Way,
)

#: The checksum differences that a connection carries are not part of the model: their effect is.
_CONNECTION = "{a}s{a}s2s2s4xIIIIIIHH6s6sQQ"
_EMBRYO = "{a}s{a}s2s2s5IIHH6s6sHBBII"

_FIRST_FRAGMENT = struct.Struct("<4sIB3x")


@dataclass(frozen=True, slots=True)
class Layout:
    """Packs and unpacks for one family; `of` makes it."""

    address: int
    flow_format: struct.Struct
    frontend_format: struct.Struct
    endpoint_format: struct.Struct
    device_format: struct.Struct
    range_format: struct.Struct
    affinity_key_format: struct.Struct
    datagram_format: struct.Struct
    connection_format: struct.Struct
    embryo_format: struct.Struct

    @staticmethod
    def of(family: Family) -> Layout:
        a = family.address_size
        return Layout(
            address=a,
            flow_format=struct.Struct(f"<{a}s{a}s2s2sB3x"),
            frontend_format=struct.Struct(f"<{a}s2sBx"),
            endpoint_format=struct.Struct(f"<{a}s2sHII"),
            device_format=struct.Struct(f"<{a}sI"),
            range_format=struct.Struct(f"<I4s{a}s"),
            affinity_key_format=struct.Struct(f"<I{a}s"),
            datagram_format=struct.Struct(f"<{a}s{a}s4sB3x"),
            connection_format=struct.Struct("<" + _CONNECTION.format(a=a)),
            embryo_format=struct.Struct("<" + _EMBRYO.format(a=a)),
        )

    def flow(self, flow: Flow) -> bytes:
        return self.flow_format.pack(
            flow.source, flow.destination, port(flow.source_port), port(flow.destination_port), flow.protocol
        )

    def to_flow(self, raw: bytes) -> Flow:
        source, destination, source_port, destination_port, protocol = self.flow_format.unpack(raw)
        return Flow(source, destination, to_port(source_port), to_port(destination_port), protocol)

    def frontend(self, frontend: Frontend) -> bytes:
        return self.frontend_format.pack(frontend.address, port(frontend.port), frontend.protocol)

    def service(self, service: Service) -> bytes:
        inside, outside = service.inside, service.outside
        return struct.pack(
            "<7I",
            service.id,
            service.flags,
            inside.first,
            inside.count,
            outside.first,
            outside.count,
            service.affinity_ticks,
        )

    def slot(self, slot: Slot) -> bytes:
        return struct.pack("<III", slot.threshold, slot.endpoint, slot.alias)

    def maglev_parts(self, slots: Mapping[tuple[int, int], int]) -> dict[int, bytes]:
        """Entries of the array: 16 slots each, those that nobody has 0."""
        parts: dict[int, list[int]] = {}
        for (first, slot), endpoint in slots.items():
            parts.setdefault(first + slot // 16, [0] * 16)[slot % 16] = endpoint
        return {index: struct.pack("<16I", *part) for index, part in parts.items()}

    def endpoint(self, endpoint: Endpoint) -> bytes:
        return self.endpoint_format.pack(
            endpoint.address, port(endpoint.port), endpoint.flags, endpoint.generation, endpoint.service
        )

    def device(self, device: Device) -> bytes:
        return self.device_format.pack(device.address, device.flags)

    def vacancy(self, entry: Vacancy) -> bytes:
        return entry.length.to_bytes(4, "little") + entry.address

    def node_range(self, entry: NodeRange) -> bytes:
        return entry.length.to_bytes(4, "little") + entry.address

    def source_range(self, entry: SourceRange) -> bytes:
        return self.range_format.pack(32 + entry.length, entry.service.to_bytes(4, "big"), entry.address)

    def affinity_key(self, key: AffinityKey) -> bytes:
        return self.affinity_key_format.pack(key.service, key.client)

    def to_affinity_key(self, raw: bytes) -> AffinityKey:
        return AffinityKey(*self.affinity_key_format.unpack(raw))

    def affinity(self, affinity: Affinity) -> bytes:
        return struct.pack("<III", affinity.endpoint, affinity.generation, affinity.seen_tick)

    def to_affinity(self, raw: bytes) -> Affinity:
        return Affinity(*struct.unpack("<III", raw))

    def datagram(self, key: Datagram) -> bytes:
        return self.datagram_format.pack(key.source, key.destination, key.identification, key.protocol)

    def to_datagram(self, raw: bytes) -> Datagram:
        source, destination, identification, protocol = self.datagram_format.unpack(raw)
        # The kernel's field is as long as IPv6's.
        return Datagram(source, destination, identification[: 2 if self.address == 4 else 4], protocol)

    def first_fragment(self, first: FirstFragment) -> bytes:
        ports = port(first.source_port) + port(first.destination_port)
        return _FIRST_FRAGMENT.pack(ports, first.seen_tick, first.protocol)

    def to_first_fragment(self, raw: bytes) -> FirstFragment:
        ports, seen_tick, protocol = _FIRST_FRAGMENT.unpack(raw)
        return FirstFragment(to_port(ports[:2]), to_port(ports[2:]), protocol, seen_tick)

    def to_connection(self, raw: bytes, protocol: int) -> Connection:
        (
            source,
            destination,
            source_port,
            destination_port,
            endpoint,
            generation,
            service,
            flags,
            seen_tick,
            device,
            mtu,
            via,
            to_mac,
            from_mac,
            packets,
            octets,
        ) = self.connection_format.unpack(raw)
        return Connection(
            becomes=Flow(source, destination, to_port(source_port), to_port(destination_port), protocol),
            endpoint=endpoint,
            generation=generation,
            service=service,
            flags=flags,
            seen_tick=seen_tick,
            way=Way(Via(via), device, mtu, to_mac, from_mac),
            packets=packets,
            bytes=octets,
        )

    def to_embryo(self, raw: bytes, protocol: int) -> Embryo:
        source, destination, source_port, destination_port, *rest = self.embryo_format.unpack(raw)
        endpoint, generation, service, born_tick, seen_tick, *rest = rest
        device, mtu, via, to_mac, from_mac, *counted = rest
        flags, packets, answers, octets, answer_octets = counted
        return Embryo(
            flow=Flow(source, destination, to_port(source_port), to_port(destination_port), protocol),
            endpoint=endpoint,
            generation=generation,
            service=service,
            born_tick=born_tick,
            seen_tick=seen_tick,
            way=Way(Via(via), device, mtu, to_mac, from_mac),
            flags=flags,
            packets=packets,
            answers=answers,
            bytes=octets,
            answer_bytes=answer_octets,
        )

    def embryo(self, embryo: Embryo) -> bytes:
        flow, way = embryo.flow, embryo.way
        return self.embryo_format.pack(
            flow.source,
            flow.destination,
            port(flow.source_port),
            port(flow.destination_port),
            embryo.endpoint,
            embryo.generation,
            embryo.service,
            embryo.born_tick,
            embryo.seen_tick,
            way.device,
            way.mtu,
            way.via,
            way.to_mac,
            way.from_mac,
            embryo.flags,
            embryo.packets,
            embryo.answers,
            embryo.bytes,
            embryo.answer_bytes,
        )

    def with_seen_tick(self, raw_connection: bytes, tick: int) -> bytes:
        """The entry of a map, its differences kept, as if seen at `tick`."""
        at = self.address * 2 + 8 + 16
        return raw_connection[:at] + tick.to_bytes(4, "little") + raw_connection[at + 4 :]


def port(number: int) -> bytes:
    return number.to_bytes(2, "big")


def to_port(raw: bytes) -> int:
    return int.from_bytes(raw, "big")
