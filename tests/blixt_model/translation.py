"""Rule 4: a packet with other addresses and ports."""

from __future__ import annotations

import struct

from blixt_model.checksum import changed, changed_udp
from blixt_model.crc32c import crc32c
from blixt_model.family import CHECKSUM_AT, ETHERNET_SIZE, IPV4, SCTP, UDP
from blixt_model.parse import Packet
from blixt_model.tables import Flow


def translate(packet: Packet, to: Flow, *, lower_ttl: bool) -> bytes:
    """The frame as `to`, its TTL one less if wanted, its checksums changed by the difference."""
    frame = bytearray(packet.raw)
    old_addresses = packet.flow.source + packet.flow.destination
    new_addresses = to.source + to.destination
    old_ports = struct.pack("!HH", packet.flow.source_port, packet.flow.destination_port)
    new_ports = struct.pack("!HH", to.source_port, to.destination_port)

    rewrite_network(frame, packet, new_addresses, lower_ttl=lower_ttl)
    frame[packet.transport : packet.transport + 4] = new_ports
    if to.protocol == SCTP:
        _change_crc(frame, packet, old_ports)
        return bytes(frame)
    at = packet.transport + CHECKSUM_AT[to.protocol]
    rule = changed_udp if to.protocol == UDP else changed
    replace_checksum(frame, at, rule(read16(frame, at), old_addresses + old_ports, new_addresses + new_ports))
    return bytes(frame)


def _change_crc(frame: bytearray, packet: Packet, old_ports: bytes) -> None:
    """SCTP's checksum, which counts no addresses; 0: a device will write it."""
    at = slice(packet.transport + 8, packet.transport + 12)
    before = int.from_bytes(frame[at], "little")
    if not before:
        return
    rest = bytes(packet.network_length - (packet.transport - ETHERNET_SIZE) - len(old_ports))
    new_ports = bytes(frame[packet.transport : packet.transport + 4])
    change = crc32c(old_ports + rest) ^ crc32c(new_ports + rest)
    frame[at] = (before ^ change).to_bytes(4, "little")


def translate_addresses(packet: Packet, to: Flow, *, lower_ttl: bool) -> bytes:
    """A later fragment as part of `to`: the transport's checksum is in the first one."""
    frame = bytearray(packet.raw)
    rewrite_network(frame, packet, to.source + to.destination, lower_ttl=lower_ttl)
    return bytes(frame)


def rewrite_network(frame: bytearray, packet: Packet, addresses: bytes, *, lower_ttl: bool) -> None:
    family = packet.family
    network = ETHERNET_SIZE
    start, end = network + family.header_size - len(addresses), network + family.header_size
    before = bytes(frame[network:end])
    frame[start:end] = addresses
    if lower_ttl:
        frame[network + family.ttl_at] -= 1
    if family is IPV4:
        old_checksum = read16(frame, network + 10)
        replace_checksum(frame, network + 10, changed(old_checksum, before, bytes(frame[network:end])))


def read16(frame: bytes | bytearray, at: int) -> int:
    return int.from_bytes(frame[at : at + 2], "big")


def replace_checksum(frame: bytearray, at: int, value: int) -> None:
    frame[at : at + 2] = value.to_bytes(2, "big")
