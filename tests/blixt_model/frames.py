"""Frames from a few numbers: what the random tests send. Quick, where scapy is comfortable."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from blixt_model.checksum import checksum, ones_sum, pseudo_header
from blixt_model.crc32c import crc32c
from blixt_model.family import CHECKSUM_AT, IPV4, SCTP, TCP, Family
from blixt_model.parse import FRAGMENT_HEADER
from blixt_model.tables import Flow

TO_NODE, FROM_PEER = bytes.fromhex("0200000001aa"), bytes.fromhex("0200000001bb")
RIGHT, WRONG, ZERO, LEFT_TO_DEVICE = range(4)


@dataclass(frozen=True, slots=True)
class Shape:
    """A packet of `flow`, or, with `icmp` (type, code), a message with `payload` behind its eight bytes."""

    family: Family
    flow: Flow
    payload: bytes = b""
    ttl: int = 64
    tos: int = 0
    tcp_flags: int = 0x10
    sequence: int = 0x01020304
    acknowledgement: int = 0x0A0B0C0D
    tcp_options: bytes = b""
    #: SCTP's first and only one, its type: 0 is DATA.
    chunk: int = 0
    icmp: tuple[int, int] | None = None
    #: The transport's: RIGHT, WRONG (off by some), ZERO or LEFT_TO_DEVICE (the pseudo header's sum; SCTP: 0).
    checksum: int = RIGHT
    #: IPv4 only; a multiple of four bytes.
    options: bytes = b""
    #: IPv6 only: (header's number, its length in units of 8 bytes beyond the first).
    extensions: tuple[tuple[int, int], ...] = ()
    dont_fragment: bool = False
    #: IPv4: (offset in units of 8 bytes, more follow); IPv6 by a fragment header among `extensions`.
    fragment: tuple[int, bool] = (0, False)
    #: As it stands in the header; IPv4 takes the first two bytes.
    identification: bytes = b"BBBB"
    padding: int = 0


def frame(shape: Shape) -> bytes:
    ethernet = TO_NODE + FROM_PEER + struct.pack("!H", shape.family.ethertype)
    return ethernet + network_packet(shape) + b"\xee" * shape.padding


def tagged(raw: bytes, *tags: tuple[int, int]) -> bytes:
    """The frame with VLAN tags, the outer one first: (its own ethertype, priority and id)."""
    return raw[:12] + b"".join(struct.pack("!HH", *tag) for tag in tags) + raw[12:]


def network_packet(shape: Shape) -> bytes:
    protocol = shape.family.icmp if shape.icmp else shape.flow.protocol
    body = _transport(shape, protocol)
    make = _ipv4 if shape.family is IPV4 else _ipv6
    return make(shape, protocol, len(body)) + body


def _transport(shape: Shape, protocol: int) -> bytes:
    flow = shape.flow
    if shape.icmp:
        body = struct.pack("!BBHI", *shape.icmp, 0, 0) + shape.payload
        at = 2
    elif protocol == SCTP:
        return _sctp(shape)
    elif protocol == TCP:
        offset = (20 + len(shape.tcp_options)) // 4 << 4
        body = struct.pack(
            "!HHIIBBHHH",
            flow.source_port,
            flow.destination_port,
            shape.sequence,
            shape.acknowledgement,
            offset,
            shape.tcp_flags,
            0x7210,
            0,
            0,
        )
        body += shape.tcp_options + shape.payload
        at = CHECKSUM_AT[protocol]
    else:
        length = 8 + len(shape.payload)
        body = struct.pack("!HHHH", flow.source_port, flow.destination_port, length, 0) + shape.payload
        at = CHECKSUM_AT.get(protocol, 6)
    covered = body
    if not (shape.icmp and shape.family is IPV4):
        covered = pseudo_header(flow.source, flow.destination, protocol, len(body)) + body
    value = _wanted(shape.checksum, checksum(covered))
    if shape.checksum == LEFT_TO_DEVICE:
        value = ones_sum(pseudo_header(flow.source, flow.destination, protocol, len(body)))
    return body[:at] + struct.pack("!H", value) + body[at + 2 :]


def _sctp(shape: Shape) -> bytes:
    flow, length = shape.flow, 4 + len(shape.payload)
    ports = struct.pack("!HHI", flow.source_port, flow.destination_port, shape.sequence)
    chunk = struct.pack("!BBH", shape.chunk, 0, length) + shape.payload
    value = crc32c(ports + bytes(4) + chunk)
    if shape.checksum == WRONG:
        value ^= 0x1234
    elif shape.checksum != RIGHT:
        value = 0
    return ports + struct.pack("<I", value) + chunk


def _wanted(kind: int, right: int) -> int:
    if kind == ZERO:
        return 0
    right = right or 0xFFFF
    return (right + 0x1234) % 0xFFFE + 1 if kind == WRONG else right


def _ipv4(shape: Shape, protocol: int, body: int) -> bytes:
    length = 20 + len(shape.options) + body
    offset, more = shape.fragment
    fragment = offset | more << 13 | shape.dont_fragment << 14
    first = 0x40 | (20 + len(shape.options)) // 4
    header = struct.pack(
        "!BBH2sHBBH4s4s",
        first,
        shape.tos,
        length,
        shape.identification[:2],
        fragment,
        shape.ttl,
        protocol,
        0,
        shape.flow.source,
        shape.flow.destination,
    )
    header += shape.options
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:]


def _ipv6(shape: Shape, protocol: int, body: int) -> bytes:
    numbers = [number for number, _ in shape.extensions] + [protocol]
    chain = b""
    for following, (number, units) in zip(numbers[1:], shape.extensions, strict=True):
        if number == FRAGMENT_HEADER:
            offset, more = shape.fragment
            chain += struct.pack("!BBH4s", following, 0, offset << 3 | more, shape.identification)
        else:
            chain += struct.pack("!BBHI", following, units, 0x0104, 0) + bytes(8 * units)
    return (
        struct.pack("!IHBB", 6 << 28 | shape.tos << 20 | 0x12345, len(chain) + body, numbers[0], shape.ttl)
        + shape.flow.source
        + shape.flow.destination
        + chain
    )
