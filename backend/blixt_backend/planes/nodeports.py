"""On which of the node's addresses node ports answer. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from blixt_backend.model import PackedAddress

PRIMARY = "primary"
_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
#: Where the node's own programs may ask for node ports; only sockets are served there (bpf/whose.h).
LOOPBACK = tuple(PackedAddress(ip_address(text).packed) for text in ("127.0.0.1", "::1"))


@dataclass(frozen=True, slots=True)
class NodePortAddresses:
    """All addresses of the uplinks, but for a family with `ranges`: any address of the node in one of them,
    127.0.0.1 and ::1 as well.

    With `primary`, the oldest of each family on the first uplink that has one: what is masqueraded as, too.
    """

    ranges: tuple[IPv4Network | IPv6Network, ...] = ()
    primary: bool = False

    @property
    def chosen(self) -> bool:
        """Whether somebody chose."""
        return self.primary or bool(self.ranges)

    @property
    def names_loopback(self) -> bool:
        """Whether a range is loopback's and nothing else's."""
        return any(
            network.subnet_of(own)  # type: ignore[arg-type]
            for network in self.ranges
            for own in _LOOPBACK
            if network.version == own.version
        )

    def select(
        self, uplinks: Sequence[PackedAddress], others: Sequence[PackedAddress]
    ) -> tuple[PackedAddress, ...]:
        """Of the uplinks' addresses, and of those of other interfaces that are no pods'; in their order."""
        if self.primary:
            return tuple({len(address): address for address in reversed(uplinks)}.values())[::-1]
        bound = {4 if network.version == 4 else 16 for network in self.ranges}
        free = [address for address in uplinks if len(address) not in bound]
        there = [address for address in (*uplinks, *others) if address not in LOOPBACK]
        found = [address for address in (*there, *LOOPBACK) if self._has(address)]
        return tuple(dict.fromkeys([*free, *found]))

    def _has(self, packed: PackedAddress) -> bool:
        address = ip_address(bytes(packed))
        return any(address in network for network in self.ranges)


def parse(texts: Sequence[str]) -> NodePortAddresses:
    """Ranges with commas between, or `primary` alone. Raises ValueError with what is wrong."""
    words = [word.strip() for text in texts for word in text.split(",")]
    if PRIMARY in words:
        if len(set(words)) > 1:
            raise ValueError(f"{PRIMARY!r} goes with no range")
        return NodePortAddresses(primary=True)
    return NodePortAddresses(tuple(dict.fromkeys(_range(word) for word in words)))


def _range(text: str) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(text, strict=False) if "/" in text else None
    except ValueError:
        network = None
    if network is None:
        raise ValueError(f"{text!r} is no range such as 192.0.2.0/24 or fd00::/64, nor {PRIMARY!r}")
    return network
