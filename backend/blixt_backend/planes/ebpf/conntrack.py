"""What the kernel's own connection tracking translates, read over netlink (ctnetlink).

A flow that was made by kube-proxy, or by a plane of rules, is the kernel's until it ends. The packet programs
ask for each new flow whether it is one, but only while there are some (`kernel_flows`): asking costs.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final, NamedTuple

from blixt_backend.planes import ctnetlink
from blixt_backend.planes.ebpf.kernel import ServiceMaps
from blixt_backend.planes.ebpf.layout import IPV6, Layout

#: Without this function there is no asking (Linux 5.18, and conntrack loaded); in its module's BTF.
LOOK_UP: Final = "bpf_skb_ct_lookup"
MODULE: Final = "nf_conntrack"

_DESTINATION_TRANSLATED = 1 << 5  # IPS_DST_NAT


class Destination(NamedTuple):
    """Where packets of a tracked flow go to as they come in; the port in network byte order."""

    address: bytes
    port: bytes
    protocol: int


def has_services_flows(maps: ServiceMaps) -> bool:
    """Whether the kernel translates a flow to a frontend of this family. Raises OSError. Blocks: it walks
    all of the kernel's table."""
    services, pack = maps.maps["services"], maps.layout.frontend.pack
    return any(services.lookup(pack(*destination)) is not None for destination in destinations(maps.layout))


def destinations(layout: Layout) -> Iterator[Destination]:
    """Of all flows whose destination the kernel translates, both directions. Raises OSError."""
    with ctnetlink.opened() as netlink:
        netlink.send(request(layout))
        for flow in ctnetlink.answers(netlink):
            yield from destinations_of(flow)


def request(layout: Layout) -> bytes:
    """A dump of a family's entries that have their destination translated. Kernels before 5.14 send all."""
    family = socket.AF_INET6 if layout is IPV6 else socket.AF_INET
    wanted = _DESTINATION_TRANSLATED.to_bytes(4, "big")
    asked = (ctnetlink.attribute(kind, wanted) for kind in (ctnetlink.STATUS, ctnetlink.STATUS_MASK))
    return ctnetlink.message(family, ctnetlink.GET, ctnetlink.DUMP, b"".join(asked))


def destinations_of(flow: Mapping[int, bytes]) -> Iterator[Destination]:
    """Of a tracked flow's attributes, if its destination is translated."""
    status = int.from_bytes(flow.get(ctnetlink.STATUS, b""), "big")
    if not status & _DESTINATION_TRANSLATED:
        return
    for direction in (ctnetlink.TUPLE_ORIGINAL, ctnetlink.TUPLE_REPLY):
        parts = dict(ctnetlink.attributes(flow.get(direction, b"")))
        addresses = dict(ctnetlink.attributes(parts.get(ctnetlink.TUPLE_ADDRESSES, b"")))
        protocol = dict(ctnetlink.attributes(parts.get(ctnetlink.TUPLE_PROTOCOL, b"")))
        with suppress(StopIteration, LookupError):  # protocols without ports are nobody's service
            address = next(addresses[kind] for kind in ctnetlink.DESTINATION.values() if kind in addresses)
            number = protocol[ctnetlink.PROTOCOL_NUMBER][0]
            yield Destination(address, protocol[ctnetlink.DESTINATION_PORT], number)
