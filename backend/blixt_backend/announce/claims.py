"""Which addresses are to be answered for, and by which nodes. Pure.

A service whose externalTrafficPolicy is Local is served only by nodes with a usable endpoint: ready ones or,
if none is, those that still serve while they terminate; for each family apart. Every node is told of all
endpoints and their nodes, so all come to the same.

An address of several services, as of a Gateway's listeners, is for the nodes that can serve all of them.
Where there is no such node, it is for those that can serve any: half is better than nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from blixt_backend.announce.frames import is_usable
from blixt_backend.model import ChangeSet, PackedAddress, ServiceView

#: The nodes that can serve; None: any.
Nodes = frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Claim:
    """One service's addresses."""

    nodes: tuple[tuple[PackedAddress, Nodes], ...] = ()


_NOTHING = Claim()


def claim(view: ServiceView) -> Claim:
    """What a service asks to be answered for."""
    service = view.service
    if not service.announce:
        return _NOTHING
    by_length: dict[int, Nodes] = {4: None, 16: None}
    if service.external_traffic_local:
        by_length = {length: _usable(view, length) for length in by_length}
    addresses = dict.fromkeys(filter(is_usable, service.load_balancer_ips))
    return Claim(tuple((address, by_length[len(address)]) for address in addresses))


def _usable(view: ServiceView, length: int) -> frozenset[str]:
    """The nodes with a usable endpoint of a family, which is told by the length of its addresses."""
    ready, ending = set[str](), set[str]()
    for endpoint in view.endpoints:
        if endpoint.node and endpoint.serving and any(len(ip) == length for ip in endpoint.addresses):
            (ending if endpoint.terminating else ready).add(endpoint.node)
    return frozenset(ready or ending)


class Claims:
    """All addresses by what has been applied. A change costs what it touches."""

    def __init__(self) -> None:
        self._by_path: dict[str, Claim] = {}
        #: By address, then by service path.
        self._by_address: dict[PackedAddress, dict[str, Nodes]] = {}

    @property
    def addresses(self) -> Iterable[PackedAddress]:
        return self._by_address.keys()

    def apply(self, change: ChangeSet) -> set[PackedAddress]:
        """Take in what the plane has applied; the addresses whose candidates may be others now."""
        gone = set(change.removed)
        if change.resync:
            gone.update(self._by_path.keys() - change.desired.keys())
        touched: set[PackedAddress] = set()
        for path in gone:
            touched.update(self._replace(path, _NOTHING))
        for path, view in change.changed.items():
            touched.update(self._replace(path, claim(view)))
        return touched

    def candidates(self, address: PackedAddress, live: frozenset[str]) -> frozenset[str]:
        """Those of the live nodes that may answer for an address; none for one that nobody claims."""
        able = [
            live if nodes is None else live & nodes for nodes in self._by_address.get(address, {}).values()
        ]
        if not able:
            return frozenset()
        return able[0].intersection(*able) or able[0].union(*able)

    def _replace(self, path: str, new: Claim) -> Iterable[PackedAddress]:
        old = self._by_path.get(path, _NOTHING)
        if new == old:
            return
        for address, _ in old.nodes:
            holders = self._by_address[address]
            holders.pop(path, None)
            if not holders:
                del self._by_address[address]
            yield address
        for address, nodes in new.nodes:
            self._by_address.setdefault(address, {})[path] = nodes
            yield address
        if new.nodes:
            self._by_path[path] = new
        else:
            self._by_path.pop(path, None)
