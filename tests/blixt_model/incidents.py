"""What happens to the tables between packets: time passes, endpoints change, entries are thrown out."""

from __future__ import annotations

from dataclasses import dataclass, replace

from blixt_model.choices import Choices
from blixt_model.family import UDP
from blixt_model.senders import left_behind
from blixt_model.tables import Endpoint, EndpointFlag, Flow, Tables, partner_of


@dataclass(frozen=True, slots=True)
class Aged:
    """As if so many ticks had passed."""

    ticks: int


@dataclass(frozen=True, slots=True)
class Unused:
    """These entries were last used so many ticks earlier, if they ever were; others since."""

    flows: tuple[Flow, ...]
    ticks: int


@dataclass(frozen=True, slots=True)
class EndpointChanged:
    index: int
    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class Evicted:
    """The kernel's LRU map gave this entry up."""

    flow: Flow


@dataclass(frozen=True, slots=True)
class Recounted:
    """Open connections are counted afresh."""


Incident = Aged | Unused | EndpointChanged | Evicted | Recounted


def make_incident(choices: Choices, tables: Tables) -> Incident:
    kind = choices.below(10)
    answered = [
        flow
        for flow, entry in tables.connections.items()
        if entry.is_reply and entry.seen_tick and flow.protocol == UDP
    ]
    if kind == 1 and (tables.connections or tables.embryos):
        return _evicted(choices, answered, tables)
    if kind in (2, 3, 6) and answered:
        return _unused(choices, answered, tables)
    if kind == 9:
        return Recounted()
    if kind > 3:
        index = choices.one_of(list(tables.endpoints))
        return EndpointChanged(index, _changed(choices, tables.endpoints[index], tables))
    return Aged(choices.one_of((1, 121, 2, 3, 121, 120, 101, 500, 30, 31)))


def _evicted(choices: Choices, answered: list[Flow], tables: Tables) -> Evicted:
    """Most often the client's entry of a UDP flow: its next packet may lead to another endpoint."""
    clients = [partner_of(tables.connections[flow].becomes) for flow in answered]
    known = [flow for flow in clients if flow in tables.connections]
    if not known or not choices.below(3):
        known = [*tables.connections, *tables.embryos]
    return Evicted(known[choices.below(256) % len(known)])


def _unused(choices: Choices, answered: list[Flow], tables: Tables) -> Unused:
    """Both sides of a UDP flow, or one."""
    left = [flow for flow in left_behind(tables) if flow in answered]
    if left and choices.below(2):
        return Unused((choices.one_of(left),), 121)
    endpoint_s = answered[choices.below(256) % len(answered)]
    client_s = partner_of(tables.connections[endpoint_s].becomes)
    sides = choices.one_of(((endpoint_s, client_s), (endpoint_s,), (client_s,), (endpoint_s, client_s)))
    known = tuple(flow for flow in sides if flow in tables.connections)
    return Unused(known, choices.one_of((121, 120)))


def _changed(choices: Choices, endpoint: Endpoint, tables: Tables) -> Endpoint:
    live = endpoint.flags | EndpointFlag.LIVE
    leaving = EndpointFlag.DRAINING | EndpointFlag.SILENT
    kind = choices.below(8)
    if kind == 0:
        return replace(endpoint, flags=live ^ EndpointFlag.DRAINING)
    if kind == 1:
        return replace(endpoint, flags=0)
    if kind == 2:
        return replace(endpoint, flags=live ^ EndpointFlag.LOCAL)
    if kind == 3:
        next_one = choices.one_of([endpoint, *tables.endpoints.values()])
        generation = (endpoint.generation + 1) & 0xFFFFFFFF
        return replace(next_one, flags=next_one.flags | EndpointFlag.LIVE, generation=generation)
    if kind == 4:
        return replace(endpoint, flags=live | leaving)
    if kind == 5:
        return replace(endpoint, flags=live ^ EndpointFlag.SILENT)
    return replace(endpoint, flags=live & ~leaving)
