"""Makes the kernel's connection tracking forget flows (ctnetlink), many in one message. Blocks.

Of a few frontends, the kernel is asked for their flows only (Linux 5.8; others send all, which are looked
through here anyway); of many, for all.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from blixt_backend.planes.nftables.compile import Frontend
from blixt_backend.planes.nftables.family import Family
from blixt_backend.planes.nftables.stale import Stale

# linux/netlink.h, linux/netfilter/nfnetlink.h
_NETLINK_NETFILTER = 12
_NLM_F_REQUEST, _NLM_F_DUMP = 0x001, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_HEADER, _GENERAL, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("!BBH"), struct.Struct("=HH")
_NESTED, _TYPE_MASK = 1 << 15, 0x3FFF
# linux/netfilter/nfnetlink_conntrack.h
_CT_GET, _CT_DELETE = 1 << 8 | 1, 1 << 8 | 2
_TUPLE_ORIGINAL, _TUPLE_REPLY, _ID, _ZONE, _FILTER = 1, 2, 12, 18, 25
_TUPLE_ADDRESSES, _TUPLE_PROTOCOL = 1, 2
_SOURCE, _DESTINATION = {4: 1, 16: 3}, {4: 2, 16: 4}
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_FILTER_ORIGINAL = 1
#: Which parts of a tuple must match: destination address, protocol and destination port. Not the address
#: for IPv6, where kernels up to now take those that are not equal.
_FILTER_PARTS = {4: 1 << 1 | 1 << 3 | 1 << 5, 16: 1 << 3 | 1 << 5}
_PROTOCOLS = {"tcp": 6, "udp": 17}
_NAMES = {number: name for name, number in _PROTOCOLS.items()}

_FEW: Final = 8
_RECEIVE_BYTES = 1 << 18
_SEND_BYTES = 1 << 16
_PATIENCE_SECONDS = 20.0


class Flow(NamedTuple):
    """A tracked flow: where its client sends to, who answers, and what names it to the kernel."""

    frontend: Frontend
    answers: tuple[str, int]
    name: bytes


def forget(family: Family, stale: Stale) -> int:
    """Delete the stale flows; how many. Raises OSError."""
    if not stale:
        return 0
    with _opened() as netlink:
        requests = [request(family, each) for each in stale] if len(stale) <= _FEW else [request(family)]
        doomed = []
        for asked in requests:
            netlink.send(asked)
            for flow in _flows(netlink, family):
                keeps = stale.get(flow.frontend)
                if keeps is not None and flow.answers not in keeps:
                    doomed.append(flow)
        return _delete(netlink, family, doomed)


def request(family: Family, frontend: Frontend | None = None) -> bytes:
    """A dump of the family's flows, or of one frontend's."""
    body = b""
    if frontend is not None:
        address = socket.inet_pton(family.number, frontend.address)
        parts = _nested(_TUPLE_ADDRESSES, _attribute(_DESTINATION[family.size], address))
        number = _attribute(_NUMBER, bytes([_PROTOCOLS[frontend.protocol]]))
        port = _attribute(_DESTINATION_PORT, frontend.port.to_bytes(2, "big"))
        parts += _nested(_TUPLE_PROTOCOL, number + port)
        flags = _attribute(_FILTER_ORIGINAL, struct.pack("=I", _FILTER_PARTS[family.size]))
        body = _nested(_TUPLE_ORIGINAL, parts) + _nested(_FILTER, flags)
    return _message(family, _CT_GET, _NLM_F_REQUEST | _NLM_F_DUMP, body)


def _flows(netlink: socket.socket, family: Family) -> Iterator[Flow]:
    while True:
        for kind, body in _messages(netlink.recv(_RECEIVE_BYTES)):
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                raise _refusal(body)
            flow = _flow(family, body)
            if flow is not None:
                yield flow


def _flow(family: Family, body: bytes) -> Flow | None:
    """None: of no protocol that has frontends."""
    attributes = dict(_attributes(body[_GENERAL.size :]))
    original = attributes.get(_TUPLE_ORIGINAL, b"")
    asked, answered = _end(family, original, _DESTINATION), _end(family, attributes[_TUPLE_REPLY], _SOURCE)
    if asked is None or answered is None:
        return None
    protocol, address, port = asked
    # The zone is part of what names a flow, where there are zones.
    name = _nested(_TUPLE_ORIGINAL, original) + b"".join(
        _attribute(kind, attributes[kind]) for kind in (_ID, _ZONE) if kind in attributes
    )
    return Flow(Frontend(address, protocol, port), answered[1:], name)


def _end(family: Family, data: bytes, end: dict[int, int]) -> tuple[str, str, int] | None:
    """(protocol, address, port) of one end of a tuple."""
    parts = dict(_attributes(data))
    protocol = dict(_attributes(parts.get(_TUPLE_PROTOCOL, b"")))
    name = _NAMES.get(protocol.get(_NUMBER, b"\0")[0])
    address = dict(_attributes(parts.get(_TUPLE_ADDRESSES, b""))).get(end[family.size])
    port = protocol.get(_DESTINATION_PORT if end is _DESTINATION else _SOURCE_PORT)
    if name is None or address is None or port is None:
        return None
    return name, family.text(address), int.from_bytes(port, "big")


def _delete(netlink: socket.socket, family: Family, flows: Iterable[Flow]) -> int:
    """One that has ended meanwhile is none that failed."""
    count, waiting = 0, b""
    for flow in flows:
        waiting += _message(family, _CT_DELETE, _NLM_F_REQUEST, flow.name)
        count += 1
        if len(waiting) >= _SEND_BYTES:
            netlink.send(waiting)
            waiting = b""
    if waiting:
        netlink.send(waiting)
    netlink.setblocking(False)
    try:
        while True:
            for kind, body in _messages(netlink.recv(_RECEIVE_BYTES)):
                refusal = _refusal(body)
                if kind == _NLMSG_ERROR and refusal.errno not in (0, errno.ENOENT):
                    raise refusal
    except BlockingIOError:
        return count


def _opened() -> socket.socket:
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
    netlink.settimeout(_PATIENCE_SECONDS)
    netlink.bind((0, 0))
    return netlink


def _message(family: Family, kind: int, flags: int, body: bytes) -> bytes:
    whole = _GENERAL.pack(family.number, 0, 0) + body
    return _HEADER.pack(_HEADER.size + len(whole), kind, flags, 1, 0) + whole


def _nested(kind: int, content: bytes) -> bytes:
    return _attribute(kind | _NESTED, content)


def _attribute(kind: int, content: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(content), kind) + content + bytes(-len(content) % 4)


def _messages(received: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + _HEADER.size <= len(received):
        length, kind, *_ = _HEADER.unpack_from(received, position)
        yield kind, received[position + _HEADER.size : position + length]
        position += max(length + 3 & ~3, _HEADER.size)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, position)
        yield kind & _TYPE_MASK, data[position + _ATTRIBUTE.size : position + length]
        position += max(length + 3 & ~3, _ATTRIBUTE.size)


def _refusal(body: bytes) -> OSError:
    code = -struct.unpack_from("=i", body)[0] if len(body) >= 4 else errno.EPROTO
    return OSError(code, os.strerror(code))
