"""Which interfaces get programs, and what the `devices` map says of them.

Pure; what there is, is read by `blixt_backend.planes.links`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Network, IPv6Network

from blixt_backend.model import PackedAddress
from blixt_backend.planes.ebpf.layout import DeviceFlag, Layout
from blixt_backend.planes.links import Link, matches
from blixt_backend.planes.nodeports import NodePortAddresses

DEFAULT_POD_PATTERNS = ("veth*", "cali*", "lxc*", "cni*", "gke*", "azv*", "eni*")


class Role(Enum):
    UPLINK = "uplink"
    POD = "pod"


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
    """All devices by ifindex, the node's own addresses on which node ports answer, and the uplinks' networks.

    `has_vlans`: an uplink is a VLAN device, or carries some; `unserved_vlans`: those that are none.
    """

    devices: Mapping[int, Device]
    node_addresses: tuple[PackedAddress, ...]
    has_vlans: bool = False
    unserved_vlans: tuple[str, ...] = ()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()


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
            if matches(link.name, pattern):
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
        if link.ifindex not in uplinks and any(matches(link.name, p) for p in pod_patterns):
            flags = DeviceFlag.POD | (DeviceFlag.PEER if link.kind == "veth" and link.peer_elsewhere else 0)
            devices[link.ifindex] = Device(link.ifindex, link.name, Role.POD, link.kind, int(flags), node)
    others = [a for link in links if link.ifindex not in devices for a in link.addresses]
    carried = [link for link in links if link.is_vlan and link.trunk in uplinks]
    return Choice(
        devices,
        (node_ports or NodePortAddresses()).select(uplink_addresses, others),
        has_vlans=bool(carried) or any(link.is_vlan for link in uplinks.values()),
        unserved_vlans=tuple(link.name for link in carried if link.ifindex not in devices),
        networks=tuple(dict.fromkeys(n for link in uplinks.values() for n in link.networks)),
    )


def _first_of_each_family(addresses: Sequence[PackedAddress]) -> tuple[PackedAddress, ...]:
    first: dict[int, PackedAddress] = {}
    for address in addresses:
        first.setdefault(len(address), address)
    return tuple(first.values())
