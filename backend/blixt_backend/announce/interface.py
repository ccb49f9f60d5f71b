"""An interface as the kernel describes it, and the node as the others on its segment know it."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from pyroute2 import IPRoute  # type: ignore[import-untyped]  # it ships no types

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
    with IPRoute() as netlink:
        found = [link for link in netlink.get_links() if link.get_attr("IFLA_IFNAME") == name]
        if not found:
            return None
        (link,) = found
        if link["ifi_type"] != _ARPHRD_ETHER:
            raise AnnounceError(
                f"--announce {name}: it is no Ethernet interface, so nobody asks there for addresses"
            )
        if not (link["flags"] & _IFF_UP and link["flags"] & _IFF_LOWER_UP):
            return None
        own, taken = [], []
        for message in netlink.get_addr():
            text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            if text is not None:
                address = PackedAddress(socket.inet_pton(message["family"], text))
                taken.append(address)
                if message["index"] == link["index"]:
                    own.append(address)
    own.sort(key=lambda address: (len(address), not is_link_local(address)))
    mac = bytes.fromhex(link.get_attr("IFLA_ADDRESS").replace(":", ""))
    return Interface(name, link["index"], Mac(mac), tuple(own), frozenset(taken))
