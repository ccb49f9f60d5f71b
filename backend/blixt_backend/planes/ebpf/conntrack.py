"""What the kernel's own connection tracking translates, read over netlink (ctnetlink).

A flow that was made by kube-proxy, or by a plane of rules, is the kernel's until it ends. The packet programs
ask for each new flow whether it is one, but only while there are some (`kernel_flows`): asking costs.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from blixt_backend.planes.ebpf.kernel import ServiceMaps
from blixt_backend.planes.ebpf.layout import IPV6, Layout

#: Without this function there is no asking (Linux 5.18, and conntrack loaded); in its module's BTF.
LOOK_UP: Final = "bpf_skb_ct_lookup"
MODULE: Final = "nf_conntrack"

# linux/netlink.h, linux/netfilter/nfnetlink.h
_NETLINK_NETFILTER = 12
_NLM_F_REQUEST_DUMP = 0x001 | 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_HEADER, _GENERAL, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("!BBH"), struct.Struct("=HH")
_TYPE_MASK = 0x3FFF
# linux/netfilter/nfnetlink_conntrack.h, nf_conntrack_common.h
_CT_GET = 1 << 8 | 1
_TUPLE_ORIGINAL, _TUPLE_REPLY, _STATUS, _STATUS_MASK = 1, 2, 3, 26
_TUPLE_ADDRESSES, _TUPLE_PROTOCOL = 1, 2
_DESTINATIONS = {2, 4}  # CTA_IP_V4_DST, CTA_IP_V6_DST
_PROTOCOL_NUMBER, _PROTOCOL_DESTINATION_PORT = 1, 3
_DESTINATION_TRANSLATED = 1 << 5  # IPS_DST_NAT
_RECEIVE_BYTES = 1 << 18
_PATIENCE_SECONDS = 20.0


class Destination(NamedTuple):
    """Where packets of a tracked flow go to as they come in; the port in network byte order."""

    address: bytes
    port: bytes
    protocol: int


def has_services_flows(maps: ServiceMaps) -> bool:
    """Whether the kernel translates a flow to a frontend of this family. Raises OSError. Blocks: it walks
    all of the kernel's table."""
    services, pack = maps.maps["services"], maps.layout.frontend.pack
    return any(services.lookup(pack(*destination)) is not None for destination in destinations(maps.layout))


def destinations(layout: Layout) -> Iterator[Destination]:
    """Of all flows whose destination the kernel translates, both directions. Raises OSError."""
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER
    ) as netlink:
        netlink.settimeout(_PATIENCE_SECONDS)
        netlink.bind((0, 0))
        netlink.send(request(layout))
        while True:
            for kind, body in messages(netlink.recv(_RECEIVE_BYTES)):
                if kind == _NLMSG_DONE:
                    return
                if kind == _NLMSG_ERROR:
                    raise _refusal(body)
                yield from destinations_of(body)


def request(layout: Layout) -> bytes:
    """A dump of a family's entries that have their destination translated. Kernels before 5.14 send all."""
    family = socket.AF_INET6 if layout is IPV6 else socket.AF_INET
    wanted = _DESTINATION_TRANSLATED.to_bytes(4, "big")
    body = _GENERAL.pack(family, 0, 0) + b"".join(
        _ATTRIBUTE.pack(_ATTRIBUTE.size + len(wanted), kind) + wanted for kind in (_STATUS, _STATUS_MASK)
    )
    return _HEADER.pack(_HEADER.size + len(body), _CT_GET, _NLM_F_REQUEST_DUMP, 1, 0) + body


def messages(received: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, body) of the netlink messages in a datagram; what is cut short is left out."""
    position = 0
    while position + _HEADER.size <= len(received):
        length, kind, *_ = _HEADER.unpack_from(received, position)
        if length < _HEADER.size or position + length > len(received):
            return
        yield kind, received[position + _HEADER.size : position + length]
        position += length + 3 & ~3


def destinations_of(body: bytes) -> Iterator[Destination]:
    """Of a tracked flow's message, if its destination is translated."""
    attributes = dict(_attributes(body[_GENERAL.size :]))
    status = int.from_bytes(attributes.get(_STATUS, b""), "big")
    if not status & _DESTINATION_TRANSLATED:
        return
    for direction in (_TUPLE_ORIGINAL, _TUPLE_REPLY):
        parts = dict(_attributes(attributes.get(direction, b"")))
        addresses = dict(_attributes(parts.get(_TUPLE_ADDRESSES, b"")))
        protocol = dict(_attributes(parts.get(_TUPLE_PROTOCOL, b"")))
        with suppress(StopIteration, LookupError):  # protocols without ports are nobody's service
            address = next(addresses[kind] for kind in _DESTINATIONS if kind in addresses)
            number = protocol[_PROTOCOL_NUMBER][0]
            yield Destination(address, protocol[_PROTOCOL_DESTINATION_PORT], number)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, position)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _TYPE_MASK, data[position + _ATTRIBUTE.size : position + length]
        position += length + 3 & ~3


def _refusal(body: bytes) -> OSError:
    code = -int.from_bytes(body[:4], "little", signed=True) if len(body) >= 4 else errno.EPROTO
    return OSError(code, os.strerror(code))
