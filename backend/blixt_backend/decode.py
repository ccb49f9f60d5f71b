"""From the wire's messages to the model. Pure: bytes in, a frozen Service or Endpoint out, or a DecodeError.

KPNG's server knows neither weights nor the scope CLUSTER, and before 2022 no scopes at all. Which server
talks is known from the stream that it offers (`Dialect`), not guessed from fields that happen to be unset.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Iterable, Mapping
from enum import Enum
from itertools import product
from typing import TypeVar

from google.protobuf.message import DecodeError as ProtobufDecodeError

from blixt_api import localv1_pb2 as pb
from blixt_backend import model
from blixt_backend.model import PackedAddress, Scope


class Dialect(Enum):
    """Which stream an item came by."""

    #: `blixt.v1`: every field means what it says.
    BLIXT = "blixt.v1"
    #: `localv1`, perhaps from KPNG: whoever is meant for any new connections is meant for the cluster's own.
    LOCALV1 = "localv1"


class DecodeError(ValueError):
    """What is wrong with one item, for whoever runs the server that sent it."""


EVERY_SCOPE = Scope.INTERNAL | Scope.EXTERNAL | Scope.CLUSTER
#: By (Internal, External, Cluster): flags of an enum are slow to combine for every item.
_SCOPES = {
    (internal, external, cluster): Scope(internal | external << 1 | cluster << 2)
    for internal, external, cluster in product((False, True), repeat=3)
}
#: Kubernetes' own default of sessionAffinityConfig.clientIP.timeoutSeconds.
_DEFAULT_AFFINITY_SECONDS = 10800
_PROTOCOLS: dict[int, model.Protocol] = {
    pb.TCP: model.Protocol.TCP,
    pb.UDP: model.Protocol.UDP,
    pb.SCTP: model.Protocol.SCTP,
}
_ORIGINS: dict[int, model.Origin] = {
    pb.KubernetesService: model.Origin.SERVICE,
    pb.GatewayListener: model.Origin.GATEWAY_LISTENER,
}
_ALGORITHMS: dict[int, model.Algorithm] = {
    pb.WeightedRandom: model.Algorithm.WEIGHTED_RANDOM,
    pb.Maglev: model.Algorithm.MAGLEV,
    pb.LeastConnections: model.Algorithm.LEAST_CONNECTIONS,
}
#: Few strings are on very many items: one object for each saves a third of the daemon's memory.
_shared = sys.intern


def service_path(path: str) -> str:
    """The path itself, if it is `namespace/name`."""
    namespace, _, name = path.partition("/")
    if not namespace or not name or "/" in name:
        raise DecodeError("a service's path must be namespace/name")
    return _shared(path)


def endpoint_path(path: str) -> tuple[str, str]:
    """(service path, key) of `namespace/name/key`."""
    service, _, key = path.rpartition("/")
    if not key or service.count("/") != 1 or service.startswith("/") or service.endswith("/"):
        raise DecodeError("an endpoint's path must be namespace/name/key")
    return _shared(service), key


def service(path: str, encoded: bytes) -> model.Service:
    """The Service at `path`. Raises DecodeError."""
    message = _parse(pb.Service(), encoded)
    if path != f"{message.Namespace}/{message.Name}":
        raise DecodeError(f"it calls itself {message.Namespace}/{message.Name}")
    ips = message.IPs
    return model.Service(
        namespace=_shared(message.Namespace),
        name=message.Name,
        type=_shared(message.Type or "ClusterIP"),
        origin=_known(_ORIGINS, message.Origin, "origin"),
        algorithm=_known(_ALGORITHMS, message.Algorithm, "algorithm"),
        # A Gateway's listener has some for KPNG's backends, at which nobody arrives.
        cluster_ips=() if message.Origin == pb.GatewayListener else _addresses(ips.ClusterIPs),
        external_ips=_addresses(ips.ExternalIPs),
        load_balancer_ips=_addresses(ips.LoadBalancerIPs),
        ports=tuple(_port_mapping(port) for port in message.Ports),
        external_traffic_local=message.ExternalTrafficToLocal,
        internal_traffic_local=message.InternalTrafficToLocal,
        source_filters=tuple(_source_filter(each) for each in message.IPFilters),
        affinity_seconds=_affinity(message),
        health_check_node_port=_port(message.HealthCheckNodePort, 0, "health check node port"),
        announce=message.Announce,
        labels=_texts(message.Labels),
        annotations=_texts(message.Annotations),
    )


def endpoint(key: str, encoded: bytes, dialect: Dialect) -> model.Endpoint:
    """The Endpoint with this key. Raises DecodeError."""
    message = _parse(pb.Endpoint(), encoded)
    return model.Endpoint(
        key=key,
        addresses=_addresses(message.IPs),
        hostname=message.Hostname,
        local=message.Local,
        port_overrides=tuple(
            (_shared(each.Name), _port(each.Port, 1, "port", each.Name)) for each in message.PortOverrides
        ),
        scopes=_scopes(message, dialect),
        group=message.Group,
        weight=message.Weight if message.HasField("Weight") else 1,
        reject=message.Reject,
        serving=not message.NotServing,
        terminating=message.Terminating,
        node=_shared(message.Node),
        zone=_shared(message.Zone),
        trigger_time_ns=message.TriggerTime,
    )


def node(encoded: bytes) -> model.Node:
    """This node. Raises DecodeError."""
    return model.Node(leaving=_parse(pb.Node(), encoded).Leaving)


_Message = TypeVar("_Message", pb.Service, pb.Endpoint, pb.Node)
_Known = TypeVar("_Known")


def _parse(message: _Message, encoded: bytes) -> _Message:
    try:
        message.ParseFromString(encoded)
    except ProtobufDecodeError:
        raise DecodeError(f"its {len(encoded)} bytes are no {type(message).__name__}") from None
    return message


def _scopes(message: pb.Endpoint, dialect: Dialect) -> Scope:
    if not message.HasField("Scopes"):
        return EVERY_SCOPE
    scopes = _SCOPES[message.Scopes.Internal, message.Scopes.External, message.Scopes.Cluster]
    if dialect is Dialect.LOCALV1 and scopes:
        # Whom KPNG sends for either policy that isn't Local is an endpoint of the whole cluster.
        return scopes | Scope.CLUSTER
    return scopes


def _addresses(ips: pb.IPSet) -> tuple[PackedAddress, ...]:
    if not ips.V6:
        return tuple([_packed(socket.AF_INET, text) for text in ips.V4])
    return tuple(
        _packed(family, text)
        for family, texts in ((socket.AF_INET, ips.V4), (socket.AF_INET6, ips.V6))
        for text in texts
    )


def _packed(family: socket.AddressFamily, text: str) -> PackedAddress:
    try:
        return PackedAddress(socket.inet_pton(family, text))
    except (OSError, ValueError):
        kind = "IPv4" if family is socket.AF_INET else "IPv6"
        raise DecodeError(f"{text!r} is no {kind} address") from None


def _source_filter(message: pb.IPFilter) -> model.SourceFilter:
    return model.SourceFilter(
        targets=_addresses(message.TargetIPs), ranges=tuple(_ranges(message.SourceRanges))
    )


def _ranges(texts: Iterable[str]) -> Iterable[tuple[PackedAddress, int]]:
    for text in texts:
        try:
            network = ipaddress.ip_network(text.strip(), strict=False)
        except ValueError:
            raise DecodeError(f"source range {text!r} is no CIDR") from None
        yield PackedAddress(network.network_address.packed), network.prefixlen


def _texts(found: Mapping[str, str]) -> dict[str, str]:
    """Most are on many items. `dict` would go through each mapping twice."""
    return {_shared(name): _shared(found[name]) for name in found}


def _port_mapping(message: pb.PortMapping) -> model.PortMapping:
    label = f"port {message.Name or message.Port}"
    return model.PortMapping(
        name=_shared(message.Name),
        protocol=_known(_PROTOCOLS, message.Protocol, f"protocol of {label}"),
        port=_port(message.Port, 1, label),
        node_port=_port(message.NodePort, 0, f"node port of {label}"),
        target_port=_port(message.TargetPort, 0, f"target port of {label}"),
        target_port_name=_shared(message.TargetPortName),
    )


def _port(number: int, least: int, label: str, name: str | None = None) -> int:
    if not least <= number <= 65535:
        named = label if name is None else f"{label} {name!r}"
        raise DecodeError(f"{named} is {number}: not in {least}..65535")
    return number


def _affinity(message: pb.Service) -> int:
    if not message.HasField("ClientIP"):
        return 0
    seconds = message.ClientIP.TimeoutSeconds
    return seconds if seconds > 0 else _DEFAULT_AFFINITY_SECONDS


def _known(values: Mapping[int, _Known], number: int, label: str) -> _Known:
    try:
        return values[number]
    except KeyError:
        raise DecodeError(
            f"{label} {number} is unknown here: the server may be newer than this backend"
        ) from None
