"""Raw sockets on one interface (packet(7)): frames in and out, and the multicast groups that bring them in.

There is a socket for each EtherType that matters, so that frames of all others, and with them what the eBPF
programs carry, pass by without a look. Nothing is put on the interface: when the sockets go, all is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import logging
import socket
import struct
from collections.abc import Callable
from typing import Final

from blixt_backend.announce import filters, frames, heartbeat
from blixt_backend.announce.interface import Interface
from blixt_backend.model import PackedAddress

log = logging.getLogger(__name__)

#: What is heard by EtherType.
_FILTERS: Final = {
    frames.ETHERTYPE_ARP: filters.FOR_US,
    frames.ETHERTYPE_IPV6: filters.NEIGHBOUR_DISCOVERY,
    heartbeat.ETHERTYPE: filters.FOR_US,
}
_SO_ATTACH_FILTER = 26
_SOL_PACKET, _PACKET_ADD_MEMBERSHIP = 263, 1
_MR_MULTICAST, _MR_ALLMULTI = 0, 2
#: struct packet_mreq, in the machine's byte order: ifindex, type, length of the address, address.
_MEMBERSHIP = struct.Struct("=iHH8s")
#: struct ipv6_mreq: group, then the ifindex in the machine's byte order.
_GROUP_REQUEST = struct.Struct("=16si")
#: What one socket can join is bounded by net.core.optmem_max, 20 kB at least.
_GROUPS_A_SOCKET = 128
_MOST_BYTES = 2048
#: Frames that are read in a row before others get their turn.
_FRAMES_AT_ONCE = 64
#: The interface goes, or is full for the moment: it is told of elsewhere, or passes.
_PASSING: Final = {errno.ENETDOWN, errno.ENXIO, errno.ENODEV, errno.ENOBUFS, errno.EAGAIN}


class Segment:
    """Sockets on one interface. `receive` is called with each frame, from the event loop."""

    def __init__(self, interface: Interface, receive: Callable[[bytes], None]) -> None:
        self._interface = interface
        self._receive = receive
        #: By EtherType.
        self._sockets: dict[int, socket.socket] = {}
        #: Sockets that hold memberships, each with its groups.
        self._members: list[tuple[socket.socket, set[PackedAddress]]] = []

    def open(self) -> None:
        """Begin to hear frames. Raises OSError, PermissionError without CAP_NET_RAW."""
        try:
            for ethertype, program in _FILTERS.items():
                self._sockets[ethertype] = self._raw_socket(ethertype, program)
        except OSError:
            self.close()
            raise
        loop = asyncio.get_running_loop()
        for each in self._sockets.values():
            loop.add_reader(each, self._read, each)

    def close(self) -> None:
        loop = asyncio.get_running_loop()
        for each in self._sockets.values():
            loop.remove_reader(each)
            each.close()
        for member, _ in self._members:
            member.close()
        self._sockets, self._members = {}, []

    def send(self, frame: bytes) -> None:
        """Send by the socket of the frame's EtherType: whatever watches the device is told the same one."""
        try:
            self._sockets[int.from_bytes(frame[12:14], "big")].send(frame)
        except OSError as error:
            if error.errno not in _PASSING:
                raise

    def join(self, group: PackedAddress) -> None:
        """By the kernel's own membership, which switches that watch MLD are told of (RFC 4541)."""
        try:
            member, groups = self._with_room()
            member.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, self._request(group))
            groups.add(group)
        except OSError as error:  # frames come by ALLMULTI all the same
            log.debug("%s: joining a multicast group: %s", self._interface.name, error.strerror)

    def leave(self, group: PackedAddress) -> None:
        for member, groups in self._members:
            if group in groups:
                groups.remove(group)
                with contextlib.suppress(OSError):  # the interface is gone, and its groups with it
                    member.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_LEAVE_GROUP, self._request(group))

    def _with_room(self) -> tuple[socket.socket, set[PackedAddress]]:
        for entry in self._members:
            if len(entry[1]) < _GROUPS_A_SOCKET:
                return entry
        member = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._members.append((member, set()))
        return self._members[-1]

    def _request(self, group: PackedAddress) -> bytes:
        return _GROUP_REQUEST.pack(group, self._interface.ifindex)

    def _raw_socket(self, ethertype: int, program: bytes) -> socket.socket:
        made = raw_socket()
        try:
            # Bound last: until then nothing is heard, so nothing gets in before the filter is there.
            _attach(made, program)
            if ethertype == frames.ETHERTYPE_IPV6:
                self._add(made, _MR_ALLMULTI, b"")
            if ethertype == heartbeat.ETHERTYPE:
                self._add(made, _MR_MULTICAST, heartbeat.GROUP_MAC)
            made.bind((self._interface.name, ethertype))
        except OSError:
            made.close()
            raise
        return made

    def _add(self, to: socket.socket, kind: int, mac: bytes) -> None:
        request = _MEMBERSHIP.pack(self._interface.ifindex, kind, len(mac), mac)
        to.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, request)

    def _read(self, source: socket.socket) -> None:
        for _ in range(_FRAMES_AT_ONCE):
            try:
                frame = source.recv(_MOST_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in _PASSING:
                    raise
                return
            self._receive(frame)


def raw_socket() -> socket.socket:
    """A packet socket that hears nothing yet. Raises PermissionError without CAP_NET_RAW."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    made.setblocking(False)
    return made


def _attach(to: socket.socket, program: bytes) -> None:
    """SO_ATTACH_FILTER; the kernel copies the program."""
    buffer = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: the count of instructions, and where they are.
    request = struct.pack("HP", len(program) // filters.INSTRUCTION.size, ctypes.addressof(buffer))
    to.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, request)
