"""What differs between IPv4 and IPv6."""

from __future__ import annotations

from dataclasses import dataclass

TCP = 6
UDP = 17

ETHERNET_SIZE = 14
TCP_SIZE = 20
UDP_SIZE = 8
ICMP_SIZE = 8
#: Of the ports' own header: TCP's or UDP's least size.
TRANSPORT_SIZE = {TCP: TCP_SIZE, UDP: UDP_SIZE}
#: Where the checksum stands in the transport header.
CHECKSUM_AT = {TCP: 16, UDP: 6}


@dataclass(frozen=True, slots=True)
class Family:
    """Sizes in bytes; offsets are from the start of the network header."""

    version: int
    ethertype: int
    address_size: int
    header_size: int
    source_at: int
    ttl_at: int
    icmp: int
    error_types: frozenset[int]


IPV4 = Family(4, 0x0800, 4, 20, 12, 8, 1, frozenset({3, 11, 12}))
IPV6 = Family(6, 0x86DD, 16, 40, 8, 7, 58, frozenset({1, 2, 3, 4}))
