"""What nodes tell each other about once a second: frames of our own on the segment. Pure.

EtherType 0x88b5 is IEEE 802's first one for local experiments, the group address a locally administered one.
The payload, in network byte order, each text and address after a byte with its length:

    0   4 bytes  "BLXT"
    4   1        version, 1; a frame of another version is ignored
    5   1        state, see State
    6   2        milliseconds between this node's heartbeats
    8   2        seconds to keep this node's addresses for it, in the state RESTARTING
    10  8        the group: a hash of its name
    18  8        a random number that this process started with
    26  8        a hash of the names of all nodes that this one knows of, see `digest`
    34  1        count of addresses
    35  1        count of nodes kept
    36           the node's name, its addresses, the names of the nodes kept

What follows is padding, or of a later minor version, and ignored.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b
from typing import Final

from blixt_backend.announce.frames import Ethernet, Mac
from blixt_backend.model import PackedAddress

ETHERTYPE: Final = 0x88B5
GROUP_MAC: Final = Mac(bytes.fromhex("03626c697874"))

_MAGIC, _VERSION = b"BLXT", 1
_HEAD = struct.Struct("!4sBBHH8s8s8sBB")
#: Names of Kubernetes' nodes are no longer.
MOST_NAME_BYTES = 253
MOST_ADDRESSES = 16
_MOST_BYTES = 1200  # fits every MTU that IPv6 can live with


class State(IntEnum):
    """What a node says of itself."""

    #: It doesn't answer for any address yet.
    LISTENING = 1
    READY = 2
    #: Its daemon is about to end, and its kernel carries the packets meanwhile.
    RESTARTING = 3
    #: It gives all addresses up.
    LEAVING = 4


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """One node's word. `group`, `boot` and `digest` are 8 bytes each."""

    name: str
    group: bytes
    boot: bytes
    state: State
    digest: bytes = bytes(8)
    interval_ms: int = 1000
    keep_seconds: int = 0
    #: The node's own on this segment, at most MOST_ADDRESSES: its kernel answers for them.
    addresses: tuple[PackedAddress, ...] = ()
    #: Nodes that are silent, or start anew, and keep their addresses for now.
    kept: tuple[str, ...] = ()

    def frame(self, mac: Mac) -> bytes:
        name, addresses = self.name.encode(), self.addresses[:MOST_ADDRESSES]
        texts = [bytes((len(text),)) + text for text in (name, *addresses)]
        room = _MOST_BYTES - _HEAD.size - sum(map(len, texts))
        kept = list(_fitting(self.kept, room))
        head = _HEAD.pack(
            _MAGIC,
            _VERSION,
            self.state,
            self.interval_ms,
            self.keep_seconds,
            self.group,
            self.boot,
            self.digest,
            len(addresses),
            len(kept),
        )
        return Ethernet(GROUP_MAC, mac, ETHERTYPE, head + b"".join(texts + kept)).pack()


def _fitting(names: Iterable[str], room: int) -> Iterator[bytes]:
    for name in names:
        text = bytes((len(name.encode()),)) + name.encode()
        room -= len(text)
        if room < 0:
            return
        yield text


def parse_heartbeat(payload: bytes) -> Heartbeat | None:
    """The heartbeat of a frame's payload; None for anything that isn't one of this version."""
    if len(payload) < _HEAD.size:
        return None
    magic, version, state, interval, keep, group, boot, digest_, addresses, kept = _HEAD.unpack_from(payload)
    if (magic, version) != (_MAGIC, _VERSION) or interval == 0 or addresses > MOST_ADDRESSES:
        return None
    try:
        texts = list(_texts(payload[_HEAD.size :], 1 + addresses + kept))
        names = [text.decode() for text in (texts[0], *texts[1 + addresses :])]
        state = State(state)
    except ValueError:
        return None
    own = tuple(PackedAddress(text) for text in texts[1 : 1 + addresses])
    if not all(names) or any(len(address) not in (4, 16) for address in own):
        return None
    return Heartbeat(names[0], group, boot, state, digest_, interval, keep, own, tuple(names[1:]))


def _texts(data: bytes, count: int) -> Iterator[bytes]:
    """`count` texts after their lengths. Raises ValueError where they are cut off."""
    for _ in range(count):
        end = 1 + data[0] if data else 1
        if end > len(data) or end - 1 > MOST_NAME_BYTES:
            raise ValueError("cut off")
        yield data[1:end]
        data = data[end:]


def digest(names: Iterable[str]) -> bytes:
    """8 bytes that are the same on all nodes that know the same names."""
    return blake2b("\n".join(sorted(names)).encode(), digest_size=8).digest()


def group_id(name: str) -> bytes:
    """8 bytes for a group's name."""
    return blake2b(name.encode(), digest_size=8).digest()
