"""A namespace whose routing is known: each kind of way on has its addresses, in both families.

The same table makes the kernel's routes (`Network.create`) and the model's FIB (`Network.fib`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from blixt_model.family import IPV4, Family
from blixt_model.ways import Fib, Route

CLONE_NEWNET = 0x40000000


@dataclass(frozen=True, slots=True)
class Link:
    """One end of a veth pair; the other end is up and does nothing."""

    name: str
    mac: str
    mtu: int = 1500
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Addresses `prefix`1, `prefix`2, ... in one family, and how they are reached.

    `via` is a gateway, else they are on the link. Without `neighbour` (a MAC), nobody knows where they are.
    `link` None: nothing routes there. `mtu` 0: the link's.
    """

    name: str
    prefix: str
    length: int
    link: str | None = None
    via: str = ""
    neighbour: str = ""
    mtu: int = 0
    kind: str = "unicast"

    @property
    def family(self) -> int:
        return 6 if ":" in self.prefix else 4

    def address(self, number: int) -> bytes:
        return packed(f"{self.prefix}{number}")


LINKS = (
    Link("uplink0", "02:00:00:00:01:00", 1500, ("192.0.2.1/24", "2001:db8:1::1/64")),
    Link("uplink1", "02:00:00:00:01:01", 1400, ("198.51.100.1/24", "2001:db8:2::1/64")),
    Link("pod0", "02:00:00:00:02:00"),
    Link("pod1", "02:00:00:00:02:01"),
    Link("stranger", "02:00:00:00:03:00"),
)

_ROUTER, _ROUTER6 = "192.0.2.254", "2001:db8:1::fe"
_SILENT, _SILENT6 = "192.0.2.253", "2001:db8:1::fd"
_OTHER, _OTHER6 = "198.51.100.254", "2001:db8:2::fe"
_ROUTER_MAC, _OTHER_MAC, _POD_MAC = "02:00:00:00:f0:01", "02:00:00:00:f0:02", "02:00:00:00:f0:03"

PLACES = (
    Place("pod", "10.1.0.", 24, "pod0", neighbour=_POD_MAC),
    Place("pod", "fd00:1::", 64, "pod0", neighbour=_POD_MAC),
    Place("other-pod", "10.1.1.", 24, "pod1", neighbour=_POD_MAC),
    Place("other-pod", "fd00:1:1::", 64, "pod1", neighbour=_POD_MAC),
    Place("silent-pod", "10.1.2.", 24, "pod1"),
    Place("silent-pod", "fd00:1:2::", 64, "pod1"),
    Place("remote", "10.2.0.", 24, "uplink0", _ROUTER, _ROUTER_MAC),
    Place("remote", "fd00:2::", 64, "uplink0", _ROUTER6, _ROUTER_MAC),
    Place("silent", "10.3.0.", 24, "uplink0", _SILENT),
    Place("silent", "fd00:3::", 64, "uplink0", _SILENT6),
    Place("narrow", "10.4.0.", 24, "uplink0", _ROUTER, _ROUTER_MAC, mtu=600),
    Place("narrow", "fd00:4::", 64, "uplink0", _ROUTER6, _ROUTER_MAC, mtu=1280),
    Place("other-uplink", "10.5.0.", 24, "uplink1", _OTHER, _OTHER_MAC),
    Place("other-uplink", "fd00:5::", 64, "uplink1", _OTHER6, _OTHER_MAC),
    Place("unreachable", "10.6.0.", 24, kind="unreachable"),
    Place("unreachable", "fd00:6::", 64, kind="unreachable"),
    Place("nowhere", "10.7.0.", 24, kind="none"),
    Place("nowhere", "fd00:7::", 64, kind="none"),
    Place("self", "192.0.2.", 32, kind="none"),
    Place("self", "2001:db8:1::", 128, kind="none"),
    Place("client", "203.0.113.", 24, "uplink0", _ROUTER, _ROUTER_MAC),
    Place("client", "2001:db8:c::", 64, "uplink0", _ROUTER6, _ROUTER_MAC),
)
#: On the link itself there are no more than these numbers of each place.
NUMBERS = range(1, 9)


@dataclass(frozen=True, slots=True)
class Network:
    name: str
    ifindexes: dict[str, int]

    def place(self, family: Family, name: str) -> Place:
        return next(p for p in PLACES if p.family == family.version and p.name == name)

    def mac_of(self, device: str) -> bytes:
        return next(mac(link.mac) for link in LINKS if link.name == device)

    def fib(self, family: Family) -> Fib:
        routes: dict[bytes, Route] = {}
        macs = {link.name: link for link in LINKS}
        for place in PLACES:
            if place.family != family.version or place.link is None:
                continue
            link = macs[place.link]
            route = Route(
                device=self.ifindexes[link.name],
                mtu=place.mtu or link.mtu,
                from_mac=mac(link.mac),
                to_mac=mac(place.neighbour) if place.neighbour else None,
            )
            routes.update({place.address(number): route for number in NUMBERS})
        return routes.get


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """Lives as long as the context; needs root and iproute2."""
    name = f"blixt-model-{uuid.uuid4().hex[:8]}"
    _run("ip", "netns", "add", name)
    try:
        with inside(name):
            _forward()
            _run("ip", "-batch", "-", text="\n".join(_commands()) + "\n")
            made = Network(name, {link.name: socket.if_nametoindex(link.name) for link in LINKS})
        yield made
    finally:
        _run("ip", "netns", "del", name)


@contextlib.contextmanager
def inside(name: str) -> Iterator[None]:
    """This thread is in the namespace; programs run there see its devices and routes."""
    with Path("/proc/thread-self/ns/net").open("rb") as home, Path("/run/netns", name).open("rb") as there:
        _setns(there.fileno())
        try:
            yield
        finally:
            _setns(home.fileno())


def _setns(fd: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(fd, CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, f"entering a network namespace: {os.strerror(code)}")


def _forward() -> None:
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    conf = Path("/proc/sys/net/ipv6/conf")
    (conf / "all/forwarding").write_text("1")
    for device in ("all", "default"):
        (conf / device / "accept_dad").write_text("0")


def _commands() -> Iterator[str]:
    yield "link set lo up"
    for link in LINKS:
        yield f"link add {link.name} address {link.mac} mtu {link.mtu} type veth peer name {link.name}-far"
        yield f"link set {link.name}-far up"
        yield f"link set {link.name} up"
        for address in link.addresses:
            yield f"address add {address} dev {link.name}" + (" nodad" if ":" in address else "")
    neighbours: dict[tuple[str, str], str] = {}
    for place in PLACES:
        if place.kind == "none":
            continue
        network_address = f"{place.prefix}{'0' if place.family == 4 else ''}/{place.length}"
        if place.link is None:
            yield f"route add {place.kind} {network_address}"
            continue
        way = f"via {place.via} dev {place.link}" if place.via else f"dev {place.link}"
        yield f"route add {network_address} {way}" + (f" mtu lock {place.mtu}" if place.mtu else "")
        if place.neighbour:
            hops = [place.via] if place.via else [f"{place.prefix}{number}" for number in NUMBERS]
            neighbours.update({(hop, place.link): place.neighbour for hop in hops})
    for (hop, device), link_address in neighbours.items():
        yield f"neighbour add {hop} lladdr {link_address} dev {device} nud permanent"


def _run(*command: str, text: str | None = None) -> None:
    done = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def self_address(family: Family) -> bytes:
    return packed("192.0.2.1" if family is IPV4 else "2001:db8:1::1")
