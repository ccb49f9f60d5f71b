"""When nftables' transactions come into force in a network namespace, and what addresses they bring.

The kernel tells whoever listens (NFNLGRP_NFTABLES), whoever programs it and however: all of a transaction
once it is done, then that a new generation of the ruleset is there. Sources: linux/netlink.h,
linux/netfilter/nfnetlink.h, nf_tables.h.
"""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections.abc import Collection, Iterator
from ipaddress import IPv4Address

from blixt_lab import Host

_NETFILTER, _GROUP = 12, 7  # NETLINK_NETFILTER, NFNLGRP_NFTABLES
_NEW_GENERATION = 10 << 8 | 15  # NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWGEN
_HEADER = struct.Struct("=IH10x")
_DATAGRAM = 1 << 20
_BUFFER = 256 << 20
#: SO_RCVBUFFORCE, which `socket` has no name for.
_RECEIVE_BUFFER_FORCE = 33
_SILENCE_SECONDS = 0.2
#: Every IPv4 address 10.x.x.x, wherever it is in a message; they may overlap.
_ADDRESSES = re.compile(rb"(?=(\x0a...))", re.DOTALL)


class MissedError(Exception):
    """The kernel told more than there was room for, or not what was waited for."""


class Commits:
    """Listens until `close`."""

    def __init__(self, host: Host) -> None:
        self._socket = host.call(_opened)
        self._told: list[tuple[float, bytes]] = []
        self._failure: OSError | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._listen, name="nft-commits", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed = True
        self._thread.join()
        self._socket.close()

    def forget(self) -> None:
        """What was told so far."""
        self._told = []

    def wait(self, addresses: Collection[str], patience: float) -> float:
        """When, on the clock of time.monotonic(), all these were there since `forget`. Raises MissedError."""
        missing = {IPv4Address(address).packed for address in addresses}
        ends = time.monotonic() + patience
        position = 0
        while time.monotonic() < ends:
            # To look through what came takes the interpreter's lock, and so puts off what comes meanwhile.
            self._wait_for_silence()
            told = self._told
            while position < len(told):
                came, datagram = told[position]
                position += 1
                if missing:
                    missing.difference_update(_ADDRESSES.findall(datagram))
                if not missing and _NEW_GENERATION in _kinds(datagram):
                    return came
        after = f"after {patience:.0f} s"
        raise MissedError(f"{len(missing)} of {len(addresses)} addresses are not there {after}")

    def _wait_for_silence(self) -> None:
        count = -1
        while count != len(self._told):
            count = len(self._told)
            time.sleep(_SILENCE_SECONDS)
            if self._failure:
                raise MissedError(f"listening to nftables: {self._failure}")

    def _listen(self) -> None:
        while not self._closed:
            try:
                datagram = self._socket.recv(_DATAGRAM)
            except TimeoutError:
                continue
            except OSError as error:
                self._failure = error
                return
            self._told.append((time.monotonic(), datagram))


def _opened() -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETFILTER)
    opened.setsockopt(socket.SOL_SOCKET, _RECEIVE_BUFFER_FORCE, _BUFFER)
    opened.bind((0, 1 << _GROUP - 1))
    opened.settimeout(_SILENCE_SECONDS)
    return opened


def _kinds(datagram: bytes) -> Iterator[int]:
    """The messages' types."""
    position = 0
    while position + _HEADER.size <= len(datagram):
        length, kind = _HEADER.unpack_from(datagram, position)
        if length < _HEADER.size:
            return
        yield kind
        position += length + 3 & ~3
