"""Address pools: which addresses are ours to give out, as the command line tells them."""

from __future__ import annotations

import ipaddress
import re
import socket
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

_FAMILIES = {4: (socket.AF_INET, 4), 6: (socket.AF_INET6, 16)}
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class Address(NamedTuple):
    """An IP address that can be counted on from. Written in its canonical form (RFC 5952)."""

    #: 4 or 6.
    version: int
    number: int

    def __str__(self) -> str:
        family, size = _FAMILIES[self.version]
        return socket.inet_ntop(family, self.number.to_bytes(size, "big"))


def parse_address(text: str) -> Address | None:
    """None if it is no IP address; one with a zone (`%eth0`) is none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return None if "%" in text else Address(address.version, int(address))


@dataclass(frozen=True, slots=True)
class Range:
    """Addresses of one family from `first` to `last`, both included."""

    version: int
    first: int
    last: int

    def __str__(self) -> str:
        first = Address(self.version, self.first)
        return str(first) if self.first == self.last else f"{first}-{Address(self.version, self.last)}"


@dataclass(frozen=True, slots=True)
class Pool:
    """Ranges under a name. Addresses are given out from the first range on, the lowest free one first."""

    name: str
    ranges: tuple[Range, ...]


class Pools:
    """All pools, in the order in which addresses are taken from them. Raises ValueError where two overlap."""

    def __init__(self, pools: Iterable[Pool] = ()) -> None:
        self._by_name: dict[str, Pool] = {}
        for pool in pools:
            if pool.name in self._by_name:
                raise ValueError(f"address pool {pool.name!r} is given twice: join them with a comma")
            self._by_name[pool.name] = pool
        self._sorted = {version: self._checked(version) for version in _FAMILIES}

    def __bool__(self) -> bool:
        return bool(self._by_name)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._by_name)

    def ranges(self, name: str, version: int) -> Iterator[Range]:
        """The ranges of one family, of the named pool, or of all if the name is empty."""
        for pool in self._by_name.values():
            if name in ("", pool.name):
                yield from (part for part in pool.ranges if part.version == version)

    def versions(self, name: str) -> tuple[int, ...]:
        """The families that the named pool has, or all together if the name is empty; IPv4 first."""
        return tuple(version for version in _FAMILIES if next(self.ranges(name, version), None))

    def pool_of(self, address: Address) -> str | None:
        """The name of the pool that holds the address."""
        found = self._find(address)
        return found[1] if found else None

    def range_of(self, address: Address) -> Range | None:
        found = self._find(address)
        return found[0] if found else None

    def _find(self, address: Address) -> tuple[Range, str] | None:
        parts = self._sorted[address.version]
        index = bisect_right(parts, address.number, key=lambda part: part[0].first) - 1
        return parts[index] if index >= 0 and address.number <= parts[index][0].last else None

    def _checked(self, version: int) -> list[tuple[Range, str]]:
        parts = [(part, name) for name in self._by_name for part in self.ranges(name, version)]
        parts.sort(key=lambda part: part[0].first)
        for (low, its_pool), (high, other_pool) in pairwise(parts):
            if high.first <= low.last:
                raise ValueError(
                    f"address pools overlap: {low} in {its_pool!r} and {high} in {other_pool!r}; "
                    "give every address once"
                )
        return parts


def parse_pool(text: str) -> Pool:
    """`NAME=PART[,PART...]`, each a CIDR, a range `FIRST-LAST` or one address. Raises ValueError.

    A CIDR stands for its addresses except, unless it is a /31, /32, /127 or /128, those that mean
    something else on a link: IPv4's network and broadcast address (RFC 1122), IPv6's subnet-router anycast
    address (RFC 4291). A range stands for exactly what it says.
    """
    name, equals, parts = text.partition("=")
    if not equals or not _NAME.fullmatch(name):
        raise ValueError(
            f"{text!r}: not NAME=CIDR|RANGE[,CIDR|RANGE...], "
            "with a name of small letters, digits and hyphens, such as lan=192.0.2.100-192.0.2.199"
        )
    try:
        return Pool(name, tuple(_parse_part(part.strip()) for part in parts.split(",")))
    except ValueError as error:
        raise ValueError(f"address pool {name!r}: {error}") from None


def _parse_part(text: str) -> Range:
    if "/" in text:
        return _parse_cidr(text)
    ends = [parse_address(end.strip()) for end in text.split("-")]
    first, last = ends[0], ends[-1]
    if len(ends) > 2 or first is None or last is None:
        raise ValueError(f"{text!r} is no CIDR, no range FIRST-LAST and no address")
    if first.version != last.version:
        raise ValueError(f"{text!r} goes from one IP family to the other")
    if first.number > last.number:
        raise ValueError(f"{text!r} ends before it begins")
    return Range(first.version, first.number, last.number)


def _parse_cidr(text: str) -> Range:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is no CIDR, no range FIRST-LAST and no address") from None
    if "%" in text or int(network.network_address) != int(ipaddress.ip_address(text.partition("/")[0])):
        raise ValueError(f"{text!r} has bits set behind its prefix; did you mean {network}?")
    first, last = int(network.network_address), int(network.broadcast_address)
    if network.max_prefixlen - network.prefixlen > 1:
        first += 1
        last -= network.version == 4
    return Range(network.version, first, last)
