"""Fragments: the flow of a later one is that of the first."""

from __future__ import annotations

from dataclasses import replace

from blixt_model.family import IPV4
from blixt_model.parse import Packet
from blixt_model.tables import Datagram, Tables
from blixt_model.ways import Circumstances

FRAGMENT_TICKS = 30


def datagram_of(packet: Packet) -> Datagram:
    flow = packet.flow
    protocol = flow.protocol if packet.family is IPV4 else 0
    return Datagram(flow.source, flow.destination, packet.identification, protocol)


def with_ports(packet: Packet, now: Circumstances, tables: Tables) -> Packet | None:
    """A later fragment with its datagram's ports and protocol; None: they are not known."""
    first = tables.fragments.get(datagram_of(packet))
    if first is None or now.tick - first.seen_tick > FRAGMENT_TICKS:
        return None
    whose = replace(
        packet.flow,
        source_port=first.source_port,
        destination_port=first.destination_port,
        protocol=first.protocol,
    )
    return replace(packet, flow=whose)
