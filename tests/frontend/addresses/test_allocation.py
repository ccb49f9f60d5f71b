"""Who gets which address, case by case."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from blixt_frontend.addresses import Allocator, Assignment, Pools, Request, Wish, allocate, parse_pool
from blixt_frontend.addresses.pools import Address, parse_address
from blixt_frontend.source import ObjectKey

POOLS = Pools(map(parse_pool, ["small=192.0.2.1-192.0.2.3", "six=2001:db8::1-2001:db8::2"]))
START = datetime(2026, 1, 1, tzinfo=UTC)


def read(text: str) -> Address:
    address = parse_address(text)
    assert address is not None
    return address


def key(name: str) -> ObjectKey:
    return ObjectKey("Service", "default", name)


def request(
    name: str, *wishes: str, age: int = 0, held: str = "", pool: str = "", enough: int = -1
) -> Request:
    """A wish is "4", "6" or an address; a smaller age is older."""
    made = tuple(
        Wish(int(wish)) if wish in ("4", "6") else Wish(read(wish).version, read(wish)) for wish in wishes
    )
    return Request(
        key(name),
        (START + timedelta(seconds=age), "default", name),
        made,
        len(made) if enough < 0 else enough,
        pool,
        tuple(map(read, held.split())),
    )


def settled(allocator: Allocator, *requests: Request, gone: str = "") -> set[str]:
    changes: dict[ObjectKey, Request | None] = {one.key: one for one in requests}
    changes.update({key(name): None for name in gone.split()})
    return {changed.name for changed in allocator.settle(changes)}


def has(allocator: Allocator) -> dict[str, str]:
    return {key.name: " ".join(one.addresses) for key, one in allocator.assignments.items()}


def problem(allocator: Allocator, name: str) -> tuple[str | None, str]:
    assignment = allocator.assignments[key(name)]
    return assignment.reason, assignment.problem


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        ([request("a", "4"), request("b", "6"), request("c", "4", "6")],
         {"a": "192.0.2.1", "b": "2001:db8::1", "c": "192.0.2.2 2001:db8::2"}),
        # The oldest chooses first; ties go by name.
        ([request("a", "4", age=2), request("b", "4", age=1), request("c", "4", age=1)],
         {"b": "192.0.2.1", "c": "192.0.2.2", "a": "192.0.2.3"}),
        # What is asked for by name comes before what takes any, and what is held before both.
        ([request("a", "4"), request("b", "192.0.2.1", age=9)], {"a": "192.0.2.2", "b": "192.0.2.1"}),
        ([request("a", "192.0.2.1"), request("b", "4", age=9, held="192.0.2.1")],
         {"a": "", "b": "192.0.2.1"}),
        ([request("a", "192.0.2.2"), request("b", "192.0.2.2", age=-1)], {"a": "", "b": "192.0.2.2"}),
        # Two that hold the same: the older one has it.
        ([request("a", "4", age=1, held="192.0.2.3"), request("b", "4", held="192.0.2.3")],
         {"a": "192.0.2.1", "b": "192.0.2.3"}),
        # What is held is kept only as far as it is still asked for.
        ([request("a", "6", held="192.0.2.1"), request("b", "4", pool="small", held="192.0.2.2")],
         {"a": "2001:db8::1", "b": "192.0.2.2"}),
        ([request("a", "4", pool="six", held="192.0.2.1")], {"a": ""}),
        ([request("a", "192.0.2.3", held="192.0.2.1")], {"a": "192.0.2.3"}),
        ([request("a", "192.0.2.3", "4", held="192.0.2.1 192.0.2.2")], {"a": "192.0.2.3 192.0.2.1"}),
    ],
)  # fmt: skip
def test_all_at_once(requests: list[Request], expected: dict[str, str]) -> None:
    found = allocate(requests, POOLS)
    assert {key.name: " ".join(one.addresses) for key, one in found.items()} == expected


def test_exhaustion_is_told_of_and_ends_with_the_first_address_that_is_given_back() -> None:
    allocator = Allocator(POOLS)
    settled(allocator, *(request(name, "4", age=age) for age, name in enumerate("abcde")))
    assert has(allocator) == {"a": "192.0.2.1", "b": "192.0.2.2", "c": "192.0.2.3", "d": "", "e": ""}
    assert problem(allocator, "e") == (
        "AddressNotAssigned",
        "no IPv4 address is free in the address pools",
    )

    assert settled(allocator, gone="b") == {"b", "d"}
    assert has(allocator) == {"a": "192.0.2.1", "c": "192.0.2.3", "d": "192.0.2.2", "e": ""}
    assert problem(allocator, "d") == (None, "")
    assert settled(allocator, gone="a c") == {"a", "c", "e"}
    assert has(allocator) == {"d": "192.0.2.2", "e": "192.0.2.1"}


def test_as_many_are_helped_as_addresses_come_free() -> None:
    allocator = Allocator(POOLS)
    settled(allocator, *(request(name, "4", age=age) for age, name in enumerate("abcdefg")))
    assert settled(allocator, gone="a b c") == set("abcdef")
    assert has(allocator) == {"d": "192.0.2.1", "e": "192.0.2.2", "f": "192.0.2.3", "g": ""}


def test_who_can_not_be_helped_is_in_nobodys_way() -> None:
    allocator = Allocator(POOLS)
    settled(allocator, *(request(name, "4", age=age) for age, name in enumerate("abc")))
    unreadable = replace(request("d", "4", age=3), complaint="no IP addresses: 'x'")
    settled(allocator, unreadable, request("e", "4", age=4))
    settled(allocator, gone="b")
    assert has(allocator) == {"a": "192.0.2.1", "c": "192.0.2.3", "d": "", "e": "192.0.2.2"}
    assert problem(allocator, "d") == ("AddressNotAssigned", "no IP addresses: 'x'")


def test_the_lowest_free_address_is_taken_whatever_was_free_before() -> None:
    allocator = Allocator(POOLS)
    settled(allocator, request("a", "192.0.2.3"), request("b", "4"))
    settled(allocator, gone="a")
    settled(allocator, request("c", "4"))
    settled(allocator, request("d", "4"))
    assert has(allocator) == {"b": "192.0.2.1", "c": "192.0.2.2", "d": "192.0.2.3"}


def test_an_address_that_another_one_holds_is_waited_for() -> None:
    allocator = Allocator(POOLS)
    settled(allocator, request("a", "192.0.2.2"))
    settled(allocator, request("b", "192.0.2.2", age=2), request("c", "192.0.2.2", age=1))
    held_by_a = ("AddressNotUsable", "192.0.2.2 is held by Service default/a")
    assert problem(allocator, "b") == problem(allocator, "c") == held_by_a

    assert settled(allocator, gone="a") == {"a", "b", "c"}
    assert has(allocator) == {"b": "", "c": "192.0.2.2"}
    assert problem(allocator, "b") == ("AddressNotUsable", "192.0.2.2 is held by Service default/c")


def test_a_wish_given_up_frees_its_address() -> None:
    allocator = Allocator(POOLS)
    settled(allocator, request("a", "192.0.2.1", "192.0.2.2"), request("b", "192.0.2.2", age=1))
    assert settled(allocator, request("a", "192.0.2.1")) == {"a", "b"}
    assert has(allocator) == {"a": "192.0.2.1", "b": "192.0.2.2"}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (request("a", "203.0.113.1"), ("AddressNotUsable", "203.0.113.1 is in no address pool")),
        (request("a", "6", pool="small"),
         ("AddressNotAssigned", "no IPv6 addresses are in address pool 'small'")),
        (request("a", "6", "203.0.113.1", pool="small"),
         ("AddressNotUsable", "203.0.113.1 is in no address pool; "
          "no IPv6 addresses are in address pool 'small'")),
        (request("a", "4", "6", pool="small", enough=1), (None, "")),
    ],
)  # fmt: skip
def test_what_is_lacking_is_said(asked: Request, expected: tuple[str | None, str]) -> None:
    allocator = Allocator(POOLS)
    settled(allocator, asked)
    assert problem(allocator, "a") == expected


def test_the_same_request_again_changes_nothing() -> None:
    allocator = Allocator(POOLS)
    assert settled(allocator, request("a", "4")) == {"a"}
    assert settled(allocator, request("a", "4")) == set()
    assert settled(allocator, request("a", "4", held="192.0.2.1")) == set()
    assert settled(allocator, gone="unknown") == set()


def test_a_follower_takes_only_what_the_status_says() -> None:
    allocator = Allocator(POOLS, leading=False)
    settled(allocator, request("a", "4"), request("b", "4", held="192.0.2.3"))
    assert has(allocator) == {"a": "", "b": "192.0.2.3"}
    assert problem(allocator, "a")[0] == "AddressNotAssigned"

    # The leader moves b away and gives a what b had; a's new status is seen first.
    assert settled(allocator, request("a", "4", held="192.0.2.3")) == set()
    assert settled(allocator, request("b", "4", held="192.0.2.1")) == {"a", "b"}
    assert has(allocator) == {"a": "192.0.2.3", "b": "192.0.2.1"}


def test_who_begins_to_lead_serves_those_who_wait() -> None:
    allocator = Allocator(POOLS, leading=False)
    settled(allocator, request("a", "4", age=1), request("b", "4", age=2, held="192.0.2.1"))
    assert {one.name for one in allocator.lead(True)} == {"a"}
    assert has(allocator) == {"a": "192.0.2.2", "b": "192.0.2.1"}
    assert allocator.lead(True) == set()


def test_who_ceases_to_lead_keeps_what_the_status_shows() -> None:
    allocator = Allocator(POOLS)
    settled(allocator, request("a", "4"), request("b", "4"))
    settled(allocator, request("a", "4", held="192.0.2.1"))
    assert {one.name for one in allocator.lead(False)} == {"b"}
    assert has(allocator) == {"a": "192.0.2.1", "b": ""}
    # The new leader chose otherwise.
    settled(allocator, request("c", "4", held="192.0.2.2"), request("b", "4", held="192.0.2.3"))
    assert has(allocator) == {"a": "192.0.2.1", "b": "192.0.2.3", "c": "192.0.2.2"}


def test_a_large_range_costs_nothing() -> None:
    pools = Pools([parse_pool("six=2001:db8::/32")])
    found = allocate([request(f"s{i}", "6", age=i) for i in range(50)], pools)
    assert found[key("s49")] == Assignment(("2001:db8::32",))
