"""frontends: what clients connect to, and where to go from there, for simple planes."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from blixt_backend.model import Endpoint, PortMapping, Protocol, Scope, Service, ServiceView
from blixt_backend.planes.frontends import Destination, Frontend, frontends
from blixt_views import packed

HTTP = PortMapping("http", Protocol.TCP, 80, node_port=30080, target_port=8080)
DNS = PortMapping("dns", Protocol.UDP, 53)
BOTH = Endpoint("both", packed("10.0.0.1", "fd00::1"))


def view(*endpoints: Endpoint, name: str = "web", **fields: Any) -> ServiceView:
    return ServiceView(Service("shop", name, **{"ports": (HTTP,), **fields}), endpoints)


def readable(*views: ServiceView) -> dict[str, list[str]]:
    return {
        f"{at.protocol.name} {at.address} {at.port}": [f"{to.address} {to.port}" for to in destinations]
        for at, destinations in frontends(views).items()
    }


def test_a_frontend_has_the_endpoints_of_its_family() -> None:
    only6 = Endpoint("only6", packed("fd00::2"))
    assert readable(view(BOTH, only6, cluster_ips=packed("10.96.0.1", "fd00:96::1"))) == {
        "TCP 10.96.0.1 80": ["10.0.0.1 8080"],
        "TCP fd00:96::1 80": ["fd00::1 8080", "fd00::2 8080"],
    }


def test_every_kind_of_address_and_every_port_but_node_ports() -> None:
    addresses: dict[str, Any] = {
        "cluster_ips": packed("10.96.0.1"),
        "external_ips": packed("192.0.2.1"),
        "load_balancer_ips": packed("192.0.2.2"),
    }
    assert readable(view(BOTH, ports=(HTTP, DNS), **addresses)) == {
        f"{port}": [destination]
        for ip in ("10.96.0.1", "192.0.2.1", "192.0.2.2")
        for port, destination in ((f"TCP {ip} 80", "10.0.0.1 8080"), (f"UDP {ip} 53", "10.0.0.1 53"))
    }


@pytest.mark.parametrize(
    ("scopes", "inner", "outer"),
    [
        (Scope.INTERNAL | Scope.CLUSTER, True, False),
        (Scope.EXTERNAL | Scope.CLUSTER, False, True),
        (Scope.NONE, False, False),
    ],
)
def test_endpoints_are_for_those_whom_the_frontend_chose_them_for(
    scopes: Scope, inner: bool, outer: bool
) -> None:
    endpoint = Endpoint("one", packed("10.0.0.1"), scopes=scopes)
    got = readable(view(endpoint, cluster_ips=packed("10.96.0.1"), external_ips=packed("192.0.2.1")))
    assert got == {
        "TCP 10.96.0.1 80": ["10.0.0.1 8080"] * inner,
        "TCP 192.0.2.1 80": ["10.0.0.1 8080"] * outer,
    }


def test_endpoints_have_ports_of_their_own_or_lack_one() -> None:
    own = Endpoint("own", packed("10.0.0.2"), port_overrides=(("http", 9090),))
    lacks = Endpoint("lacks", packed("10.0.0.3"), port_overrides=(("other", 1),))
    share = Endpoint("share", reject=True)
    got = readable(view(own, lacks, share, cluster_ips=packed("10.96.0.1")))
    assert got == {"TCP 10.96.0.1 80": ["10.0.0.2 9090"]}


def test_of_one_address_the_last_service_counts() -> None:
    first, last = (
        view(BOTH, cluster_ips=packed("10.96.0.1")),
        view(name="last", cluster_ips=packed("10.96.0.1")),
    )
    frontend = Frontend(ip_address("10.96.0.1"), Protocol.TCP, 80)
    assert frontends([first, last]) == {frontend: []}
    assert frontends([last, first]) == {frontend: [Destination(ip_address("10.0.0.1"), 8080)]}
