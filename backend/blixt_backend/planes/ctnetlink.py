"""The kernel's connection tracking over raw netlink: what every message of it has, and other nfnetlink's.

Sources: linux/netlink.h, linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h. Message headers are in
the machine's byte order, what attributes hold is in network byte order. All calls that talk block.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import Final

GET: Final = 1 << 8 | 1  # IPCTNL_MSG_CT_GET of the subsystem NFNL_SUBSYS_CTNETLINK
DELETE: Final = 1 << 8 | 2
REQUEST: Final = 0x001
DUMP: Final = 0x001 | 0x300
ERROR, DONE = 2, 3
#: Attributes of a flow, of a tuple, and of a tuple's protocol; of its addresses, by their length.
TUPLE_ORIGINAL, TUPLE_REPLY, STATUS, ID, ZONE, FILTER, STATUS_MASK = 1, 2, 3, 12, 18, 25, 26
TUPLE_ADDRESSES, TUPLE_PROTOCOL = 1, 2
#: What a protocol knows of a flow, TCP's part of that, and in it the state.
PROTOCOL_STATE, TCP, TCP_STATE = 4, 1, 1
PROTOCOL_NUMBER, SOURCE_PORT, DESTINATION_PORT = 1, 2, 3
SOURCE: Final = {4: 1, 16: 3}
DESTINATION: Final = {4: 2, 16: 4}

RECEIVE_BYTES: Final = 1 << 18
_NETLINK_NETFILTER = 12
_NESTED, _TYPE_MASK = 1 << 15, 0x3FFF
_HEADER, _GENERAL, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("!BBH"), struct.Struct("=HH")
_PATIENCE_SECONDS = 20.0


def opened() -> socket.socket:
    """Raises OSError."""
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
    netlink.settimeout(_PATIENCE_SECONDS)
    netlink.bind((0, 0))
    return netlink


def message(family: int, kind: int, flags: int, attributes_: bytes) -> bytes:
    """`family`: AF_INET or AF_INET6."""
    whole = _GENERAL.pack(family, 0, 0) + attributes_
    return _HEADER.pack(_HEADER.size + len(whole), kind, flags, 1, 0) + whole


def attribute(kind: int, content: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(content), kind) + content + bytes(-len(content) % 4)


def nested(kind: int, content: bytes) -> bytes:
    return attribute(kind | _NESTED, content)


def answers(netlink: socket.socket) -> Iterator[dict[int, bytes]]:
    """What a dump that was asked for brings: each flow's attributes. Raises OSError."""
    while True:
        for kind, body in messages(netlink.recv(RECEIVE_BYTES)):
            if kind == DONE:
                return
            if kind == ERROR:
                raise refusal(body)
            yield flow_attributes(body)


def flow_attributes(body: bytes) -> dict[int, bytes]:
    """Of a message about a flow."""
    return dict(attributes(body[_GENERAL.size :]))


def messages(received: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, body) of the netlink messages in a datagram; what is cut short is left out."""
    position = 0
    while position + _HEADER.size <= len(received):
        length, kind, *_ = _HEADER.unpack_from(received, position)
        if length < _HEADER.size or position + length > len(received):
            return
        yield kind, received[position + _HEADER.size : position + length]
        position += length + 3 & ~3


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, content); what is cut short is left out."""
    position = 0
    while position + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, position)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _TYPE_MASK, data[position + _ATTRIBUTE.size : position + length]
        position += length + 3 & ~3


def refusal(body: bytes) -> OSError:
    """What an ERROR says; errno 0: nothing was wrong."""
    code = -struct.unpack_from("=i", body)[0] if len(body) >= 4 else errno.EPROTO
    return OSError(code, os.strerror(code))
