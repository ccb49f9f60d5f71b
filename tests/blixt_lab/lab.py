"""A lab: hosts, daemons and whatever else must be gone when it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType

from blixt_lab import registry
from blixt_lab.host import Host

_EVERY_HOST: dict[str, str | int] = {
    # Strict reverse path filtering drops what was translated; CNIs switch it off.
    "ipv4/conf/all/rp_filter": 0,
    "ipv4/conf/default/rp_filter": 0,
    # Without duplicate address detection, IPv6 addresses work at once.
    "ipv6/conf/all/accept_dad": 0,
    "ipv6/conf/default/accept_dad": 0,
    "ipv6/conf/default/dad_transmits": 0,
    "ipv6/conf/all/accept_ra": 0,
    "ipv6/conf/default/accept_ra": 0,
    "ipv4/conf/all/send_redirects": 0,
    "ipv4/conf/default/send_redirects": 0,
    "ipv4/conf/all/accept_redirects": 0,
    "ipv4/conf/default/accept_redirects": 0,
    "ipv6/conf/all/accept_redirects": 0,
    "ipv6/conf/default/accept_redirects": 0,
    # bbr, some hosts' default, wrecks bulk TCP over veth.
    "ipv4/tcp_congestion_control": "reno",
    # Tests ask for many ICMP errors in a short time.
    "ipv4/icmp_ratelimit": 0,
    "ipv6/icmp/ratelimit": 0,
    # A client that has two ways chooses by connection.
    "ipv4/fib_multipath_hash_policy": 1,
    "ipv6/fib_multipath_hash_policy": 1,
}


class Lab:
    """Hosts on this machine, under names that no other lab has. Made by `open_lab`."""

    def __init__(self, entry: registry.Entry) -> None:
        self.entry = entry
        self.hosts: dict[str, Host] = {}
        #: Undone in reverse order when the lab ends, before its namespaces go.
        self.stack = contextlib.ExitStack()

    @property
    def id(self) -> str:
        return self.entry.id

    @property
    def folder(self) -> Path:
        """For files that live as long as the lab."""
        return self.entry.folder

    @property
    def bpffs(self) -> Path:
        """A bpffs that is this lab's alone."""
        return self.entry.bpffs

    def log_path(self, name: str) -> Path:
        return self.entry.logs / f"{name}.log"

    def namespace(self, host: str) -> str:
        return f"{registry.PREFIX}{self.id}-{host}"

    def add(self, *hosts: Host, settings: dict[str, str | int] | None = None) -> None:
        """Make the hosts' namespaces, loopback up, with the settings of every host and those given."""
        self.entry.add_namespaces(host.namespace for host in hosts)
        self.hosts |= {host.name: host for host in hosts}

        def prepare(host: Host) -> None:
            host.sysctl(_EVERY_HOST | (settings or {}))
            host.ip("link set lo up")

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(prepare, hosts))

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]


@contextlib.contextmanager
def open_lab() -> Iterator[Lab]:
    """An empty lab. What it made is removed however it ends, unless it was kept (`lab.entry.keep()`).

    What killed runs left is removed first. SIGTERM ends it as Ctrl-C does, if no one else handles it.
    Raises PermissionError unless root.
    """
    if os.geteuid() != 0:
        raise PermissionError("the lab makes network namespaces, which needs root")
    registry.sweep()
    with _sigterm_raises():
        entry = registry.register()
        lab = Lab(entry)
        try:
            with lab.stack:
                yield lab
        finally:
            if not entry.kept:
                entry.remove()


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
