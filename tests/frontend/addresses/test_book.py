"""Objects in, assignments and what is to be written out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from blixt_frontend.addresses import AddressBook, LoadBalancerWrite, Pools, parse_pool
from blixt_frontend.objects import Gateway, LoadBalancerIngress, Service
from blixt_objects import gateway, service

POOLS = Pools([parse_pool("lan=192.0.2.1-192.0.2.2")])


def vips(*addresses: str) -> tuple[LoadBalancerIngress, ...]:
    return tuple(LoadBalancerIngress(ip=address) for address in addresses)


def balanced(name: str, *ingress: str, **spec: Any) -> Service:
    made = service(name, type="LoadBalancer", ingress=vips(*ingress), **spec)
    return replace(made, metadata=replace(made.metadata, uid=f"uid-of-{name}"))


def settled(book: AddressBook, *objects: Gateway | Service, gone: Sequence[Service] = ()) -> set[str]:
    changes: list[tuple[Any, Gateway | Service | None]] = [(one.key, one) for one in objects]
    changes += [(one.key, None) for one in gone]
    return {key.name for key in book.settle(changes)}


def addresses(book: AddressBook) -> dict[str, tuple[str, ...]]:
    return {f"{key.kind} {key.name}": one.addresses for key, one in book.assignments.items()}


def test_gateways_and_services_share_the_pools() -> None:
    book = AddressBook(POOLS)
    assert settled(book, gateway(), balanced("web")) == {gateway().metadata.name, "web"}
    assert sorted(addresses(book).values()) == [("192.0.2.1",), ("192.0.2.2",)]


def test_a_service_is_unwritten_until_its_status_says_so() -> None:
    book = AddressBook(POOLS)
    settled(book, balanced("web"))
    key = balanced("web").key
    assert dict(book.unwritten) == {key: LoadBalancerWrite(key, "uid-of-web", (), ("192.0.2.1",))}
    settled(book, balanced("web", "192.0.2.1"))
    assert not book.unwritten
    # Somebody takes it out of the status, or says that it is a proxy's.
    settled(book, balanced("web"))
    assert book.unwritten[key].addresses == ("192.0.2.1",)
    proxied = LoadBalancerIngress(ip="192.0.2.1", ip_mode="Proxy")
    settled(book, service("web", type="LoadBalancer", ingress=[proxied]))
    assert book.unwritten[key].seen == (proxied,)


def test_an_address_that_comes_free_is_written_to_who_waited_for_it() -> None:
    book = AddressBook(POOLS)
    a, b, c = (balanced(name) for name in "abc")
    settled(book, a, b, c)
    assert c.key not in book.unwritten
    assert settled(book, gone=[a]) == {"a", "c"}
    assert book.unwritten[c.key].addresses == ("192.0.2.1",)
    assert a.key not in book.unwritten


def test_a_status_that_is_no_longer_right_is_emptied() -> None:
    book = AddressBook(POOLS)
    settled(book, balanced("a", "192.0.2.1"), balanced("b", "192.0.2.2"), balanced("c", "192.0.2.1"))
    assert book.unwritten[balanced("c").key].addresses == ()
    assert book.assignments[balanced("c").key].reason == "AddressNotAssigned"


def test_a_service_that_is_not_ours_any_more_is_forgotten() -> None:
    book = AddressBook(POOLS)
    settled(book, balanced("web"))
    settled(book, service("web", type="ClusterIP"))
    assert not book.unwritten
    assert not book.assignments


def test_without_pools_nothing_is_ours() -> None:
    book = AddressBook(Pools())
    assert settled(book, gateway(), balanced("web")) == set()
    assert not book.assignments
    assert not book.unwritten


def test_leadership_counts_from_the_next_settling_on() -> None:
    book = AddressBook(POOLS, leading=False)
    settled(book, balanced("web"), balanced("old", "192.0.2.2"))
    assert addresses(book) == {"Service web": (), "Service old": ("192.0.2.2",)}
    book.leading = True
    assert settled(book) == {"web"}
    assert addresses(book) == {"Service web": ("192.0.2.1",), "Service old": ("192.0.2.2",)}
    assert book.unwritten.keys() == {balanced("web").key}


def test_whether_there_are_pools() -> None:
    assert AddressBook(POOLS).has_pools
    assert not AddressBook(Pools()).has_pools
