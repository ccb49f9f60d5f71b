"""Items' bytes: each distinct view of an endpoint encoded once, and shared by all nodes that have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from blixt_api import localv1_pb2 as wire
from blixt_frontend.items import Encoded, Item, ItemKind
from blixt_frontend.translation.addresses import Addresses
from blixt_frontend.translation.endpoints import ServiceEndpoint
from blixt_frontend.translation.topology import Scope

# Endpoint.TriggerTime: field 107, a varint. The highest field number stands last on the wire.
_TRIGGER_TIME_TAG = b"\xd8\x06"


@dataclass(frozen=True, slots=True)
class Share:
    """A backend reference's part of a listener's connections."""

    group: int
    weight: int


#: Most items have no variant by zone; a shared mapping spares each its own.
NO_VARIANTS: Mapping[str, Encoded] = MappingProxyType({})


def ip_set(addresses: Addresses) -> wire.IPSet:
    return wire.IPSet(V4=addresses.v4, V6=addresses.v6)


def service_item(service: wire.Service) -> Item:
    # Deterministic: maps would otherwise be written in an order of their own, and equal items differ.
    encoded = service.SerializeToString(deterministic=True)
    return Item(ItemKind.SERVICE, f"{service.Namespace}/{service.Name}", encoded)


def endpoint_item(path: str, endpoint: ServiceEndpoint, share: Share | None = None) -> Item:
    """An endpoint in its variants. Without a share, it is one of a plain Service (group 0, weight unset)."""
    state, reach = endpoint.state, endpoint.state.reach
    message = wire.Endpoint(
        Hostname=state.hostname,
        IPs=wire.IPSet(
            V4=(endpoint.v4,) if endpoint.v4 else (),
            V6=(endpoint.v6,) if endpoint.v6 else (),
        ),
        PortOverrides=[wire.PortName(Name=label, Port=number) for label, number in endpoint.ports],
        Terminating=state.terminating,
        NotServing=not state.serving,
        Node=state.node,
        Zone=state.zone,
    )
    if share is not None:
        message.Group, message.Weight = share.group, share.weight
    views: dict[tuple[Scope, bool], bytes] = {}

    def encode(scope: Scope, node: str | None = None) -> bytes:
        local = node is not None and node == state.node
        if (scope, local) not in views:
            message.Local = local
            message.Scopes.CopyFrom(_SCOPES[scope])
            views[scope, local] = message.SerializeToString()
        return views[scope, local]

    return Item(
        kind=endpoint.kind,
        path=path,
        default=encode(reach.default),
        zones={zone: encode(scope) for zone, scope in reach.zones} if reach.zones else NO_VARIANTS,
        nodes={node: encode(scope, node) for node, scope in reach.nodes},
        blixt_only=not reach.anywhere,
    )


def reject_item(path: str, share: Share) -> Item:
    """A share of the new connections, of whatever origin, that is refused."""
    message = wire.Endpoint(Reject=True, Group=share.group, Weight=share.weight, Scopes=_SCOPES[Scope.ALL])
    return Item(ItemKind.ENDPOINT, path, message.SerializeToString(), blixt_only=True)


# Written also when empty: KPNG's readers look into it without asking whether it is there.
_SCOPES = [
    wire.EndpointScopes(
        Internal=bool(scope & Scope.INTERNAL),
        External=bool(scope & Scope.EXTERNAL),
        Cluster=bool(scope & Scope.CLUSTER),
    )
    for scope in range(Scope.ALL + 1)
]


def timed(item: Item, trigger_time: int) -> Item:
    """The same endpoint with its TriggerTime (nanoseconds since 1970; 0: unknown, the item as it is).

    The item must have none yet: translation makes items without, so that what differs only in it is equal.
    """
    if not trigger_time or item.kind is ItemKind.SERVICE:
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
