"""Pools' addresses in what is served, and why some are lacking."""

from __future__ import annotations

from collections.abc import Mapping

from blixt_api import localv1_pb2 as wire
from blixt_frontend.addresses import AddressBook, Pools, parse_pool
from blixt_frontend.items import Item, ItemKind
from blixt_frontend.objects import GatewayAddress, LoadBalancerIngress, Object, ParametersRef
from blixt_frontend.source import Batch
from blixt_frontend.translator import Translator
from blixt_objects import gateway, gateway_class, listener, service


def translator(pool: str = "lan=192.0.2.1-192.0.2.2") -> Translator:
    return Translator(addresses=AddressBook(Pools([parse_pool(pool)])))


def balancer_ips(units: Mapping[str, tuple[Item, ...]]) -> dict[str, list[str]]:
    """The load balancer IPs of each service item."""
    found = {}
    for items in units.values():
        for item in items:
            if item.kind is ItemKind.SERVICE and item.default is not None:
                ips = wire.Service.FromString(item.default).IPs.LoadBalancerIPs
                found[item.path] = [*ips.V4, *ips.V6]
    return found


def announced(units: Mapping[str, tuple[Item, ...]]) -> dict[str, bool]:
    """Whether the nodes are to answer for the addresses of each service item."""
    return {
        item.path: wire.Service.FromString(item.default).Announce
        for items in units.values()
        for item in items
        if item.kind is ItemKind.SERVICE and item.default is not None
    }


def upserts(*objects: Object) -> Batch:
    return Batch(upserts=objects, complete=True)


def test_a_gateway_and_a_service_are_served_at_addresses_of_the_pool() -> None:
    units = translator().apply(
        upserts(gateway_class(), gateway(listener(), addresses=()), service("web", type="LoadBalancer"))
    )
    assert sorted(balancer_ips(units).values()) == [["192.0.2.1"], ["192.0.2.2"]]


def test_what_comes_free_goes_to_who_waits_in_the_same_revision() -> None:
    translating = translator("lan=192.0.2.1")
    first = service("a", type="LoadBalancer")
    translating.apply(upserts(first, service("b", type="LoadBalancer")))
    units = translating.apply(Batch(deletions=(first.key,), complete=True))
    assert balancer_ips(units) == {"default/b": ["192.0.2.1"]}
    assert units["Service default/a"] == ()


def test_a_gateway_says_why_it_has_no_address() -> None:
    translating = translator("lan=192.0.2.1")
    asking = gateway(listener(), addresses=(GatewayAddress(value="192.0.2.1"),))
    taker = service("web", type="LoadBalancer", load_balancer_ip="192.0.2.1")
    translating.apply(upserts(gateway_class(), taker))
    translating.apply(upserts(asking))
    (result,) = translating.gateways.values()
    assert result.conditions.reason("Programmed") == "AddressNotUsable"
    (condition,) = (one for one in result.conditions if one.type == "Programmed")
    assert condition.message == "192.0.2.1 is held by Service default/web"
    assert not result.addresses

    translating.apply(Batch(deletions=(taker.key,), complete=True))
    (result,) = translating.gateways.values()
    assert result.conditions.holds("Programmed")
    assert result.addresses.v4 == ("192.0.2.1",)


def test_a_gateway_that_is_not_ours_takes_no_address() -> None:
    translating = translator("lan=192.0.2.1")
    units = translating.apply(
        upserts(gateway(listener(), class_name="other", addresses=()), service("web", type="LoadBalancer"))
    )
    assert balancer_ips(units) == {"default/web": ["192.0.2.1"]}


def test_a_static_address_outside_the_pools_is_served_as_before() -> None:
    units = translator().apply(
        upserts(gateway_class(), gateway(listener(), addresses=(GatewayAddress(value="203.0.113.1"),)))
    )
    assert list(balancer_ips(units).values()) == [["203.0.113.1"]]


def test_the_nodes_answer_for_addresses_that_are_ours_alone() -> None:
    elsewhere = (LoadBalancerIngress(ip="198.51.100.7"),)
    units = translator().apply(
        upserts(
            gateway_class(),
            gateway(listener(name="tcp"), name="gw", addresses=(GatewayAddress(value="203.0.113.1"),)),
            service("ours", type="LoadBalancer"),
            service("inner"),
            service("of-a-cloud", type="LoadBalancer", ingress=elsewhere),
            service("of-another", type="LoadBalancer", load_balancer_class="other", ingress=elsewhere),
        )
    )
    assert announced(units) == {
        "default/gw.tcp": True,
        "default/ours": True,
        "default/inner": False,
        "default/of-a-cloud": False,
        "default/of-another": False,
    }
    # Without pools, no Service's address is ours.
    units = Translator().apply(upserts(service("web", type="LoadBalancer", ingress=elsewhere)))
    assert announced(units) == {"default/web": False}


def test_leading_begins_with_the_next_batch() -> None:
    book = AddressBook(Pools([parse_pool("lan=192.0.2.1")]), leading=False)
    translating = Translator(addresses=book)
    units = translating.apply(upserts(service("web", type="LoadBalancer")))
    assert balancer_ips(units) == {"default/web": []}
    book.leading = True
    assert balancer_ips(translating.apply(Batch(complete=True))) == {"default/web": ["192.0.2.1"]}


def test_a_gateway_that_waits_for_its_class_takes_no_address() -> None:
    translating = translator("lan=192.0.2.1")
    bad = gateway_class(parameters=ParametersRef(group="x.io", kind="Config", name="c"))
    web = service("web", type="LoadBalancer")
    units = translating.apply(upserts(bad, gateway(listener(), addresses=()), web))
    assert balancer_ips(units) == {"default/web": ["192.0.2.1"]}
    units = translating.apply(Batch((gateway_class(),), (web.key,), complete=True))
    assert balancer_ips(units) == {"default/gw.tcp": ["192.0.2.1"]}
