"""What differs between IPv4 and IPv6."""

from __future__ import annotations

from dataclasses import dataclass

TCP = 6
UDP = 17
SCTP = 132

ETHERNET_SIZE = 14
TCP_SIZE = 20
UDP_SIZE = 8
ICMP_SIZE = 8
#: SCTP's common header and the begin of a chunk.
SCTP_SIZE = 16
#: Of what has ports, the least size.
TRANSPORT_SIZE = {TCP: TCP_SIZE, UDP: UDP_SIZE, SCTP: SCTP_SIZE}
#: What an ICMP error quotes of it: of SCTP up to the tag in an INIT (RFC 9260, 10).
QUOTED_SIZE = {TCP: TCP_SIZE, UDP: UDP_SIZE, SCTP: 20}
#: Where the Internet checksum stands in the transport header. SCTP's is another one.
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
