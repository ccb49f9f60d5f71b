"""Sockets on hosts, one system call at a time: what they say of their peers, and how they fail."""

from __future__ import annotations

import itertools
import socket
import time
from typing import Self

from blixt_lab.host import Host
from blixt_lab.traffic import Target

_serials = itertools.count()


class Datagrams:
    """An unconnected UDP socket on a host; `mapped`: an IPv6 socket that speaks IPv4."""

    def __init__(self, host: Host, version: int, mapped: bool = False) -> None:
        self._mapped = mapped
        family = socket.AF_INET6 if mapped or version == 6 else socket.AF_INET
        self.link = host.call(lambda: socket.socket(family, socket.SOCK_DGRAM))
        self.link.settimeout(3)

    def ask(self, target: Target) -> tuple[str, str, int]:
        """Send to a service: who answered, and the address and port that the answer came from."""
        prefix = "::ffff:" if self._mapped else ""
        text = f"datagram-{next(_serials)}"
        self.link.sendto(f"{text}\n".encode(), (f"{prefix}{target.address}", target.port))
        while True:
            answer, source = self.link.recvfrom(4096)
            fields = answer.decode().split()
            if fields[3] == text:
                return fields[0], source[0].removeprefix(prefix), source[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.link.close()


def peer_name(host: Host, target: Target, mapped: bool = False) -> tuple[str, int]:
    """Whom a socket says it is connected to."""
    kind = socket.SOCK_STREAM if target.protocol == "tcp" else socket.SOCK_DGRAM
    prefix = "::ffff:" if mapped else ""

    def connect() -> tuple[str, int]:
        with socket.socket(socket.AF_INET6 if mapped else target.family, kind) as link:
            link.settimeout(3)
            link.connect((f"{prefix}{target.address}", target.port))
            address, port = link.getpeername()[:2]
            link.send(b"hello\n")
            assert link.recv(100).endswith(b" hello\n")
            return address.removeprefix(prefix), port

    return host.call(connect)


def failure(host: Host, target: Target, connected: bool = True) -> tuple[int | None, float]:
    """The errno of a connect() or sendto(), and how long it took to come."""
    kind = socket.SOCK_STREAM if target.protocol == "tcp" else socket.SOCK_DGRAM

    def attempt() -> tuple[int | None, float]:
        with socket.socket(target.family, kind) as link:
            link.settimeout(3)
            started = time.monotonic()
            try:
                if connected:
                    link.connect((target.address, target.port))
                else:
                    link.sendto(b"hello\n", (target.address, target.port))
            except OSError as error:
                return error.errno, time.monotonic() - started
            return 0, time.monotonic() - started

    return host.call(attempt)
