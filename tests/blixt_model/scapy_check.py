"""Checksums as scapy reckons them: the third opinion, which shares no code with the model."""

from __future__ import annotations

from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPerror6,
)
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP
from scapy.packet import Packet

_CHECKSUM_FIELDS: dict[type[Packet], str] = {
    IP: "chksum",
    TCP: "chksum",
    UDP: "chksum",
    SCTP: "chksum",
    ICMP: "chksum",
    ICMPv6DestUnreach: "cksum",
    ICMPv6PacketTooBig: "cksum",
    ICMPv6TimeExceeded: "cksum",
    ICMPv6ParamProblem: "cksum",
}


def wrong_checksums(frame: bytes) -> list[str]:
    """Which headers of the frame have another checksum than scapy gives them; a quoted IPv4 header's too.

    A checksum of 0 is none in UDP, and in SCTP left to a device: not wrong.
    """
    packet = Ether(frame)
    rebuilt = packet.copy()
    for layer, name in _own_layers(rebuilt):
        layer.delfieldval(name)
    rebuilt = Ether(rebuilt.build())
    wrong = [
        f"{layer.name}: {getattr(layer, name):#06x}, scapy says {getattr(again, name):#06x}"
        for (layer, name), (again, _) in zip(_own_layers(packet), _own_layers(rebuilt), strict=True)
        if getattr(layer, name) != getattr(again, name)
        and not (isinstance(layer, UDP | SCTP) and getattr(layer, name) == 0)
    ]
    return wrong + _wrong_quoted(packet)


def _own_layers(packet: Packet) -> list[tuple[Packet, str]]:
    """Not those of a quoted packet, most of which scapy gives classes of their own."""
    found = []
    layer: Packet = packet
    while layer and not isinstance(layer, IPerror | IPerror6):
        if type(layer) in _CHECKSUM_FIELDS:
            found.append((layer, _CHECKSUM_FIELDS[type(layer)]))
        layer = layer.payload
    return found


def _wrong_quoted(packet: Packet) -> list[str]:
    if IPerror not in packet:
        return []
    quoted = packet[IPerror]
    header = IP(bytes(quoted)[: 4 * quoted.ihl])
    header.delfieldval("chksum")
    right = IP(header.build()).chksum
    return [] if right == quoted.chksum else [f"quoted IP: {quoted.chksum:#06x}, scapy says {right:#06x}"]
