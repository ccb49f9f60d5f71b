"""Where all cluster IPs are from: `--service-cidrs`. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network

Range = IPv4Network | IPv6Network


def parse(texts: Sequence[str]) -> tuple[Range, ...]:
    """Ranges, with commas between. Raises ValueError with what is wrong."""
    words = [word.strip() for text in texts for word in text.split(",")]
    return tuple(dict.fromkeys(map(_range, words)))


def _range(text: str) -> Range:
    try:
        network = ip_network(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no range such as 10.96.0.0/12 or fd00:10:96::/112: {error}") from None
    if not 8 <= network.prefixlen < network.max_prefixlen:
        raise ValueError(f"{text!r} can't be the range of all cluster IPs")
    return network
