"""Who opens connections in the random steps, and where to."""

from __future__ import annotations

from dataclasses import dataclass

from blixt_model.choices import Choices
from blixt_model.family import TCP
from blixt_model.ports import is_closed, is_idle
from blixt_model.tables import Endpoint, Flow, Frontend, Tables, partner_of
from blixt_model.worlds import World

_PORTS = (33000, 40001, 40005, 40006, 39999, 1, 65535, 33001)


def new_flow(choices: Choices, world: World) -> Flow:
    frontend = choices.one_of(world.frontends)
    client = choices.one_of(world.clients)
    return Flow(client, frontend.address, choices.one_of(_PORTS), frontend.port, frontend.protocol)


def rival_flow(choices: Choices, world: World, tables: Tables) -> Flow:
    """Its partner's key may be in the way of another's: that of a flow in `tables`, which must know one."""
    rivals = choices.one_of((_clients, _over, _evicted, _services, _over, _evicted))
    found = rivals(tables) or (_clients(tables) if rivals is not _services else [])
    if not found:
        return _endpoint_s_flow(choices, world, tables)
    rival = found[choices.below(256) % len(found)]
    if rivals is _evicted:
        return rival.flow
    frontends = _frontends_of(rival, tables) if choices.below(4) else []
    frontend = choices.one_of(frontends or world.frontends)
    flow = rival.flow
    return Flow(flow.source, frontend.address, flow.source_port, frontend.port, frontend.protocol)


@dataclass(frozen=True, slots=True)
class _Rival:
    flow: Flow
    endpoint: Endpoint


def _frontends_of(rival: _Rival, tables: Tables) -> list[Frontend]:
    """Others that may lead to the endpoint, under any of its indices."""
    flow = rival.flow
    its_own = Frontend(flow.destination, flow.destination_port, flow.protocol)
    place = (rival.endpoint.address, rival.endpoint.port)
    indices = {index for index, e in tables.endpoints.items() if (e.address, e.port) == place}
    found = []
    for frontend, service in tables.services.items():
        slots = [
            tables.slots[index]
            for range_ in (service.inside, service.outside)
            for index in range(range_.first, range_.first + range_.count)
        ]
        leads_there = any(slot.endpoint in indices or slot.alias in indices for slot in slots)
        if frontend.protocol == flow.protocol and frontend != its_own and leads_there:
            found.append(frontend)
    return found


def _endpoint_s_flow(choices: Choices, world: World, tables: Tables) -> Flow:
    """An endpoint that is a client, too, with the port that it serves."""
    endpoint = choices.one_of(list(tables.endpoints.values()))
    frontend = choices.one_of(world.frontends)
    return Flow(endpoint.address, frontend.address, endpoint.port, frontend.port, frontend.protocol)


def _clients(tables: Tables) -> list[_Rival]:
    """A client with one port on two services, which may have the same endpoint."""
    return [
        _Rival(flow, tables.endpoints[entry.endpoint])
        for flow, entry in tables.connections.items()
        if not entry.is_reply
    ]


def _evicted(tables: Tables) -> list[_Rival]:
    """Flows whose partner only is left."""
    partners = (
        _Rival(partner_of(entry.becomes), tables.endpoints[entry.endpoint])
        for entry in tables.connections.values()
        if entry.is_reply
    )
    return [rival for rival in partners if rival.flow not in tables.connections]


def _over(tables: Tables) -> list[_Rival]:
    """Closed TCP connections; UDP flows that were answered, but long before the latest packet of all."""
    latest = max((entry.seen_tick for entry in tables.connections.values()), default=0)
    return [
        _Rival(partner_of(entry.becomes), tables.endpoints[entry.endpoint])
        for key, entry in tables.connections.items()
        if entry.is_reply and (is_closed(entry) if key.protocol == TCP else is_idle(entry, latest))
    ]


def _services(tables: Tables) -> list[_Rival]:
    """From where an endpoint has a connection to: its packets look like the endpoint's answers."""
    endpoints = {(endpoint.address, endpoint.port): endpoint for endpoint in tables.endpoints.values()}
    return [
        _Rival(partner_of(flow), endpoints[flow.source, flow.source_port])
        for flow, entry in tables.connections.items()
        if not entry.is_reply and (flow.source, flow.source_port) in endpoints
    ]
