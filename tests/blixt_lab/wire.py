"""Frames as they are on a device: sent from bytes, and heard, with the tags that stand beside them."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from blixt_lab.host import Host
from blixt_lab.wait import wait_for

# linux/if_ether.h, linux/if_packet.h
_EVERY_PROTOCOL, _OUTGOING = 3, 4
_SOL_PACKET, _AUXILIARY, _TAG_IS_VALID = 263, 8, 1 << 4
_AUXILIARY_DATA = struct.Struct("=IIIHHHH")
_ROOM = 1 << 16


@dataclass(frozen=True, slots=True)
class Heard:
    """A frame that came in. `tag`: its outer VLAN tag, which is no longer in the frame; None: it had none."""

    frame: bytes
    tag: int | None


@dataclass(slots=True)
class Ear:
    """All that comes in by a device."""

    _socket: socket.socket
    _heard: list[Heard] = field(default_factory=list)

    def heard(self) -> list[Heard]:
        """Everything so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                frame, extra, _, sender = self._socket.recvmsg(_ROOM, 64)
                if sender[2] != _OUTGOING:
                    self._heard.append(Heard(frame, _tag(extra)))
        return list(self._heard)

    def wait(self, wanted: Callable[[Heard], bool], what: str) -> Heard:
        """The first frame that is wanted. Raises TimeoutError."""
        wait_for(lambda: any(map(wanted, self.heard())), what)
        return next(filter(wanted, self._heard))


@contextlib.contextmanager
def listening(host: Host, device: str = "eth0") -> Iterator[Ear]:
    with contextlib.closing(host.call(lambda: _tap(device))) as tap:
        yield Ear(tap)


def send(host: Host, *frames: bytes, device: str = "eth0") -> None:
    """Each as it is."""

    def transmit() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
            out.bind((device, 0))
            for frame in frames:
                out.send(frame)

    host.call(transmit)


def _tap(device: str) -> socket.socket:
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_EVERY_PROTOCOL))
    tap.bind((device, _EVERY_PROTOCOL))
    tap.setsockopt(_SOL_PACKET, _AUXILIARY, 1)
    tap.setblocking(False)
    return tap


def _tag(extra: list[tuple[int, int, bytes]]) -> int | None:
    for level, kind, data in extra:
        if (level, kind) == (_SOL_PACKET, _AUXILIARY):
            status, _, _, _, _, tag, _ = _AUXILIARY_DATA.unpack(data[: _AUXILIARY_DATA.size])
            if status & _TAG_IS_VALID:
                return int(tag)
    return None
