"""Addresses and ranges as strings in their canonical form, sorted out by family."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal


class Family(IntEnum):
    V4 = socket.AF_INET
    V6 = socket.AF_INET6


#: EndpointSlice's addressType; FQDN isn't there: names are no endpoints of a load balancer.
FAMILY_OF_SLICE = {"IPv4": Family.V4, "IPv6": Family.V6}


def canonical(address: str, family: Family) -> str | None:
    """The address in its canonical form (RFC 5952); None if it isn't one of that family."""
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, address))
    except (OSError, ValueError, UnicodeError):
        return None


@dataclass(frozen=True, slots=True)
class Addresses:
    """Strings of both families, in the order they came in: addresses, or ranges."""

    v4: tuple[str, ...] = ()
    v6: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.v4 or self.v6)


#: Reasons of the Gateway API (v1.6) for a Gateway that isn't Programmed.
Lacking = Literal["AddressNotAssigned", "AddressNotUsable"]


@dataclass(frozen=True, slots=True)
class Assignment:
    """The addresses that an object was given out of our pools, or not."""

    #: In canonical form: those that the object brings along, then those of its wishes, in their order.
    addresses: tuple[str, ...] = ()
    #: None: nothing is lacking.
    reason: Lacking | None = None
    #: What is lacking and why, for people.
    problem: str = ""


def sort_out(addresses: Iterable[str]) -> tuple[Addresses, tuple[str, ...]]:
    """Addresses by family, doubles left out, and those that are none. Empty strings count as absent."""
    families: dict[Family, dict[str, None]] = {Family.V4: {}, Family.V6: {}}
    bad = []
    for address in filter(None, addresses):
        family = Family.V6 if ":" in address else Family.V4
        if (good := canonical(address, family)) is None:
            bad.append(address)
        else:
            families[family][good] = None
    return Addresses(tuple(families[Family.V4]), tuple(families[Family.V6])), tuple(bad)


def sort_out_ranges(ranges: Iterable[str]) -> tuple[Addresses, tuple[str, ...]]:
    """CIDR ranges by family, and those that are none. White space around them and host bits are ignored."""
    v4: list[str] = []
    v6: list[str] = []
    bad: list[str] = []
    for text in filter(None, (text.strip() for text in ranges)):
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            bad.append(text)
        else:
            (v4 if network.version == 4 else v6).append(str(network))
    return Addresses(tuple(v4), tuple(v6)), tuple(bad)
