"""Which addresses are to be answered for, and by whom."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt_backend.announce.claims import Claims, claim
from blixt_backend.model import ChangeSet, Endpoint, PackedAddress, ServiceView
from blixt_fakes.segment import balanced, change, ip

A, B, V6 = ip("192.0.2.1"), ip("192.0.2.2"), ip("2001:db8::1")
LIVE = frozenset({"n1", "n2", "n3"})


def on(node: str, *addresses: str, serving: bool = True, terminating: bool = False) -> Endpoint:
    return Endpoint(
        f"on-{node}",
        tuple(map(ip, addresses or ("10.0.0.1",))),
        node=node,
        serving=serving,
        terminating=terminating,
    )


def candidates(address: PackedAddress, *views: ServiceView, live: frozenset[str] = LIVE) -> set[str]:
    claims = Claims()
    claims.apply(change(*views))
    return set(claims.candidates(address, live))


def test_any_node_for_a_service_of_the_whole_cluster() -> None:
    assert candidates(A, balanced("a", [A], [on("n1")])) == LIVE
    assert candidates(A, balanced("a", [A])) == LIVE


def test_none_for_what_is_not_ours() -> None:
    assert candidates(A, balanced("a", [A], announce=False)) == set()
    assert candidates(B, balanced("a", [A])) == set()


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "224.0.0.5", "::1", "ff02::1"])
def test_none_for_what_no_host_can_have(address: str) -> None:
    assert candidates(ip(address), balanced("a", [ip(address)])) == set()


@pytest.mark.parametrize(
    ("endpoints", "expected"),
    [
        ([], set()),
        ([on("n1"), on("n2")], {"n1", "n2"}),
        ([on("n1"), on("dead")], {"n1"}),
        ([on("n1"), on("n2", terminating=True)], {"n1"}),
        ([on("n2", terminating=True), on("n3", terminating=True, serving=False)], {"n2"}),
        ([on("n1", serving=False)], set()),
        ([on("n1", "2001:db8::7")], set()),  # an endpoint of the other family
        ([Endpoint("r", reject=True, node="n1"), on("n2")], {"n2"}),
        ([on("")], set()),
    ],
)
def test_local_ones_are_for_nodes_with_a_usable_endpoint(
    endpoints: list[Endpoint], expected: set[str]
) -> None:
    assert candidates(A, balanced("a", [A], endpoints, local=True)) == expected


def test_families_are_decided_on_apart() -> None:
    view = balanced("a", [A, V6], [on("n1", "10.0.0.1"), on("n2", "2001:db8::7")], local=True)
    assert (candidates(A, view), candidates(V6, view)) == ({"n1"}, {"n2"})


def test_an_address_of_several_services_is_for_those_that_can_serve_all_or_else_any() -> None:
    all_ = balanced("all", [A])
    one, two = (
        balanced("one", [A], [on("n1"), on("n2")], local=True),
        balanced("two", [A], [on("n2")], local=True),
    )
    assert candidates(A, all_, one) == {"n1", "n2"}
    assert candidates(A, one, two) == {"n2"}
    assert candidates(A, one, two, live=frozenset({"n1", "n3"})) == {"n1"}
    assert candidates(A, all_, two, live=frozenset({"n1", "n3"})) == {"n1", "n3"}


def test_a_change_touches_only_its_own_addresses() -> None:
    claims = Claims()
    assert claims.apply(change(balanced("a", [A, A]), balanced("b", [B]), resync=True)) == {A, B}
    assert claims.apply(change(balanced("a", [A, V6]))) == {A, V6}
    # Endpoints come and go, and any node will do all the same.
    assert claims.apply(change(balanced("a", [A, V6], [on("n1")]))) == set()
    assert claims.apply(change(removed=["ns/b", "ns/never"])) == {B}
    assert set(claims.addresses) == {A, V6}
    assert claims.apply(change(balanced("c", [B]), resync=True)) == {A, V6, B}
    assert set(claims.addresses) == {B}


VIEWS = st.builds(
    balanced,
    st.sampled_from("abc"),
    st.lists(st.sampled_from([A, B, V6])),
    st.lists(st.sampled_from([on("n1"), on("n2", "2001:db8::7"), on("n3", terminating=True)]), max_size=2),
    local=st.booleans(),
    announce=st.booleans(),
)


@given(
    st.lists(
        st.tuples(st.lists(VIEWS, max_size=2), st.sets(st.sampled_from(["ns/a", "ns/b"])), st.booleans())
    )
)
def test_however_it_came_about_the_state_is_what_it_would_be_at_once(
    steps: list[tuple[list[ServiceView], set[str], bool]],
) -> None:
    claims = Claims()
    state: dict[str, ServiceView] = {}
    for views, removed, resync in steps:
        before = {address: claims.candidates(address, LIVE) for address in (A, B, V6)}
        changed = {view.service.path: view for view in views}
        state = {path: view for path, view in state.items() if path not in removed} | changed
        told = state if resync else changed
        touched = claims.apply(ChangeSet(told, frozenset(removed - changed.keys()), state, resync=resync))
        fresh = Claims()
        fresh.apply(ChangeSet(state, frozenset(), state, resync=True))
        for address in (A, B, V6):
            now = claims.candidates(address, LIVE)
            assert now == fresh.candidates(address, LIVE)
            assert now == before[address] or address in touched
        assert set(claims.addresses) == set(fresh.addresses)


def test_a_claim_names_each_address_once() -> None:
    assert claim(balanced("a", [A, A, V6])).nodes == ((A, None), (V6, None))
