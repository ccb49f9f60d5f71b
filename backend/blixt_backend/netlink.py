"""Word from the kernel that interfaces or their addresses changed (rtnetlink(7)).

An event says only that something changed: whoever hears it reads what there is whole, so a lost event loses
nothing.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import AsyncIterator

log = logging.getLogger(__name__)

_EVENT_GROUPS = 1 << 0 | 1 << 4 | 1 << 8  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
_RECEIVE_BUFFER = 1 << 20
_SETTLE_SECONDS = 0.05
_RETRY_SECONDS = 1.0


async def changes() -> AsyncIterator[None]:
    """Yields after interfaces or addresses changed, once for a burst of events; never ends."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            with _event_socket() as events:
                yield  # what changed while nobody listened
                while True:
                    await _event(loop, events)
                    await asyncio.sleep(_SETTLE_SECONDS)
                    _drain(events)
                    yield
        except OSError as error:
            log.warning("interface events are interrupted (%s); listening anew", error)
            await asyncio.sleep(_RETRY_SECONDS)


def _event_socket() -> socket.socket:
    events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    events.setblocking(False)
    events.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    events.bind((0, _EVENT_GROUPS))
    return events


async def _event(loop: asyncio.AbstractEventLoop, events: socket.socket) -> None:
    try:
        await loop.sock_recv(events, 65536)
    except OSError as error:
        if error.errno != errno.ENOBUFS:  # events were lost: that is an event
            raise


def _drain(events: socket.socket) -> None:
    while True:
        try:
            events.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
