"""Who opens connections in the random steps, and where to."""

from __future__ import annotations

from dataclasses import dataclass

from blixt_model.choices import Choices
from blixt_model.family import TCP, UDP
from blixt_model.ports import is_closed, is_idle
from blixt_model.tables import Connection, Flow, Frontend, Tables, partner_of
from blixt_model.worlds import CLIENT_PORTS, World


def new_flow(choices: Choices, world: World) -> Flow:
    frontend = choices.one_of(world.frontends)
    client = choices.one_of(world.clients)
    return Flow(client, frontend.address, choices.one_of(CLIENT_PORTS), frontend.port, frontend.protocol)


def kernel_s_flow(choices: Choices, world: World, tables: Tables) -> Flow:
    """One that the kernel tracks, an answer of it, or another one of its client by the same port."""
    tracked = choices.one_of(tables.kernel_flows)
    kind = choices.below(5)
    if kind == 1:
        return partner_of(tracked.becomes)
    if kind < 4:
        return tracked.original
    frontend = choices.one_of([f for f in world.frontends if f.protocol == tracked.original.protocol])
    flow = tracked.original
    return Flow(flow.source, frontend.address, flow.source_port, frontend.port, frontend.protocol)


def rival_flow(choices: Choices, world: World, tables: Tables) -> Flow:
    """Its partner's key may be in the way of another's: that of a flow in `tables`, which must know one."""
    rivals = choices.one_of(_RIVALS)
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
    """A client's flow, and the endpoint that it has."""

    flow: Flow
    address: bytes
    port: int


def _frontends_of(rival: _Rival, tables: Tables) -> list[Frontend]:
    """Others that may lead to the endpoint, under any of its indices."""
    flow = rival.flow
    its_own = Frontend(flow.destination, flow.destination_port, flow.protocol)
    place = (rival.address, rival.port)
    indices = {index for index, e in tables.endpoints.items() if (e.address, e.port) == place}
    found = []
    for frontend, service in tables.services.items():
        leads_there = not indices.isdisjoint(tables.leads_to(service))
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
        _Rival(flow, entry.becomes.destination, entry.becomes.destination_port)
        for flow, entry in tables.known().items()
        if not entry.is_reply
    ]


def _evicted(tables: Tables) -> list[_Rival]:
    """Flows whose partner only is left."""
    partners = (_answered(key, entry) for key, entry in tables.connections.items() if entry.is_reply)
    return [rival for rival in partners if rival.flow not in tables.connections]


def _closed(tables: Tables) -> list[_Rival]:
    return [
        _answered(key, entry)
        for key, entry in tables.connections.items()
        if entry.is_reply and key.protocol == TCP and is_closed(entry)
    ]


def _idle(tables: Tables) -> list[_Rival]:
    """UDP flows that were answered, but long before the latest packet of all."""
    latest = max((entry.seen_tick for entry in tables.connections.values()), default=0)
    return [
        _answered(key, entry)
        for key, entry in tables.connections.items()
        if entry.is_reply and key.protocol == UDP and is_idle(entry, latest)
    ]


def _left_over(tables: Tables) -> list[_Rival]:
    """Clients that have another endpoint by now, and the entry of the one before is still there."""
    return [_answered(key, tables.connections[key]) for key in left_behind(tables)] or _idle(tables)


def left_behind(tables: Tables) -> list[Flow]:
    """Endpoints' entries whose client's entry is another connection's by now."""
    return [
        key
        for key, entry in tables.connections.items()
        if entry.is_reply
        and (client_s := tables.connections.get(partner_of(entry.becomes))) is not None
        and client_s.becomes != partner_of(key)
    ]


def _answered(key: Flow, entry: Connection) -> _Rival:
    return _Rival(partner_of(entry.becomes), key.source, key.source_port)


def _services(tables: Tables) -> list[_Rival]:
    """From where an endpoint has a connection to: its packets look like the endpoint's answers."""
    endpoints = {(endpoint.address, endpoint.port) for endpoint in tables.endpoints.values()}
    return [
        _Rival(partner_of(flow), flow.source, flow.source_port)
        for flow, entry in tables.connections.items()
        if not entry.is_reply and (flow.source, flow.source_port) in endpoints
    ]


_RIVALS = (_clients, _closed, _evicted, _services, _left_over, _idle, _evicted, _idle, _clients, _idle)
