"""The node's own place: its uplinks, and the addresses on which node ports answer. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blixt_backend.model import PackedAddress
from blixt_backend.planes.links import Link, matches
from blixt_backend.planes.nodeports import LOOPBACK, NodePortAddresses

_LOOPBACK_DEVICE = "lo"


@dataclass(frozen=True, slots=True)
class Place:
    """Interfaces that clients from outside come in by, and the node's addresses for node ports."""

    uplinks: frozenset[str] = frozenset()
    addresses: tuple[PackedAddress, ...] = ()


def look(links: Sequence[Link], patterns: Sequence[str], node_ports: NodePortAddresses) -> Place:
    """Uplinks in the order of their patterns; without patterns, every interface has addresses like one."""
    uplinks: dict[str, Link] = {}
    for pattern in patterns or ("*",):
        for link in links:
            if matches(link.name, pattern) and (patterns or link.name != _LOOPBACK_DEVICE):
                uplinks.setdefault(link.name, link)
    own = tuple(dict.fromkeys(address for link in uplinks.values() for address in link.addresses))
    others = [address for link in links if link.name not in uplinks for address in link.addresses]
    chosen = tuple(address for address in node_ports.select(own, others) if address not in LOOPBACK)
    return Place(frozenset(uplinks) if patterns else frozenset(), chosen)
