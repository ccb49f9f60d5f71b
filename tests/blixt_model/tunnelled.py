"""Random frames of tunnels: another node's, and routers' errors about this node's."""

from __future__ import annotations

import struct
from dataclasses import replace

from blixt_model.checksum import checksum, pseudo_header
from blixt_model.choices import Choices
from blixt_model.family import ETHERNET_SIZE, IPV4, Family
from blixt_model.frames import Shape, network_packet
from blixt_model.kernel import MOST_BYTES
from blixt_model.tables import Connection, ConnectionFlag, Flow, Tables
from blixt_model.worlds import World

_MTUS = (1400, 1500, 1300, 600, 88, 1319, 1320, 0, 0xFFFF)


def encapsulated(choices: Choices, raw: bytes, world: World, tables: Tables) -> bytes:
    """A frame's packet in another one, most often to an endpoint of this node."""
    family = world.family
    ends = [arrival.address for arrival in tables.arrivals]
    ends += [endpoint.address for endpoint in tables.endpoints.values()]
    end = ends[choices.below(256) % len(ends)]
    node = world.network.place(family, "remote").address(7)
    inner = raw[ETHERNET_SIZE : MOST_BYTES - family.header_size]
    return raw[:ETHERNET_SIZE] + _outer(choices, family, node, end, inner) + inner


def _outer(choices: Choices, family: Family, source: bytes, end: bytes, inner: bytes) -> bytes:
    kind = choices.below(24)
    if family is IPV4:
        fragment = {1: 0x2000, 2: 0x0003, 3: 0}.get(kind, 0x4000)
        first = {4: 0x46, 5: 0x55}.get(kind, 0x45)
        protocol = 41 if kind == 6 else 4
        ttl = 1 if kind == 7 else 63
        head = struct.pack("!BBHHHBBH", first, kind, 20 + len(inner), 7, fragment, ttl, protocol, 0)
        head += source + end
        return head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    first = 0x50 if kind == 5 else 0x60
    return struct.pack("!BBHHBB", first, 0, kind, len(inner), 4 if kind == 6 else 41, 63) + source + end


def error_of_tunnel(choices: Choices, world: World, tables: Tables) -> bytes | None:
    """A router's, about a packet that left this node in a tunnel; None: none has."""
    family = world.family
    known = [(key, entry) for key, entry in tables.known().items() if _goes_by_tunnel(entry)]
    if not known:
        return None
    key, entry = known[choices.below(256) % len(known)]
    ends = [entry.becomes.destination] * 6 + [e.address for e in tables.endpoints.values()]
    source = _node(choices, entry, tables)
    inner = network_packet(Shape(family, key, payload=bytes(choices.one_of((0, 8, 33, 500))), ttl=9))
    quoted = _outer(choices, family, source, choices.one_of(ends), inner) + inner
    cut = choices.one_of((8, 20, 1000, 8, 7, 0)) + 2 * family.header_size
    return _error(choices, family, world.network.place(family, "remote").address(6), source, quoted[:cut])


def _goes_by_tunnel(entry: Connection) -> bool:
    return bool(entry.flags & ConnectionFlag.TUNNELLED) and not entry.is_reply


def _node(choices: Choices, entry: Connection, tables: Tables) -> bytes:
    """What its packets come from; of an embryo, which doesn't tell, a device's address."""
    devices = [device.address for device in tables.devices.values()]
    return choices.one_of([entry.becomes.source, entry.becomes.source, devices[0], choices.one_of(devices)])


def _error(choices: Choices, family: Family, router: bytes, node: bytes, quoted: bytes) -> bytes:
    kinds = ((3, 4), (3, 4), (3, 4), (3, 1)) if family is IPV4 else ((2, 0), (2, 0), (2, 0), (1, 0))
    kind, code = choices.one_of(kinds)
    message = struct.pack("!BBHI", kind, code, 0, choices.one_of(_MTUS)) + quoted
    covered = message
    if family is not IPV4:
        covered = pseudo_header(router, node, family.icmp, len(message)) + message
    message = message[:2] + struct.pack("!H", checksum(covered)) + message[4:]
    if choices.rarely(16):
        message = message[:2] + b"\x12\x34" + message[4:]
    shape = Shape(family, Flow(router, node, 0, 0, family.icmp), icmp=(kind, code), ttl=60)
    head = network_packet(replace(shape, payload=bytes(len(message) - 8)))[: family.header_size]
    return bytes(12) + family.ethertype.to_bytes(2, "big") + head + message


def answer_s_flow(choices: Choices, key: Flow, becomes: Flow, entry: Connection) -> Flow:
    """What an error about the flow quotes: of a tunnelled one, an answer most often."""
    if _goes_by_tunnel(entry) and choices.below(4):
        return Flow(key.destination, key.source, key.destination_port, key.source_port, key.protocol)
    return becomes
