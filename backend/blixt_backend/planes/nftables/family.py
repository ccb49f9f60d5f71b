"""What differs between IPv4 and IPv6: one table each, of the same shape."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Final

#: Another layout of the tables takes another name, and so comes into force beside this one.
TABLE: Final = "blixt-2"
#: What tables of all layouts begin with.
TABLE_PREFIX: Final = "blixt-"


@dataclass(frozen=True, slots=True)
class Family:
    """`name` is nftables' word, `size` the bytes of an address."""

    name: str
    number: socket.AddressFamily
    size: int

    @property
    def version(self) -> int:
        return 4 if self.size == 4 else 6

    def text(self, packed: bytes) -> str:
        """An address as nftables writes it."""
        return socket.inet_ntop(self.number, packed)


IPV4: Final = Family("ip", socket.AF_INET, 4)
IPV6: Final = Family("ip6", socket.AF_INET6, 16)
FAMILIES: Final = (IPV4, IPV6)
