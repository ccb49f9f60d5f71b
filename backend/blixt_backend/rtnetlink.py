"""Interfaces and their addresses, as the kernel lists them (rtnetlink(7)).

Two dumps and a dozen attributes are read here: a library for all of netlink takes 13 MB of the daemon's
memory. All calls block. Numbers are in the machine's byte order, addresses packed.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from blixt_backend.model import PackedAddress

_GET_LINK, _GET_ADDRESS = 18, 22
_REQUEST, _DUMP = 0x001, 0x300
_ERROR, _DONE, _INTERRUPTED = 2, 3, 0x10  # the last is a flag: NLM_F_DUMP_INTR
_HEADER, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=HH")
_LINK, _ADDRESS = struct.Struct("=BxHiII"), struct.Struct("=BBBBI")  # ifinfomsg, ifaddrmsg
_TYPE_MASK: Final = 0x3FFF
_IFLA_ADDRESS, _IFLA_NAME, _IFLA_LINK, _IFLA_LINK_INFO, _IFLA_PEER_NAMESPACE = 1, 3, 5, 18, 37
_IFLA_INFO_KIND = 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_RECEIVE_BYTES = 1 << 18
_PATIENCE_SECONDS = 20.0
_TRIES = 5


@dataclass(frozen=True, slots=True)
class LinkEntry:
    """`hardware` is ARPHRD_*, `kind` IFLA_INFO_KIND (empty: hardware), `flags` IFF_*.

    `on` is IFLA_LINK: the ifindex of what a VLAN device is on, of a veth its other end's; 0: none.
    """

    ifindex: int
    name: str
    hardware: int
    flags: int
    mac: bytes
    kind: str
    peer_elsewhere: bool
    on: int = 0


@dataclass(frozen=True, slots=True)
class AddressEntry:
    """`flags` and `scope` are IFA_F_* and RT_SCOPE_*. Of a point-to-point link it is the own address."""

    ifindex: int
    address: PackedAddress
    prefix_length: int
    scope: int
    flags: int


def links() -> list[LinkEntry]:
    """All interfaces of this network namespace. Raises OSError."""
    return [_link(body) for body in _dump(_GET_LINK, _LINK.size)]


def addresses() -> list[AddressEntry]:
    """All IPv4 and IPv6 addresses, as the kernel lists them. Raises OSError."""
    found = (_address(body) for body in _dump(_GET_ADDRESS, _ADDRESS.size))
    return [entry for entry in found if entry is not None]


def _link(body: bytes) -> LinkEntry:
    _, hardware, ifindex, flags, _ = _LINK.unpack_from(body)
    attributes = _attributes(body[_LINK.size :])
    info = _attributes(attributes.get(_IFLA_LINK_INFO, b""))
    return LinkEntry(
        ifindex=ifindex,
        name=_text(attributes.get(_IFLA_NAME, b"")),
        hardware=hardware,
        flags=flags,
        mac=attributes.get(_IFLA_ADDRESS, b""),
        kind=_text(info.get(_IFLA_INFO_KIND, b"")),
        peer_elsewhere=_IFLA_PEER_NAMESPACE in attributes,
        on=int.from_bytes(attributes.get(_IFLA_LINK, b""), sys.byteorder),
    )


def _address(body: bytes) -> AddressEntry | None:
    family, prefix_length, flags, scope, ifindex = _ADDRESS.unpack_from(body)
    attributes = _attributes(body[_ADDRESS.size :])
    address = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
    if address is None or family not in (socket.AF_INET, socket.AF_INET6):
        return None
    if _IFA_FLAGS in attributes:  # the header has room for eight of them
        (flags,) = struct.unpack("=I", attributes[_IFA_FLAGS])
    return AddressEntry(ifindex, PackedAddress(address), prefix_length, scope, flags)


def _dump(kind: int, header_bytes: int) -> list[bytes]:
    """The bodies of all messages that answer; taken again if what is listed changed meanwhile."""
    request = bytes(header_bytes)
    for _ in range(_TRIES):
        with socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        ) as netlink:
            netlink.settimeout(_PATIENCE_SECONDS)
            netlink.bind((0, 0))
            netlink.send(_HEADER.pack(_HEADER.size + len(request), kind, _REQUEST | _DUMP, 1, 0) + request)
            found = _answers(netlink)
            if found is not None:
                return found
    raise OSError(errno.EAGAIN, "interfaces change faster than they can be listed")


def _answers(netlink: socket.socket) -> list[bytes] | None:
    """None: a change came in between, so that it may be neither what was nor what is."""
    found: list[bytes] = []
    interrupted = False
    while True:
        for kind, flags, body in _messages(netlink.recv(_RECEIVE_BYTES)):
            interrupted |= bool(flags & _INTERRUPTED)
            if kind == _DONE:
                return None if interrupted else found
            if kind == _ERROR:
                code = -struct.unpack_from("=i", body)[0]
                raise OSError(code, f"listing interfaces: {os.strerror(code)}")
            found.append(body)


def _messages(received: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(type, flags, body) of a datagram's messages."""
    position = 0
    while position + _HEADER.size <= len(received):
        length, kind, flags, _, _ = _HEADER.unpack_from(received, position)
        yield kind, flags, received[position + _HEADER.size : position + length]
        position += length + 3 & ~3


def _attributes(data: bytes) -> Mapping[int, bytes]:
    found, position = {}, 0
    while position + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, position)
        found[kind & _TYPE_MASK] = data[position + _ATTRIBUTE.size : position + length]
        position += max(length, _ATTRIBUTE.size) + 3 & ~3
    return found


def _text(content: bytes) -> str:
    return content.rstrip(b"\0").decode(errors="replace")
