"""Whatever is asked for, in whatever order: one holder for an address, and nobody loses one to others."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from blixt_frontend.addresses import Allocator, Assignment, Pools, Request, Wish, allocate, parse_pool
from blixt_frontend.addresses.pools import Address, parse_address
from blixt_frontend.source import ObjectKey

POOLS = Pools(map(parse_pool, ["a=192.0.2.1-192.0.2.3", "b=192.0.2.5,192.0.2.4,2001:db8::1-2001:db8::2"]))
START = datetime(2026, 1, 1, tzinfo=UTC)
TEXTS = ("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.9", "2001:db8::1")
ADDRESSES = tuple(address for text in TEXTS if (address := parse_address(text)))

names = st.sampled_from("uvwxyz")
wishes = st.one_of(
    st.sampled_from((Wish(4), Wish(6))),
    st.sampled_from([Wish(address.version, address) for address in ADDRESSES]),
)
in_pools = [address for address in ADDRESSES if POOLS.pool_of(address)]


@st.composite
def requests(draw: st.DrawFn, of: str = "") -> Request:
    name = of or draw(names)
    wanted = draw(st.lists(wishes, max_size=3, unique=True))
    wanted.sort(key=lambda wish: wish.address is None)
    return Request(
        ObjectKey("Service", "default", name),
        (START + timedelta(seconds=draw(st.integers(0, 2))), "default", name),
        tuple(wanted),
        len(wanted),
        draw(st.sampled_from(("", "", "a", "b"))),
        tuple(draw(st.lists(st.sampled_from(in_pools), max_size=2, unique=True))),
    )


many = st.lists(requests(), max_size=8, unique_by=lambda request: request.key)


def check(asked: dict[ObjectKey, Request], found: dict[ObjectKey, Assignment], leading: bool = True) -> None:
    """What must be true of every assignment."""
    given_out = [address for one in found.values() for address in one.addresses]
    assert len(given_out) == len(set(given_out)), "an address with two holders"
    assert found.keys() == asked.keys()
    for key, request in asked.items():
        assert_fits(request, found[key])
    if leading:
        assert_nothing_withheld(asked, found, set(given_out))


def assert_fits(request: Request, found: Assignment) -> None:
    has = {address for text in found.addresses if (address := parse_address(text))}
    certain = {wish.address for wish in request.wishes if wish.address}
    others = has - certain
    assert all(POOLS.pool_of(address) for address in has)
    assert all(request.pool in ("", POOLS.pool_of(address)) for address in others)
    for version in (4, 6):
        wanted = sum(wish.address is None and wish.version == version for wish in request.wishes)
        assert sum(address.version == version for address in others) <= wanted
    assert (not found.reason) == (len(has) == len(request.wishes))
    assert bool(found.reason) == bool(found.problem)


def assert_nothing_withheld(
    asked: dict[ObjectKey, Request], found: dict[ObjectKey, Assignment], given_out: set[str]
) -> None:
    """Whoever lacks something, lacks what is not free."""
    for key, request in asked.items():
        has = set(found[key].addresses)
        for wish in request.wishes:
            if wish.address is not None:
                free = POOLS.pool_of(wish.address) is not None and str(wish.address) not in given_out
                assert str(wish.address) in has or not free
        certain = {str(wish.address) for wish in request.wishes if wish.address}
        for version in (4, 6):
            wanted = sum(wish == Wish(version) for wish in request.wishes)
            got = sum((":" in address) == (version == 6) for address in has - certain)
            free_ones = [
                number
                for part in POOLS.ranges(request.pool, version)
                for number in range(part.first, part.last + 1)
                if str(Address(version, number)) not in given_out
            ]
            assert got == wanted or not free_ones


def as_after_a_restart(asked: dict[ObjectKey, Request], found: dict[ObjectKey, Assignment]) -> list[Request]:
    """The requests with a status that says what they have."""
    return [
        replace(request, held=tuple(a for text in found[key].addresses if (a := parse_address(text))))
        for key, request in asked.items()
    ]


@given(many, st.randoms())
def test_all_at_once_is_sound_whatever_the_order(batch: list[Request], random: Random) -> None:
    found = dict(allocate(batch, POOLS))
    check({request.key: request for request in batch}, found)
    shuffled = random.sample(batch, len(batch))
    assert found == dict(allocate(shuffled, POOLS))


@given(many)
def test_a_restart_gives_everyone_the_same(batch: list[Request]) -> None:
    asked = {request.key: request for request in batch}
    found = dict(allocate(batch, POOLS))
    again = dict(allocate(as_after_a_restart(asked, found), POOLS))
    assert {key: one.addresses for key, one in again.items()} == {
        key: one.addresses for key, one in found.items()
    }


class Changes(RuleBasedStateMachine):
    """A leader's and a follower's allocator under random changes."""

    @initialize(leading=st.booleans())
    def start(self, leading: bool) -> None:
        self.leading = leading
        self.allocator = Allocator(POOLS, leading)
        self.asked: dict[ObjectKey, Request] = {}

    def found(self) -> dict[ObjectKey, Assignment]:
        return dict(self.allocator.assignments)

    @rule(batch=st.lists(requests(), max_size=3, unique_by=lambda request: request.key), gone=st.sets(names))
    def change(self, batch: list[Request], gone: set[str]) -> None:
        before = self.found()
        changes: dict[ObjectKey, Request | None] = {
            ObjectKey("Service", "default", name): None for name in gone
        }
        changes.update({request.key: request for request in batch})
        told = self.allocator.settle(changes)
        for key, request in changes.items():
            if request is None:
                self.asked.pop(key, None)
            else:
                self.asked[key] = request
        after = self.found()
        assert {key for key in before | after if before.get(key) != after.get(key)} == told
        self.nobody_else_loses(before, after, set(changes))

    @rule()
    def restart(self) -> None:
        """Another one takes over, from what the status says, and finds everyone with what they had."""
        before = self.found()
        renewed = as_after_a_restart(self.asked, before)
        self.asked = {request.key: request for request in renewed}
        self.allocator = Allocator(POOLS, self.leading)
        self.allocator.settle(dict(self.asked))
        after = self.found()
        assert {k: one.addresses for k, one in after.items()} == {
            k: one.addresses for k, one in before.items()
        }

    @rule()
    def change_of_leadership(self) -> None:
        before = self.found()
        self.leading = not self.leading
        told = self.allocator.lead(self.leading)
        after = self.found()
        assert {key for key in before if before[key] != after[key]} <= told
        for key, request in self.asked.items():
            shown = {str(address) for address in request.held}
            kept = set(before[key].addresses) if self.leading else set(before[key].addresses) & shown
            assert kept <= set(after[key].addresses)

    def nobody_else_loses(
        self, before: dict[ObjectKey, Assignment], after: dict[ObjectKey, Assignment], touched: set[ObjectKey]
    ) -> None:
        for key in before.keys() - touched:
            lost = set(before[key].addresses) - set(after[key].addresses)
            assert not lost

    @invariant()
    def sound(self) -> None:
        if hasattr(self, "allocator"):
            check(self.asked, self.found(), self.leading)


TestChanges = Changes.TestCase
TestChanges.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
