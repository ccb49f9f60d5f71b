"""This machine's addresses, by getifaddrs(3), which Linux, macOS and the BSDs have alike. Blocks shortly."""

from __future__ import annotations

import ctypes
import os
import socket
import sys
from collections.abc import Iterator
from ctypes import POINTER, Structure, c_char_p, c_ubyte, c_uint, c_void_p
from dataclasses import dataclass
from typing import Final

from blixt_backend.model import PackedAddress
from blixt_backend.planes.nodeports import LOOPBACK
from blixt_backend.planes.userspace.compile import readable

_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8
#: Where sockaddr_in and sockaddr_in6 have their address, and how long it is.
_ADDRESS: Final = {socket.AF_INET: (4, 4), socket.AF_INET6: (8, 16)}


class _IfAddrs(Structure):
    """The beginning of struct ifaddrs, which all of them share."""


_IfAddrs._fields_ = [
    ("next", POINTER(_IfAddrs)),
    ("name", c_char_p),
    ("flags", c_uint),
    ("address", c_void_p),
]


@dataclass(frozen=True, slots=True)
class Own:
    """Addresses in the order in which the system lists them, without IPv6's link-local ones.

    `loopback` are those of loopback interfaces: services' addresses, too, if somebody put them there.
    """

    others: tuple[PackedAddress, ...] = ()
    loopback: tuple[PackedAddress, ...] = ()

    @property
    def for_node_ports(self) -> tuple[PackedAddress, ...]:
        """What is not there for services: the others, and 127.0.0.1 and ::1 where they are."""
        return (*self.others, *(address for address in LOOPBACK if address in self.loopback))

    @property
    def texts(self) -> frozenset[str]:
        """All of them, in readable form."""
        return frozenset(map(readable, (*self.others, *self.loopback)))


def scan() -> Own:
    """Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    first = POINTER(_IfAddrs)()
    if libc.getifaddrs(ctypes.byref(first)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"this machine's addresses can't be listed: {os.strerror(number)}")
    try:
        found = list(_addresses(first))
    finally:
        libc.freeifaddrs(first)
    kinds = [
        tuple(dict.fromkeys(a for is_loopback, a in found if is_loopback is kind)) for kind in (False, True)
    ]
    return Own(*kinds)


def _addresses(node: ctypes._Pointer[_IfAddrs]) -> Iterator[tuple[bool, PackedAddress]]:
    """(of a loopback interface, address)"""
    while node:
        each = node.contents
        if each.address and each.flags & _IFF_UP:
            header = (c_ubyte * 2).from_address(each.address)
            # The BSDs have a byte for the length before a byte for the family.
            family = int.from_bytes(bytes(header), sys.byteorder) if sys.platform == "linux" else header[1]
            if family in _ADDRESS:
                offset, size = _ADDRESS[socket.AddressFamily(family)]
                packed = ctypes.string_at(each.address + offset, size)
                if not _is_link_local6(packed):
                    yield bool(each.flags & _IFF_LOOPBACK), PackedAddress(packed)
        node = each.next


def _is_link_local6(packed: bytes) -> bool:
    return len(packed) == 16 and packed[0] == 0xFE and packed[1] & 0xC0 == 0x80
