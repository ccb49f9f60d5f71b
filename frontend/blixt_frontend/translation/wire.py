"""Items' bytes: each distinct view of an endpoint encoded once, and shared by all nodes that have it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from blixt_api import localv1_pb2 as wire
from blixt_frontend.items import NO_VARIANTS, Encoded, Item, ItemKind
from blixt_frontend.translation.addresses import Addresses
from blixt_frontend.translation.endpoints import Ports, ServiceEndpoint
from blixt_frontend.translation.topology import Scope

# Endpoint.TriggerTime: field 107, a varint. The highest field number stands last on the wire.
_TRIGGER_TIME_TAG = b"\xd8\x06"


@dataclass(frozen=True, slots=True)
class Share:
    """A backend reference's part of a listener's connections."""

    group: int
    weight: int


def ip_set(addresses: Addresses) -> wire.IPSet:
    return wire.IPSet(V4=addresses.v4, V6=addresses.v6)


def service_item(service: wire.Service) -> Item:
    # Deterministic: maps would otherwise be written in an order of their own, and equal items differ.
    encoded = service.SerializeToString(deterministic=True)
    return Item(ItemKind.SERVICE, f"{service.Namespace}/{service.Name}", encoded)


def endpoint_item(path: str, endpoint: ServiceEndpoint, share: Share | None = None) -> Item:
    """An endpoint in its variants. Without a share, it is one of a plain Service (group 0, weight unset)."""
    state, reach = endpoint.state, endpoint.state.reach
    # Messages put one after the other are their merger. Most of these parts are the same in many endpoints.
    ips = wire.IPSet(V4=(endpoint.v4,) if endpoint.v4 else (), V6=(endpoint.v6,) if endpoint.v6 else ())
    head = wire.Endpoint(Hostname=state.hostname, IPs=ips).SerializeToString()
    ports = _ports(endpoint.ports)
    tail = _tail(share, state.terminating, state.serving, state.node, state.zone)
    views: dict[tuple[Scope, bool], bytes] = {}

    def encode(scope: Scope, node: str | None = None) -> bytes:
        local = node is not None and node == state.node
        if (view := views.get((scope, local))) is None:
            view = views[scope, local] = b"".join(
                (head, _LOCAL if local else b"", ports, _SCOPES[scope], tail)
            )
        return view

    return Item(
        kind=endpoint.kind,
        path=path,
        default=encode(reach.default),
        zones={zone: encode(scope) for zone, scope in reach.zones} if reach.zones else NO_VARIANTS,
        nodes={node: encode(scope, node) for node, scope in reach.nodes},
        blixt_only=not reach.anywhere,
    )


@lru_cache(maxsize=1024)  # of a service
def _ports(ports: Ports) -> bytes:
    overrides = [wire.PortName(Name=label, Port=number) for label, number in ports]
    return wire.Endpoint(PortOverrides=overrides).SerializeToString()


@lru_cache(maxsize=8192)  # of a node
def _tail(share: Share | None, terminating: bool, serving: bool, node: str, zone: str) -> bytes:
    message = wire.Endpoint(Terminating=terminating, NotServing=not serving, Node=node, Zone=zone)
    if share is not None:
        message.Group, message.Weight = share.group, share.weight
    return message.SerializeToString()


def reject_item(path: str, share: Share) -> Item:
    """A share of the new connections, of whatever origin, that is refused."""
    message = wire.Endpoint(Reject=True, Group=share.group, Weight=share.weight)
    encoded = _SCOPES[Scope.ALL] + message.SerializeToString()
    return Item(ItemKind.ENDPOINT, path, encoded, blixt_only=True)


_LOCAL = wire.Endpoint(Local=True).SerializeToString()
# Written also when empty: KPNG's readers look into it without asking whether it is there.
_SCOPES = [
    wire.Endpoint(
        Scopes=wire.EndpointScopes(
            Internal=bool(scope & Scope.INTERNAL),
            External=bool(scope & Scope.EXTERNAL),
            Cluster=bool(scope & Scope.CLUSTER),
        )
    ).SerializeToString()
    for scope in range(Scope.ALL + 1)
]


def timed(item: Item, trigger_time: int) -> Item:
    """The same endpoint with its TriggerTime (nanoseconds since 1970; 0: unknown, the item as it is).

    The item must have none yet: translation makes items without, so that what differs only in it is equal.
    """
    if not trigger_time or item.kind in (ItemKind.SERVICE, ItemKind.NODE):
        return item
    suffix = trigger_time_field(trigger_time)
    done: dict[Encoded, Encoded] = {None: None}

    def stamp(encoded: Encoded) -> Encoded:
        if encoded not in done:
            done[encoded] = (encoded or b"") + suffix
        return done[encoded]

    return Item(
        item.kind,
        item.path,
        stamp(item.default),
        {zone: stamp(encoded) for zone, encoded in item.zones.items()} if item.zones else item.zones,
        {node: stamp(encoded) for node, encoded in item.nodes.items()} if item.nodes else item.nodes,
        item.blixt_only,
    )


@lru_cache(maxsize=1024)  # all endpoints of a slice share it
def trigger_time_field(trigger_time: int) -> bytes:
    return _TRIGGER_TIME_TAG + _varint(trigger_time)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
