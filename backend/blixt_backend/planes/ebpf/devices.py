"""Which interfaces get programs, and what the `devices` map says of them.

`choose` is pure; `scan` reads what there is. When to do so is told by `blixt_backend.netlink`.
"""

from __future__ import annotations

import fnmatch
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from pyroute2 import IPRoute  # type: ignore[import-untyped]  # it ships no types

from blixt_backend.model import PackedAddress
from blixt_backend.planes.ebpf.layout import DeviceFlag, Layout
from blixt_backend.planes.ebpf.nodeports import NodePortAddresses

DEFAULT_POD_PATTERNS = ("veth*", "cali*", "lxc*", "cni*", "gke*", "azv*", "eni*")
_SCOPE_GLOBAL = 0
_IFA_F_SECONDARY, _IFA_F_DADFAILED, _IFA_F_DEPRECATED, _IFA_F_TENTATIVE = 0x01, 0x08, 0x20, 0x40


class Role(Enum):
    UPLINK = "uplink"
    POD = "pod"


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


@dataclass(frozen=True, slots=True)
class Device:
    """An interface that gets programs. `masquerade` has at most one address for each family."""

    ifindex: int
    name: str
    role: Role
    kind: str
    flags: int
    masquerade: tuple[PackedAddress, ...]

    def row(self, layout: Layout) -> bytes:
        """Its entry in a family's `devices` map."""
        for address in self.masquerade:
            if len(address) == layout.size:
                return layout.device.pack(address, self.flags | DeviceFlag.MASQUERADE)
        return layout.device.pack(bytes(layout.size), self.flags)


@dataclass(frozen=True, slots=True)
class Choice:
    """All devices by ifindex, and the node's own addresses on which node ports answer."""

    devices: Mapping[int, Device]
    node_addresses: tuple[PackedAddress, ...]


def is_glob(pattern: str) -> bool:
    return any(mark in pattern for mark in "*?[")


def unmatched(links: Sequence[Link], patterns: Sequence[str]) -> list[str]:
    """The patterns that match no interface."""
    return [p for p in patterns if not any(fnmatch.fnmatchcase(link.name, p) for link in links)]


def choose(
    links: Sequence[Link],
    uplink_patterns: Sequence[str],
    pod_patterns: Sequence[str],
    node_ports: NodePortAddresses | None = None,
) -> Choice:
    """The uplinks in the order of their patterns; pods' devices are those that match and aren't uplinks.

    Pods' devices masquerade as the first uplink that has an address of the family, as does an
    uplink without one. Only a pod's veth is marked as having a peer: a short cut into an
    uplink's peer would skip the uplink's queues.
    """
    uplinks: dict[int, Link] = {}
    for pattern in uplink_patterns:
        for link in links:
            if fnmatch.fnmatchcase(link.name, pattern):
                uplinks.setdefault(link.ifindex, link)
    uplink_addresses = tuple(dict.fromkeys(a for link in uplinks.values() for a in link.addresses))
    node = _first_of_each_family(uplink_addresses)
    devices = {}
    for link in uplinks.values():
        own = _first_of_each_family((*link.addresses, *node))
        devices[link.ifindex] = Device(
            link.ifindex, link.name, Role.UPLINK, link.kind, int(DeviceFlag.UPLINK), own
        )
    for link in links:
        if link.ifindex not in uplinks and any(fnmatch.fnmatchcase(link.name, p) for p in pod_patterns):
            flags = DeviceFlag.POD | (DeviceFlag.PEER if link.kind == "veth" and link.peer_elsewhere else 0)
            devices[link.ifindex] = Device(link.ifindex, link.name, Role.POD, link.kind, int(flags), node)
    others = [a for link in links if link.ifindex not in devices for a in link.addresses]
    return Choice(devices, (node_ports or NodePortAddresses()).select(uplink_addresses, others))


def _first_of_each_family(addresses: Sequence[PackedAddress]) -> tuple[PackedAddress, ...]:
    first: dict[int, PackedAddress] = {}
    for address in addresses:
        first.setdefault(len(address), address)
    return tuple(first.values())


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
