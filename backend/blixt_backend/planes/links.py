"""The node's interfaces and their addresses, as the kernel tells of them.

When to look again is told by `blixt_backend.netlink`.
"""

from __future__ import annotations

import fnmatch
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyroute2 import IPRoute  # type: ignore[import-untyped]  # it ships no types

from blixt_backend.model import PackedAddress

_SCOPE_GLOBAL = 0
_IFA_F_SECONDARY, _IFA_F_DADFAILED, _IFA_F_DEPRECATED, _IFA_F_TENTATIVE = 0x01, 0x08, 0x20, 0x40


@dataclass(frozen=True, slots=True)
class Link:
    """An interface as the kernel describes it. `kind` is IFLA_INFO_KIND, empty for hardware.

    `addresses` are its global ones, of each family the oldest first, without temporary and unusable ones.
    """

    ifindex: int
    name: str
    kind: str = ""
    peer_elsewhere: bool = False
    addresses: tuple[PackedAddress, ...] = ()


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
    with IPRoute() as netlink:
        addresses: dict[int, list[tuple[bool, PackedAddress]]] = {}
        for message in netlink.get_addr():
            found = _usable_address(message)
            if found is not None:
                addresses.setdefault(message["index"], []).append(found)
        links = []
        for message in netlink.get_links():
            info = message.get_attr("IFLA_LINKINFO")
            links.append(
                Link(
                    ifindex=message["index"],
                    name=message.get_attr("IFLA_IFNAME"),
                    kind=(info.get_attr("IFLA_INFO_KIND") or "") if info else "",
                    peer_elsewhere=message.get_attr("IFLA_LINK_NETNSID") is not None,
                    addresses=_oldest_first(addresses.get(message["index"], ())),
                )
            )
    return links


def _oldest_first(listed: Sequence[tuple[bool, PackedAddress]]) -> tuple[PackedAddress, ...]:
    """(is secondary, address) as the kernel lists them: IPv6's newest first, IPv4's secondaries anywhere."""
    ipv4 = sorted((entry for entry in listed if len(entry[1]) == 4), key=lambda entry: entry[0])
    ipv6 = reversed([entry for entry in listed if len(entry[1]) == 16])
    return tuple(address for _, address in (*ipv4, *ipv6))


def _usable_address(message: Mapping[str, int]) -> tuple[bool, PackedAddress] | None:
    """(is secondary, address) of an RTM_NEWADDR message."""
    attributes = dict(message["attrs"])  # type: ignore[call-overload]  # pyroute2 has no types
    text = attributes.get("IFA_LOCAL") or attributes.get("IFA_ADDRESS")
    flags = attributes.get("IFA_FLAGS", message["flags"])
    is_ipv6 = message["family"] == socket.AF_INET6
    secondary = bool(flags & _IFA_F_SECONDARY)
    if text is None or message["scope"] != _SCOPE_GLOBAL or flags & (_IFA_F_DADFAILED | _IFA_F_TENTATIVE):
        return None
    if is_ipv6 and (secondary or flags & _IFA_F_DEPRECATED):  # for IPv6 the same bit means temporary
        return None
    return secondary, PackedAddress(socket.inet_pton(message["family"], text))
