"""Who a client is: of the cluster, or of the world outside."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from blixt_backend.planes.userspace.choice import Side
from blixt_backend.planes.userspace.compile import Entry, Network


@dataclass(frozen=True, slots=True)
class Clients:
    """`cluster`: the pods' addresses; `own`: this machine's, in readable form."""

    cluster: Sequence[Network] = ()
    own: Collection[str] = frozenset()

    def side(self, entry: Entry, client: str) -> Side | None:
        """What a client of that address gets; None: it isn't let in."""
        if entry.outside is None and entry.ranges is None:
            return entry.inside
        address = ip_address(client.partition("%")[0])
        if client in self.own or self._inside(address):
            return entry.inside
        if entry.ranges is not None and not _within(address, entry.ranges):
            return None
        return entry.inside if entry.outside is None else entry.outside

    def _inside(self, address: IPv4Address | IPv6Address) -> bool:
        return address.is_loopback or _within(address, self.cluster)


def _within(address: IPv4Address | IPv6Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)
