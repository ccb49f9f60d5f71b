"""A UDP listener and its flows: one for each client's address and port, with a socket to an endpoint each."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import Any, Final

from blixt_backend.planes.userspace.choice import Target
from blixt_backend.planes.userspace.compile import Entry, Frontend
from blixt_backend.planes.userspace.listener import Listener
from blixt_backend.planes.userspace.picking import Picker
from blixt_backend.planes.userspace.room import Room

#: Datagrams that are taken from a socket before others get their turn.
_AT_ONCE: Final = 32
#: For all sockets: what was received is sent on before anything else is received.
_BUFFER: Final = memoryview(bytearray(1 << 16))
#: As a socket gives it: address and port, for IPv6 two numbers more.
_Peer = Any


@dataclass(frozen=True, slots=True)
class UdpContext:
    """What all UDP listeners share. Times in seconds."""

    picker: Picker
    room: Room[Flow]
    idle_seconds: float


class UdpListener(Listener):
    """What can't be sent at once is lost, as datagrams are: nothing is kept for later."""

    kind = socket.SOCK_DGRAM

    def __init__(self, frontend: Frontend, entry: Entry, context: UdpContext) -> None:
        super().__init__(frontend, entry)
        self.context = context
        self._socket: socket.socket | None = None
        self._flows: dict[_Peer, Flow] = {}

    @property
    def wanted(self) -> bool:
        return self.entry.answers or self.entry.silent

    def update(self, entry: Entry) -> None:
        """Flows whose endpoint is gone, or that were refused, begin anew with their next datagram."""
        self.entry = entry
        for flow in list(self._flows.values()):
            if flow.target not in entry.keeps:
                flow.abort()

    async def _serve(self, bound: socket.socket) -> None:
        asyncio.get_running_loop().add_reader(bound, self._take, bound)
        self._socket = bound

    def _unserve(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        for flow in list(self._flows.values()):
            flow.abort()

    def _take(self, bound: socket.socket) -> None:
        """Datagrams of clients."""
        for _ in range(_AT_ONCE):
            try:
                size, peer = bound.recvfrom_into(_BUFFER)
            except OSError:  # no more; or an error about one that was sent before, which says not to whom
                return
            flow = self._flows.get(peer) or self._begin(peer)
            if flow is not None and not flow.send(_BUFFER[:size]):
                # The endpoint has told that nobody listens there: this datagram gets another chance.
                refused = flow.target
                flow.abort()
                again = self._begin(peer, avoid=refused)
                if again is not None and not again.send(_BUFFER[:size]):
                    again.abort()

    def answer(self, peer: _Peer, data: memoryview) -> None:
        """Send an endpoint's datagram to its client."""
        try:
            if self._socket is not None:
                self._socket.sendto(data, peer)
        except OSError:
            self.context.room.counts["answers lost"] += 1

    def forget(self, flow: Flow) -> None:
        if self._flows.get(flow.peer) is flow:
            del self._flows[flow.peer]

    def _begin(self, peer: _Peer, avoid: Target | None = None) -> Flow | None:
        room, picker = self.context.room, self.context.picker
        if not picker.admits(self.entry, peer[0]):
            room.counts["not let in"] += 1
            return None
        target = picker.pick(self.entry, peer[0], (avoid,) if avoid else ())
        if target is None and avoid is not None:
            target = picker.pick(self.entry, peer[0])  # there is no other
        try:
            flow = Flow(peer, target, self)
        except OSError:
            room.counts["endpoint not reached"] += 1
            return None
        if not room.enter(flow):
            flow.close()
            return None
        flow.begin()
        self._flows[peer] = flow
        return flow


class Flow:
    """One client's datagrams to a listener. Without a target they are dropped, all alike."""

    __slots__ = ("_last", "_listener", "_loop", "_socket", "_timer", "peer", "target")

    def __init__(self, peer: _Peer, target: Target | None, listener: UdpListener) -> None:
        """Raises OSError."""
        self.peer, self.target = peer, target
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._socket = _connected(target) if target else None

    def begin(self) -> None:
        self._timer = self._loop.call_later(self._listener.context.idle_seconds, self._look_if_idle)
        if self._socket is not None and self.target is not None:
            self._loop.add_reader(self._socket, self._take)
            self._listener.context.room.load(self.target)

    def send(self, data: memoryview) -> bool:
        """False: nobody listens at the endpoint, as an earlier datagram's ICMP error says."""
        self._last = self._loop.time()
        if self._socket is None:
            self._listener.context.room.counts["refused"] += 1
            return True
        try:
            self._socket.send(data)
        except ConnectionRefusedError:
            self._listener.context.room.counts["endpoint not reached"] += 1
            return False
        except OSError:
            self._listener.context.room.counts["lost"] += 1
        return True

    def abort(self) -> None:
        """End it; the client's next datagram begins another one."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = None
        if self._socket is not None and self.target is not None:
            self._loop.remove_reader(self._socket)
            self._listener.context.room.unload(self.target)
        self.close()
        self._listener.forget(self)
        self._listener.context.room.leave(self)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def _take(self) -> None:
        """Datagrams of the endpoint."""
        assert self._socket is not None
        for _ in range(_AT_ONCE):
            try:
                size = self._socket.recv_into(_BUFFER)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._listener.context.room.counts["endpoint not reached"] += 1
                self.abort()
                return
            self._last = self._loop.time()
            self._listener.answer(self.peer, _BUFFER[:size])

    def _look_if_idle(self) -> None:
        left = self._last + self._listener.context.idle_seconds - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look_if_idle)
        else:
            self.abort()


def _connected(target: Target) -> socket.socket:
    """Raises OSError."""
    family = socket.AF_INET6 if ":" in target.address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        made.connect(target)
    except BaseException:
        made.close()
        raise
    return made
