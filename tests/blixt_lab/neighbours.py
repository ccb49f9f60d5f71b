"""Who answers for an address on a segment: asked as any host asks, and all answers heard."""

from __future__ import annotations

import socket
import time

from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from blixt_lab.cluster import Cluster
from blixt_lab.host import Host


def answering(cluster: Cluster, client: Host, address: str, seconds: float = 0.7) -> list[str]:
    """The nodes that answer a question of `client`'s for an address, by name; other hosts by their MACs."""
    names = {node.mac: node.name for node in cluster.nodes}
    heard = client.call(lambda: _ask(client, address, seconds))
    return [names.get(mac, mac) for mac in heard]


def _ask(client: Host, address: str, seconds: float) -> list[str]:
    protocol = 0x86DD if ":" in address else 0x0806
    answers = []
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol)) as asking:
        asking.bind(("eth0", protocol))
        asking.send(bytes(_question(client, address)))
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            asking.settimeout(left)
            try:
                answers.append(_answer(client, Ether(asking.recv(2048)), address))
            except TimeoutError:
                break
    # The client's own kernel may have asked as well.
    return list(dict.fromkeys(filter(None, answers)))


def _question(client: Host, address: str) -> Packet:
    if ":" not in address:
        head = Ether(src=client.mac, dst="ff:ff:ff:ff:ff:ff")
        return head / ARP(op=1, hwsrc=client.mac, psrc=client.address4, pdst=address)
    last = socket.inet_pton(socket.AF_INET6, address)[-3:]
    group = socket.inet_ntop(socket.AF_INET6, bytes.fromhex("ff02000000000000 00000001ff") + last)
    head = Ether(src=client.mac, dst=f"33:33:ff:{last.hex(':')}") / IPv6(
        src=client.address6, dst=group, hlim=255
    )
    return head / ICMPv6ND_NS(tgt=address) / ICMPv6NDOptSrcLLAddr(lladdr=client.mac)


def _answer(client: Host, packet: Packet, address: str) -> str:
    """The MAC that a packet tells the client for the address; what is told to everybody is no answer."""
    if packet.dst != client.mac:
        return ""
    if ARP in packet and packet[ARP].op == 2 and packet[ARP].psrc == address:
        return str(packet[ARP].hwsrc)
    if ICMPv6ND_NA in packet and packet[ICMPv6ND_NA].tgt == address:
        return str(packet[ICMPv6NDOptDstLLAddr].lladdr)
    return ""
