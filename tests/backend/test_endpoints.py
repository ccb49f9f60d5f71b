"""endpoints: packed and taken out again."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from blixt_backend.endpoints import Endpoints, Kind, Packed, alike, latest_trigger_ns
from blixt_backend.model import Endpoint, PackedAddress, Scope

ADDRESSES = st.lists(
    (st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)).map(PackedAddress), max_size=3
).map(tuple)
ENDPOINTS = st.dictionaries(
    st.text(st.characters(exclude_characters="/"), min_size=1, max_size=5),
    st.builds(
        Endpoint,
        key=st.just(""),
        addresses=ADDRESSES,
        hostname=st.sampled_from(["", "a"]),
        local=st.booleans(),
        port_overrides=st.sampled_from([(), (("http", 8080),)]),
        scopes=st.sampled_from([Scope.NONE, Scope.INTERNAL | Scope.CLUSTER]),
        group=st.integers(0, 3),
        weight=st.integers(0, 3),
        reject=st.booleans(),
        serving=st.booleans(),
        terminating=st.booleans(),
        node=st.sampled_from(["", "a"]),
        zone=st.sampled_from(["", "a"]),
        trigger_time_ns=st.just(0) | st.integers(-(2**63), 2**63 - 1),
    ),
    max_size=5,
).map(lambda found: tuple(replace(found[key], key=key) for key in sorted(found)))


def packed(endpoint: Endpoint) -> Packed:
    like = replace(endpoint, key="", addresses=(), trigger_time_ns=0)
    kind = Kind(like, tuple(map(len, endpoint.addresses)))
    return Packed(b"".join(endpoint.addresses), kind, endpoint.trigger_time_ns)


def of(endpoints: tuple[Endpoint, ...]) -> Endpoints:
    return Endpoints([(endpoint.key, packed(endpoint)) for endpoint in reversed(endpoints)])


@given(ENDPOINTS)
def test_what_is_packed_comes_out_again_in_the_order_of_keys(endpoints: tuple[Endpoint, ...]) -> None:
    found = of(endpoints)
    assert tuple(found) == endpoints
    assert len(found) == len(endpoints)
    assert found == endpoints
    assert endpoints == found
    assert hash(found) == hash(endpoints)
    assert Endpoints(found.entries()) == found
    assert found[1:] == endpoints[1:]
    assert [found[position] for position in range(len(found))] == list(endpoints)


@given(ENDPOINTS)
def test_what_a_plane_reads_is_the_same_of_both(endpoints: tuple[Endpoint, ...]) -> None:
    of_packed, of_plain = list(alike(of(endpoints))), list(alike(endpoints))
    assert [addresses for addresses, _ in of_packed] == [addresses for addresses, _ in of_plain]
    without_its_own = [replace(each, key="", addresses=(), trigger_time_ns=0) for _, each in of_plain]
    assert [each for _, each in of_packed] == without_its_own
    assert latest_trigger_ns(of(endpoints)) == latest_trigger_ns(endpoints)


@given(ENDPOINTS, ENDPOINTS)
def test_they_are_the_same_when_what_is_in_them_is(
    some: tuple[Endpoint, ...], others: tuple[Endpoint, ...]
) -> None:
    assert (of(some) == of(others)) == (some == others)
    assert of(some) == of(some)
    assert of(some) != list(some)
