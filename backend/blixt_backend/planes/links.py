"""The node's interfaces and their addresses, as the kernel tells of them.

When to look again is told by `blixt_backend.netlink`.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from blixt_backend import rtnetlink
from blixt_backend.model import PackedAddress

_VLAN = "vlan"
_SCOPE_GLOBAL = 0
_IFA_F_SECONDARY, _IFA_F_DADFAILED, _IFA_F_DEPRECATED, _IFA_F_TENTATIVE = 0x01, 0x08, 0x20, 0x40


@dataclass(frozen=True, slots=True)
class Link:
    """An interface as the kernel describes it. `kind` is IFLA_INFO_KIND, empty for hardware.

    `addresses` are its global ones, of each family the oldest first, without temporary and unusable ones;
    `networks` are what they are in. `trunk`: of a VLAN device, the ifindex of what carries it; else 0.
    """

    ifindex: int
    name: str
    kind: str = ""
    peer_elsewhere: bool = False
    addresses: tuple[PackedAddress, ...] = ()
    trunk: int = 0
    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    @property
    def is_vlan(self) -> bool:
        return self.kind == _VLAN


def matches(name: str, pattern: str) -> bool:
    """Whether an interface's name is one of a pattern's: a name, or a glob."""
    return fnmatch.fnmatchcase(name, pattern)


def is_glob(pattern: str) -> bool:
    return any(mark in pattern for mark in "*?[")


def unmatched(links: Sequence[Link], patterns: Sequence[str]) -> list[str]:
    """The patterns that match no interface."""
    return [p for p in patterns if not any(matches(link.name, p) for link in links)]


def scan() -> list[Link]:
    """All interfaces of this network namespace. Blocks: call it in a thread. Raises OSError."""
    addresses: dict[int, list[tuple[bool, PackedAddress]]] = {}
    networks: dict[int, list[IPv4Network | IPv6Network]] = {}
    for entry in rtnetlink.addresses():
        found = _usable_address(entry)
        if found is not None:
            addresses.setdefault(entry.ifindex, []).append(found)
            network = ip_network((bytes(entry.address), entry.prefix_length), strict=False)
            networks.setdefault(entry.ifindex, []).append(network)
    return [
        Link(
            ifindex=link.ifindex,
            name=link.name,
            kind=link.kind,
            peer_elsewhere=link.peer_elsewhere,
            addresses=_oldest_first(addresses.get(link.ifindex, ())),
            trunk=link.on if link.kind == _VLAN else 0,
            networks=tuple(dict.fromkeys(networks.get(link.ifindex, ()))),
        )
        for link in rtnetlink.links()
    ]


def _oldest_first(listed: Sequence[tuple[bool, PackedAddress]]) -> tuple[PackedAddress, ...]:
    """(is secondary, address) as the kernel lists them: IPv6's newest first, IPv4's secondaries anywhere."""
    ipv4 = sorted((entry for entry in listed if len(entry[1]) == 4), key=lambda entry: entry[0])
    ipv6 = reversed([entry for entry in listed if len(entry[1]) == 16])
    return tuple(address for _, address in (*ipv4, *ipv6))


def _usable_address(entry: rtnetlink.AddressEntry) -> tuple[bool, PackedAddress] | None:
    """(is secondary, address)."""
    secondary = bool(entry.flags & _IFA_F_SECONDARY)
    if entry.scope != _SCOPE_GLOBAL or entry.flags & (_IFA_F_DADFAILED | _IFA_F_TENTATIVE):
        return None
    # For IPv6 the bit of secondary ones means temporary.
    if len(entry.address) == 16 and (secondary or entry.flags & _IFA_F_DEPRECATED):
        return None
    return secondary, entry.address
