"""Rules 3.4 and 10: the choice by least connections, and how many connections an endpoint has open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from blixt_model.family import UDP
from blixt_model.hashing import MASK_32, MASK_64
from blixt_model.ports import is_over, own_partner
from blixt_model.tables import (
    CLOSED_BY_BOTH,
    ENDPOINT_REJECT,
    Connection,
    ConnectionFlag,
    Embryo,
    EndpointFlag,
    Flow,
    Load,
    SlotRange,
    Tables,
)

TCP_UNSEEN_TICKS = 6706
TCP_CLOSING_TICKS = 120
UDP_UNSEEN_TICKS = 30
_SECOND_DRAW = 0x9E3779B9
_UNKNOWN = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class _Drawn:
    endpoint: int
    weight: int


def least_of_two(tables: Tables, slots: SlotRange, flow_hash: int) -> int:
    """The endpoint's index, or ENDPOINT_REJECT."""
    column = (flow_hash >> 32) * slots.count >> 32
    first = _draw(tables, slots, column, flow_hash & MASK_32, None)
    if first.endpoint == ENDPOINT_REJECT or slots.count == 1:
        return first.endpoint
    again = (flow_hash ^ _SECOND_DRAW) * 0x9E3779B97F4A7C15 & MASK_64
    again ^= again >> 32
    other = (again >> 32) * (slots.count - 1) >> 32
    if other >= column:
        other += 1
    second = _draw(tables, slots, other, again & MASK_32, first.endpoint)
    if second.endpoint == ENDPOINT_REJECT:
        return first.endpoint
    less = _load(tables, second.endpoint) * first.weight < _load(tables, first.endpoint) * second.weight
    return second.endpoint if less else first.endpoint


def _draw(tables: Tables, slots: SlotRange, column: int, coin: int, taken: int | None) -> _Drawn:
    slot, weights = tables.slots[slots.first + 2 * column], tables.weights[slots.first + 2 * column + 1]
    two = [_Drawn(slot.endpoint, weights.endpoint), _Drawn(slot.alias, weights.alias)]
    if coin >= slot.threshold:
        two.reverse()
    return two[1] if two[0].endpoint == taken else two[0]


def _load(tables: Tables, index: int) -> int:
    endpoint = tables.endpoints.get(index)
    if endpoint is None or not endpoint.live:
        return _UNKNOWN
    load = tables.loads.get(index, Load())
    return max(load.open, 0) if load.generation == endpoint.generation else 0


def is_counted(flags: int) -> bool:
    return bool(flags & ConnectionFlag.COUNTED) and not is_over(flags)


def opened(load: Load, generation: int) -> Load:
    return replace(load, open=load.open + 1) if load.generation == generation else Load(generation, 1)


def ended(load: Load, generation: int) -> Load:
    return replace(load, open=load.open - 1) if load.generation == generation else load


def recount(tables: Tables, tick: int) -> None:
    """Count afresh all that is to be counted."""
    found = {
        index: Load(endpoint.generation, 0)
        for index, endpoint in tables.endpoints.items()
        if endpoint.flags & EndpointFlag.COUNTED
    }
    for flow, entry in list(tables.connections.items()):
        if not entry.is_reply and _is_of(tables, entry, found):
            goes_on = _goes_on(tables, flow, entry, tick)
            tables.connections[flow] = replace(entry, flags=_marked(entry.flags, goes_on))
            if goes_on:
                found[entry.endpoint] = opened(found[entry.endpoint], entry.generation)
    for key, embryo in list(tables.embryos.items()):
        if key.protocol == UDP and _is_of(tables, embryo, found):
            is_seen = tick - embryo.seen_tick & MASK_32 <= UDP_UNSEEN_TICKS
            tables.embryos[key] = replace(embryo, flags=_marked(embryo.flags, is_seen))
            if is_seen:
                found[embryo.endpoint] = opened(found[embryo.endpoint], embryo.generation)
    tables.loads.update(found)


def _is_of(tables: Tables, flow: Connection | Embryo, counted: Mapping[int, Load]) -> bool:
    """Whether the endpoint that the flow has is there, and counted."""
    endpoint = tables.endpoints.get(flow.endpoint)
    if endpoint is None or not endpoint.live or flow.endpoint not in counted:
        return False
    return endpoint.generation == flow.generation


def _marked(flags: int, is_counted: bool) -> int:
    return flags | ConnectionFlag.COUNTED if is_counted else flags & ~ConnectionFlag.COUNTED


def _goes_on(tables: Tables, flow: Flow, entry: Connection, tick: int) -> bool:
    if is_over(entry.flags):
        return False
    if not _is_unseen(flow, entry, tick):
        return True
    partner = own_partner(flow, entry, tables.connections.get)
    was_counted = bool(entry.flags & ConnectionFlag.COUNTED)
    return was_counted and partner is not None and not _is_unseen(flow, partner, tick)


def _is_unseen(flow: Flow, entry: Connection, tick: int) -> bool:
    limit = TCP_CLOSING_TICKS if entry.flags & CLOSED_BY_BOTH else TCP_UNSEEN_TICKS
    if flow.protocol == UDP:
        limit = UDP_UNSEEN_TICKS
    return entry.seen_tick != 0 and tick - entry.seen_tick & MASK_32 > limit
