"""Services and endpoints as plain data with readable addresses, ready for JSON."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from blixt_backend.model import Endpoint, PackedAddress, PortMapping, Scope, Service, ServiceView

#: What JSON is made of.
Data = dict[str, object]

_SCOPE_NAMES = ((Scope.INTERNAL, "internal"), (Scope.EXTERNAL, "external"), (Scope.CLUSTER, "cluster"))


def service_view(view: ServiceView) -> Data:
    """A service and its endpoints; what is as it mostly is (no weight, no policy) is left out."""
    return {**service(view.service), "endpoints": [endpoint(each, view.service) for each in view.endpoints]}


def service(item: Service) -> Data:
    return _without_defaults(
        {
            "type": item.type,
            "origin": item.origin.value,
            "algorithm": item.algorithm.value,
            "clusterIPs": addresses(item.cluster_ips),
            "externalIPs": addresses(item.external_ips),
            "loadBalancerIPs": addresses(item.load_balancer_ips),
            "ports": [port(each) for each in item.ports],
            "externalTrafficLocal": item.external_traffic_local,
            "internalTrafficLocal": item.internal_traffic_local,
            "sourceFilters": [
                {
                    "targets": addresses(each.targets),
                    "ranges": [f"{address(network)}/{length}" for network, length in each.ranges],
                }
                for each in item.source_filters
            ],
            "affinitySeconds": item.affinity_seconds,
            "healthCheckNodePort": item.health_check_node_port,
            "announce": item.announce,
        }
    )


def port(item: PortMapping) -> Data:
    return _without_defaults(
        {
            "name": item.name,
            "protocol": item.protocol.name,
            "port": item.port,
            "nodePort": item.node_port,
            "targetPort": item.target_port or item.target_port_name,
        }
    )


def endpoint(item: Endpoint, of: Service) -> Data:
    """`ports` are the endpoint's own numbers, in the order of the service's; null where it lacks one."""
    return {
        "key": item.key,
        **_without_defaults(
            {
                "addresses": addresses(item.addresses),
                "ports": [] if item.reject else [item.port_for(each) for each in of.ports],
                "hostname": item.hostname,
                "local": item.local,
                "reject": item.reject,
                "terminating": item.terminating,
                "notServing": not item.serving,
                "node": item.node,
                "zone": item.zone,
                "group": item.group,
            }
        ),
        "weight": item.weight,
        "scopes": scopes(item.scopes),
    }


def scopes(of: Scope) -> list[str]:
    return [name for scope, name in _SCOPE_NAMES if scope & of]


def addresses(packed: Iterable[PackedAddress]) -> list[str]:
    return [address(each) for each in packed]


def address(packed: PackedAddress) -> str:
    return str(ipaddress.ip_address(bytes(packed)))


def _without_defaults(data: Data) -> Data:
    return {key: value for key, value in data.items() if value}
