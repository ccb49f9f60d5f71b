"""Rules 2 and 3.9: partners, and the source ports that lead to free keys for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from blixt_model.family import UDP
from blixt_model.hashing import MASK_32
from blixt_model.tables import CLOSED_BY_BOTH, Connection, ConnectionFlag, Flow, KeyState, partner_of

UDP_IDLE_TICKS = 120
PORT_TRIES = 32
_STEP = 0x9E3779B1

#: In `connections`, as they are by now.
LookUp = Callable[[Flow], Connection | None]


def source_ports(own: int, flow_hash: int, first: int, count: int) -> Iterator[int]:
    """The source ports to try, in order."""
    mix = flow_hash >> 20 & MASK_32
    yield own if first <= own < first + count else first + mix % count
    for k in range(1, PORT_TRIES):
        yield first + (mix + k * _STEP & MASK_32) % count


def is_closed(entry: Connection) -> bool:
    """Of TCP: reset, or ended by both sides."""
    return is_over(entry.flags)


def is_over(flags: int) -> bool:
    return bool(flags & ConnectionFlag.RESET) or flags & CLOSED_BY_BOTH == CLOSED_BY_BOTH


def is_idle(entry: Connection, tick: int) -> bool:
    """Of UDP. An entry that was never used isn't idle."""
    return entry.seen_tick != 0 and tick - entry.seen_tick > UDP_IDLE_TICKS


def own_partner(flow: Flow, entry: Connection, look_up: LookUp) -> Connection | None:
    """The other entry of the connection, unless it is gone: its key may be another connection's by now."""
    there = look_up(partner_of(entry.becomes))
    return there if there is not None and there.becomes == partner_of(flow) else None


def key_state(key: Flow, flow: Flow, tick: int, look_up: LookUp) -> KeyState:
    """What the partner's key `key` means to a new connection of `flow`."""
    there = look_up(key)
    if there is None:
        return KeyState.UNUSED
    if not there.is_reply:
        return KeyState.CLIENT
    if there.becomes == partner_of(flow):
        return KeyState.OWN
    if flow.protocol != UDP:
        return KeyState.OVER if is_closed(there) else KeyState.TAKEN
    if not is_idle(there, tick):
        return KeyState.TAKEN
    client_s = own_partner(key, there, look_up)
    return KeyState.OVER if client_s is None or is_idle(client_s, tick) else KeyState.UNANSWERED
