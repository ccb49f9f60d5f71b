"""An interface as the kernel describes it, and the node as the others on its segment know it."""

from __future__ import annotations

from dataclasses import dataclass

from blixt_backend import rtnetlink
from blixt_backend.announce.frames import Mac
from blixt_backend.announce.ndp import is_link_local
from blixt_backend.model import PackedAddress

_ARPHRD_ETHER = 1
_IFF_UP, _IFF_LOWER_UP = 1 << 0, 1 << 16


class AnnounceError(Exception):
    """What was wrong, where, and what to do, in one line for an operator."""


@dataclass(frozen=True, slots=True)
class Interface:
    """An Ethernet interface with a carrier.

    `addresses` are its own: of IPv4 first, then link-local ones, then others. `taken` are all of this host's,
    whatever their interface: its kernel answers for them everywhere.
    """

    name: str
    ifindex: int
    mac: Mac
    addresses: tuple[PackedAddress, ...] = ()
    taken: frozenset[PackedAddress] = frozenset()

    @property
    def ipv4(self) -> PackedAddress | None:
        return next((address for address in self.addresses if len(address) == 4), None)

    @property
    def link_local(self) -> PackedAddress | None:
        return next(filter(is_link_local, self.addresses), None)


def read(name: str) -> Interface | None:
    """The interface as it is now; None while it isn't there or has no carrier.

    Blocks: call it in a thread. Raises AnnounceError for one that isn't Ethernet, and OSError.
    """
    link = next((link for link in rtnetlink.links() if link.name == name), None)
    if link is None:
        return None
    if link.hardware != _ARPHRD_ETHER:
        raise AnnounceError(
            f"--announce {name}: it is no Ethernet interface, so nobody asks there for addresses"
        )
    if not (link.flags & _IFF_UP and link.flags & _IFF_LOWER_UP):
        return None
    entries = rtnetlink.addresses()
    own = [entry.address for entry in entries if entry.ifindex == link.ifindex]
    own.sort(key=lambda address: (len(address), not is_link_local(address)))
    return Interface(
        name, link.ifindex, Mac(link.mac), tuple(own), frozenset(entry.address for entry in entries)
    )
