"""Whose tunnels are taken out: the `nodes` map, of the ranges that the nodes' addresses are from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network

from blixt_backend.planes.ebpf.layout import Layout
from blixt_backend.planes.ebpf.maps import BpfMap, joined

Range = IPv4Network | IPv6Network
#: Of bpf/arrival.h: a list of every node's address fits, too.
MOST_RANGES = 16384
_PRESENT = bytes(4)


def parse(texts: Sequence[str]) -> tuple[Range, ...]:
    """Ranges or addresses, with commas between. Raises ValueError with what is wrong."""
    words = [word.strip() for text in texts for word in text.split(",")]
    ranges = tuple(dict.fromkeys(map(_range, words)))
    if len(ranges) > MOST_RANGES:
        raise ValueError(f"{len(ranges)} ranges are more than the {MOST_RANGES} that there is room for")
    return ranges


def _range(text: str) -> Range:
    try:
        return ip_network(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no range such as 192.0.2.0/24 or fd00::/64: {error}") from None


class Nodes:
    """One family's. Not thread-safe. Raises BpfError."""

    def __init__(self, layout: Layout, opened: BpfMap) -> None:
        self._layout = layout
        self._map = opened

    def close(self) -> None:
        self._map.close()

    def follow(self, ranges: Iterable[Range]) -> None:
        """These, and no others. Those that stay are not touched: tunnels go on meanwhile."""
        wanted = {
            self._layout.node_range.pack(network.prefixlen, network.network_address.packed)
            for network in ranges
            if network.max_prefixlen == self._layout.bits
        }
        held = {key for key, _ in self._map.items()}
        self._map.update_joined(*joined((key, _PRESENT) for key in wanted - held))
        self._map.delete_joined(b"".join(held - wanted))
