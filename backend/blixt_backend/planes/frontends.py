"""For simple planes: from services to what clients connect to, and where to go from there.

All clients get the same, and all destinations get as many. Weights, affinity, source ranges and node ports
are left out. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from blixt_backend.model import PackedAddress, PortMapping, Protocol, Scope, ServiceView

Address = IPv4Address | IPv6Address


class Frontend(NamedTuple):
    """What clients connect to; the port in host order."""

    address: Address
    protocol: Protocol
    port: int


class Destination(NamedTuple):
    """Where a new connection may go, of its frontend's family; the port in host order."""

    address: Address
    port: int


def frontends(views: Iterable[ServiceView]) -> dict[Frontend, list[Destination]]:
    """Every cluster IP, external and load balancer IP, with each port. Without a destination: to be refused.

    By a cluster IP clients reach endpoints of scope INTERNAL, else of scope EXTERNAL. Of services that have
    the same address and port the last one's counts, so that there is one answer for each.
    """
    found: dict[Frontend, list[Destination]] = {}
    for view in views:
        service = view.service
        outer = (*service.external_ips, *service.load_balancer_ips)
        for port in service.ports:
            for scope, addresses in ((Scope.INTERNAL, service.cluster_ips), (Scope.EXTERNAL, outer)):
                for address in addresses:
                    frontend = Frontend(ip_address(bytes(address)), port.protocol, port.port)
                    found[frontend] = _destinations(view, port, scope, address)
    return found


def _destinations(
    view: ServiceView, port: PortMapping, scope: Scope, of_family: PackedAddress
) -> list[Destination]:
    return [
        Destination(ip_address(bytes(address)), number)
        for endpoint in view.endpoints
        if scope in endpoint.scopes and (number := endpoint.port_for(port))
        for address in endpoint.addresses
        if len(address) == len(of_family)
    ]
