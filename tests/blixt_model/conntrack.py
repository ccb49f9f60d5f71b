"""Flows in the connection tracking of this thread's namespace, made by ctnetlink as conntrackd makes them."""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterable

from blixt_model.tables import Flow, KernelFlow, TcpState, partner_of

# linux/netlink.h, linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h, nf_conntrack_common.h
_NETLINK_NETFILTER = 12
_REQUEST, _ACK, _CREATE, _EXCLUSIVE = 0x1, 0x4, 0x400, 0x200
_NEW, _DELETE = 1 << 8, 1 << 8 | 2
_NESTED = 0x8000
_ORIGINAL, _REPLY, _STATUS, _PROTOCOL_STATE, _NAT_SOURCE, _TIMEOUT, _NAT_DESTINATION = 1, 2, 3, 4, 6, 7, 13
_SEEN_REPLY, _ASSURED, _CONFIRMED = 1 << 1, 1 << 2, 1 << 3
_TIMEOUT_SECONDS = 3600


def replace(flows: Iterable[KernelFlow]) -> None:
    """Forget all flows that are tracked, then have these. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
        netlink.bind((0, 0))
        _ask(netlink, _DELETE, 0, socket.AF_UNSPEC, b"")
        for flow in flows:
            family = socket.AF_INET if len(flow.original.source) == 4 else socket.AF_INET6
            _ask(netlink, _NEW, _CREATE | _EXCLUSIVE, family, _entry(flow))


def _ask(netlink: socket.socket, kind: int, flags: int, family: int, attributes: bytes) -> None:
    body = struct.pack("!BBH", family, 0, 0) + attributes
    netlink.send(struct.pack("=IHHII", 16 + len(body), kind, _REQUEST | _ACK | flags, 1, 0) + body)
    answer = netlink.recv(65536)
    code = -int.from_bytes(answer[16:20], sys.byteorder, signed=True)
    if code:
        raise OSError(code, f"{errno.errorcode.get(code)}: {os.strerror(code)}")


def _entry(flow: KernelFlow) -> bytes:
    original, becomes = flow.original, flow.becomes
    parts = [
        _nested(_ORIGINAL, *_tuple(original)),
        _nested(_REPLY, *_tuple(partner_of(original))),
        _attribute(_STATUS, struct.pack("!I", _SEEN_REPLY | _ASSURED | _CONFIRMED)),
        _attribute(_TIMEOUT, struct.pack("!I", _TIMEOUT_SECONDS)),
    ]
    if flow.translates_source:
        parts.append(_nested(_NAT_SOURCE, *_range(becomes.source, becomes.source_port)))
    if flow.translates_destination:
        parts.append(_nested(_NAT_DESTINATION, *_range(becomes.destination, becomes.destination_port)))
    if flow.tcp_state is not TcpState.NONE:
        parts.append(_nested(_PROTOCOL_STATE, _nested(1, _attribute(1, bytes([flow.tcp_state])))))
    return b"".join(parts)


def _tuple(flow: Flow) -> tuple[bytes, bytes]:
    first = 1 if len(flow.source) == 4 else 3
    addresses = _nested(1, _attribute(first, flow.source), _attribute(first + 1, flow.destination))
    ports = (
        _attribute(1, bytes([flow.protocol])),
        _attribute(2, struct.pack("!H", flow.source_port)),
        _attribute(3, struct.pack("!H", flow.destination_port)),
    )
    return addresses, _nested(2, *ports)


def _range(address: bytes, port: int) -> tuple[bytes, ...]:
    lowest, highest = (1, 2) if len(address) == 4 else (4, 5)
    ports = (_attribute(1, struct.pack("!H", port)), _attribute(2, struct.pack("!H", port)))
    return _attribute(lowest, address), _attribute(highest, address), _nested(3, *ports)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _nested(kind: int, *parts: bytes) -> bytes:
    return _attribute(kind | _NESTED, b"".join(parts))
