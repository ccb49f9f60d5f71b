"""Rule 3.9: source ports, and the partners' keys that they lead to."""

from __future__ import annotations

from collections.abc import Iterator

from blixt_model.family import UDP
from blixt_model.tables import CLOSED_BY_BOTH, Connection, ConnectionFlag, Flow, KeyState, partner_of

UDP_IDLE_TICKS = 120
PORT_TRIES = 32
MASK_32 = 0xFFFFFFFF
_STEP = 0x9E3779B1


def source_ports(own: int, flow_hash: int, first: int, count: int) -> Iterator[int]:
    """The source ports to try, in order."""
    mix = flow_hash >> 20 & MASK_32
    yield own if first <= own < first + count else first + mix % count
    for k in range(1, PORT_TRIES):
        yield first + (mix + k * _STEP & MASK_32) % count


def is_closed(entry: Connection) -> bool:
    """Of TCP: reset, or ended by both sides."""
    return bool(entry.flags & ConnectionFlag.RESET) or entry.flags & CLOSED_BY_BOTH == CLOSED_BY_BOTH


def is_idle(entry: Connection, tick: int) -> bool:
    """Of UDP. An entry that was never used isn't idle."""
    return entry.seen_tick != 0 and tick - entry.seen_tick > UDP_IDLE_TICKS


def key_state(there: Connection | None, flow: Flow, tick: int) -> KeyState:
    """What a partner's key means to a new connection of `flow`, `there` being its entry now."""
    if there is None:
        return KeyState.UNUSED
    if not there.is_reply:
        return KeyState.CLIENT
    if there.becomes == partner_of(flow):
        return KeyState.OWN
    over = is_idle(there, tick) if flow.protocol == UDP else is_closed(there)
    return KeyState.OVER if over else KeyState.TAKEN
