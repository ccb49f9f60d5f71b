"""Makes the kernel's connection tracking forget flows (ctnetlink), many in one message. Blocks.

Of a few frontends, the kernel is asked for their flows only (Linux 5.8; others send all, which are looked
through here anyway); of many, for all.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from blixt_backend.planes import ctnetlink
from blixt_backend.planes.ctnetlink import attribute, attributes, nested
from blixt_backend.planes.nftables.compile import Frontend
from blixt_backend.planes.nftables.family import Family
from blixt_backend.planes.nftables.stale import Stale

_FILTER_ORIGINAL = 1
#: Which parts of a tuple must match: destination address, protocol and destination port. Not the address
#: for IPv6, where kernels up to now take those that are not equal.
_FILTER_PARTS = {4: 1 << 1 | 1 << 3 | 1 << 5, 16: 1 << 3 | 1 << 5}
_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
_NAMES = {number: name for name, number in _PROTOCOLS.items()}

_DESTINATION_TRANSLATED = 1 << 5  # IPS_DST_NAT
_TIME_WAIT, _CLOSE = 7, 8  # TCP_CONNTRACK_TIME_WAIT and TCP_CONNTRACK_CLOSE

_FEW: Final = 8
_SEND_BYTES = 1 << 16


class Flow(NamedTuple):
    """A tracked flow: where its client sends to, who answers, and what names it to the kernel.

    `translated`: its destination is. `over`: a TCP connection that both sides have ended, or one has reset.
    """

    frontend: Frontend
    answers: tuple[str, int]
    name: bytes
    translated: bool
    over: bool


def count(family: Family, frontends: Container[Frontend]) -> int:
    """How many flows to these go on. Raises OSError. It walks all of the kernel's table."""
    with ctnetlink.opened() as netlink:
        netlink.send(request(family))
        return sum(
            flow.translated and not flow.over and flow.frontend in frontends
            for flow in _flows(netlink, family)
        )


def has_translated(family: Family) -> bool:
    """Whether any flow's destination is translated, whoever's it is. Raises OSError."""
    with ctnetlink.opened() as netlink:
        netlink.send(request(family))
        return any(flow.translated for flow in _flows(netlink, family))


def forget(family: Family, stale: Stale, *, only_translated: bool = False) -> int:
    """Delete the stale flows; how many. Raises OSError.

    Of TCP's, only those whose destination is translated: another one knows its endpoint (another plane
    translates it outside of connection tracking), or nobody.
    """
    if not stale:
        return 0
    with ctnetlink.opened() as netlink:
        requests = [request(family, each) for each in stale] if len(stale) <= _FEW else [request(family)]
        doomed = []
        for asked in requests:
            netlink.send(asked)
            for flow in _flows(netlink, family):
                keeps = stale.get(flow.frontend)
                may_go = flow.translated or (flow.frontend.protocol == "udp" and not only_translated)
                if may_go and keeps is not None and flow.answers not in keeps:
                    doomed.append(flow)
        return _delete(netlink, family, doomed)


def request(family: Family, frontend: Frontend | None = None) -> bytes:
    """A dump of the family's flows, or of one frontend's."""
    body = b""
    if frontend is not None:
        address = socket.inet_pton(family.number, frontend.address)
        destination = attribute(ctnetlink.DESTINATION[family.size], address)
        parts = nested(ctnetlink.TUPLE_ADDRESSES, destination)
        number = attribute(ctnetlink.PROTOCOL_NUMBER, bytes([_PROTOCOLS[frontend.protocol]]))
        port = attribute(ctnetlink.DESTINATION_PORT, frontend.port.to_bytes(2, "big"))
        parts += nested(ctnetlink.TUPLE_PROTOCOL, number + port)
        flags = attribute(_FILTER_ORIGINAL, struct.pack("=I", _FILTER_PARTS[family.size]))
        body = nested(ctnetlink.TUPLE_ORIGINAL, parts) + nested(ctnetlink.FILTER, flags)
    return ctnetlink.message(family.number, ctnetlink.GET, ctnetlink.DUMP, body)


def _flows(netlink: socket.socket, family: Family) -> Iterator[Flow]:
    found = (_flow(family, each) for each in ctnetlink.answers(netlink))
    return (flow for flow in found if flow is not None)


def _flow(family: Family, told: Mapping[int, bytes]) -> Flow | None:
    """None: of no protocol that has frontends."""
    original, reply = told.get(ctnetlink.TUPLE_ORIGINAL, b""), told.get(ctnetlink.TUPLE_REPLY, b"")
    asked, answered = _end(family, original, ctnetlink.DESTINATION), _end(family, reply, ctnetlink.SOURCE)
    if asked is None or answered is None:
        return None
    protocol, address, port = asked
    # The zone is part of what names a flow, where there are zones.
    name = nested(ctnetlink.TUPLE_ORIGINAL, original) + b"".join(
        attribute(kind, told[kind]) for kind in (ctnetlink.ID, ctnetlink.ZONE) if kind in told
    )
    status = int.from_bytes(told.get(ctnetlink.STATUS, b""), "big")
    frontend = Frontend(address, protocol, port)
    return Flow(frontend, answered[1:], name, bool(status & _DESTINATION_TRANSLATED), _is_over(told))


def _is_over(told: Mapping[int, bytes]) -> bool:
    of_protocol = dict(attributes(told.get(ctnetlink.PROTOCOL_STATE, b"")))
    of_tcp = dict(attributes(of_protocol.get(ctnetlink.TCP, b"")))
    return of_tcp.get(ctnetlink.TCP_STATE, b"\0")[0] in (_TIME_WAIT, _CLOSE)


def _end(family: Family, data: bytes, end: Mapping[int, int]) -> tuple[str, str, int] | None:
    """(protocol, address, port) of one end of a tuple."""
    parts = dict(attributes(data))
    protocol = dict(attributes(parts.get(ctnetlink.TUPLE_PROTOCOL, b"")))
    name = _NAMES.get(protocol.get(ctnetlink.PROTOCOL_NUMBER, b"\0")[0])
    address = dict(attributes(parts.get(ctnetlink.TUPLE_ADDRESSES, b""))).get(end[family.size])
    is_destination = end is ctnetlink.DESTINATION
    port = protocol.get(ctnetlink.DESTINATION_PORT if is_destination else ctnetlink.SOURCE_PORT)
    if name is None or address is None or port is None:
        return None
    return name, family.text(address), int.from_bytes(port, "big")


def _delete(netlink: socket.socket, family: Family, flows: Iterable[Flow]) -> int:
    """One that has ended meanwhile is none that failed."""
    count, waiting = 0, b""
    for flow in flows:
        waiting += ctnetlink.message(family.number, ctnetlink.DELETE, ctnetlink.REQUEST, flow.name)
        count += 1
        if len(waiting) >= _SEND_BYTES:
            netlink.send(waiting)
            waiting = b""
    if waiting:
        netlink.send(waiting)
    netlink.setblocking(False)
    try:
        while True:
            for kind, body in ctnetlink.messages(netlink.recv(ctnetlink.RECEIVE_BYTES)):
                refusal = ctnetlink.refusal(body)
                if kind == ctnetlink.ERROR and refusal.errno not in (0, errno.ENOENT):
                    raise refusal
    except BlockingIOError:
        return count
