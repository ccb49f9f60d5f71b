"""What Gateways and Services ask for."""

from __future__ import annotations

from typing import Any

import pytest

from blixt_frontend.addresses import (
    ADDRESSES_ANNOTATION,
    LOAD_BALANCER_CLASS,
    POOL_ANNOTATION,
    Pools,
    Request,
    parse_pool,
)
from blixt_frontend.addresses.requests import of_gateway, of_service
from blixt_frontend.objects import (
    Gateway,
    GatewayAddress,
    GatewaySpec,
    GatewayStatus,
    LoadBalancerIngress,
    ObjectMeta,
)
from blixt_objects import service

POOLS = Pools(map(parse_pool, ["lan=192.0.2.1-192.0.2.9", "six=2001:db8::1-2001:db8::9"]))


def gateway(*addresses: str | GatewayAddress, has: str = "", pool: str = "") -> Gateway:
    spec = tuple(GatewayAddress(value=a) if isinstance(a, str) else a for a in addresses)
    status = tuple(GatewayAddress(value=a) for a in has.split())
    annotations = {POOL_ANNOTATION: pool} if pool else {}
    return Gateway(
        metadata=ObjectMeta(name="edge", namespace="default", annotations=annotations),
        spec=GatewaySpec(gateway_class_name="blixt", addresses=spec),
        status=GatewayStatus(addresses=status),
    )


def balanced(*ips: str, pool: str = "", addresses: str = "", **spec: Any) -> Request | None:
    """The request of a Service whose status has these ingress IPs."""
    annotations = {POOL_ANNOTATION: pool} if pool else {}
    if addresses:
        annotations[ADDRESSES_ANNOTATION] = addresses
    ingress = [LoadBalancerIngress(ip=ip) for ip in ips]
    return of_service(
        service(annotations=annotations, ingress=ingress, **{"type": "LoadBalancer", **spec}), POOLS
    )


def wished(request: Request | None) -> str:
    assert request is not None
    return " ".join(str(wish.address or wish.version) for wish in request.wishes)


@pytest.mark.parametrize(
    ("asking", "wishes", "enough"),
    [
        (gateway(), "4 6", 1),
        (gateway(pool="lan"), "4", 1),
        (gateway(""), "4", 1),
        (gateway("", "", ""), "4 6 4", 3),
        (gateway("", pool="six"), "6", 1),
        (gateway("192.0.2.5", "192.0.2.5"), "192.0.2.5", 1),
        (gateway("", "192.0.2.5"), "192.0.2.5 4", 2),
        (gateway("203.0.113.1"), "", 0),
        (gateway("no address"), "", 0),
        (gateway(GatewayAddress(type="Hostname", value="edge.example")), "", 0),
    ],
)
def test_a_gateway_asks_by_its_addresses(asking: Gateway, wishes: str, enough: int) -> None:
    request = of_gateway(asking, POOLS)
    assert (wished(request), request.enough, request.complaint) == (wishes, enough, "")


def test_a_gateways_addresses_in_no_pool_are_taken_as_given() -> None:
    request = of_gateway(gateway("203.0.113.1", "192.0.2.5", "2001:DB8:1::1"), POOLS)
    assert list(map(str, request.static)) == ["203.0.113.1", "2001:db8:1::1"]
    assert wished(request) == "192.0.2.5"


def test_a_status_counts_as_far_as_it_lies_in_a_pool() -> None:
    request = of_gateway(gateway(has="192.0.2.5 203.0.113.1 2001:db8:0::2"), POOLS)
    assert list(map(str, request.held)) == ["192.0.2.5", "2001:db8::2"]


def test_an_unknown_pool_is_told_of_where_it_matters() -> None:
    complaint = "there is no address pool 'wan'; there are lan, six"
    assert of_gateway(gateway(pool="wan"), POOLS).complaint == complaint
    assert of_gateway(gateway("", pool="wan"), POOLS).complaint == complaint
    assert of_gateway(gateway("192.0.2.5", pool="wan"), POOLS).complaint == ""


@pytest.mark.parametrize(
    ("request_", "wishes"),
    [
        (balanced(), "4"),
        (balanced(ip_families=("IPv6",)), "6"),
        (balanced(ip_families=("IPv6", "IPv4")), "6 4"),
        (balanced(load_balancer_class=LOAD_BALANCER_CLASS), "4"),
        (balanced(load_balancer_ip="192.0.2.5"), "192.0.2.5"),
        (balanced(load_balancer_ip="192.0.2.5", ip_families=("IPv4", "IPv6")), "192.0.2.5 6"),
        (balanced(addresses="2001:db8::5, 192.0.2.5", load_balancer_ip="192.0.2.6"), "2001:db8::5 192.0.2.5"),
        (balanced(load_balancer_ip="203.0.113.1"), "203.0.113.1"),
        (balanced("192.0.2.7"), "4"),
        # Its class leaves no doubt whose it is, so that addresses of a pool that is gone are replaced.
        (balanced("203.0.113.7", load_balancer_class=LOAD_BALANCER_CLASS), "4"),
    ],
)
def test_a_service_asks_by_family_and_by_name(request_: Request, wishes: str) -> None:
    assert wished(request_) == wishes
    assert request_.enough == len(request_.wishes)


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "ClusterIP"},
        {"type": "NodePort"},
        {"load_balancer_class": "example.com/other"},
    ],
)
def test_a_service_of_others_asks_for_nothing(spec: dict[str, Any]) -> None:
    assert balanced("192.0.2.7", **spec) is None


def test_a_service_that_another_controller_has_served_is_left_to_it() -> None:
    assert balanced("203.0.113.7") is None
    assert balanced("192.0.2.7", "203.0.113.7") is None
    host = service(type="LoadBalancer", ingress=[LoadBalancerIngress(hostname="lb.example")])
    assert of_service(host, POOLS) is None


def test_what_is_no_address_is_told_of() -> None:
    request = balanced(addresses="192.0.2.5,nonsense")
    assert request is not None
    assert request.complaint == "no IP addresses: 'nonsense'"
