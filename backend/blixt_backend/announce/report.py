"""What operators are told, in few lines however much there is to tell."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence
from ipaddress import ip_address

from blixt_backend.announce.frames import Mac
from blixt_backend.model import PackedAddress

log = logging.getLogger(__name__)

#: Of addresses that come and go together, so many are named.
_MOST_NAMED = 5
#: What is told once is remembered for so many things; then some may be told again.
_MOST_REMEMBERED = 1000


def readable(address: PackedAddress) -> str:
    return str(ip_address(bytes(address)))


class Report:
    """The log lines of one interface."""

    def __init__(self, interface: str) -> None:
        self._interface = interface
        self._claimed: list[str] = []
        self._released: list[str] = []
        self._told: set[Hashable] = set()

    def claimed(self, address: PackedAddress) -> None:
        self._claimed.append(readable(address))

    def released(self, address: PackedAddress, why: str) -> None:
        self._released.append(f"{readable(address)} on {self._interface} ({why})")

    def flush(self) -> None:
        """Write what has gathered."""
        claimed = [f"{address} on {self._interface}" for address in self._claimed]
        self._tell("announcing", claimed)
        self._tell("no longer announcing", self._released)
        self._claimed, self._released = [], []

    def conflict(self, address: PackedAddress, mac: Mac, held: bool) -> None:
        """Somebody who is no node of ours has the address."""
        what = "answers for it too" if held else "has it, so it is not announced"
        self.once(
            (address, mac, held), "%s on %s: %s %s; give one of them another address",
            readable(address), self._interface, mac.hex(":"), what,
        )  # fmt: skip

    def taken(self, address: PackedAddress) -> None:
        self.once(
            address, "%s is not announced on %s: it is a node's own address",
            readable(address), self._interface,
        )  # fmt: skip

    def once(self, about: Hashable, message: str, *arguments: object, level: int = logging.WARNING) -> None:
        """One line about something, unless there was one before."""
        if about in self._told:
            return
        if len(self._told) >= _MOST_REMEMBERED:
            self._told.clear()
        self._told.add(about)
        log.log(level, message, *arguments)

    def members(self, came: Sequence[str], went: Sequence[str]) -> None:
        """Nodes that announce from now on, and that do no more."""
        if came:
            log.info("%s: %s may announce addresses", self._interface, ", ".join(came))
        if went:
            log.info("%s: %s may announce no more", self._interface, ", ".join(went))

    def _tell(self, what: str, addresses: list[str]) -> None:
        for address in addresses[:_MOST_NAMED]:
            log.info("%s %s", what, address)
        if (more := len(addresses) - _MOST_NAMED) > 0:
            log.info("%s %d more addresses on %s", what, more, self._interface)
