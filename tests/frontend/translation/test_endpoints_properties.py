"""Whatever is merged or kept apart: each family and port has just the endpoints that its slices give it."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from blixt_api import localv1_pb2 as wire
from blixt_frontend.objects import EndpointPort, EndpointSlice
from blixt_frontend.translation.cluster import Cluster, NamespacedName
from blixt_frontend.translation.options import Options
from blixt_frontend.translation.services import translate_service
from blixt_objects import Seen, endpoint, endpoint_slice, port, service

WEB = NamespacedName("default", "web")
SERVICE = service("web", port(80, 8080, "http"), port(81, 9090, "metrics"))


class One(NamedTuple):
    number: int
    pod: str
    ready: bool
    serving: bool
    terminating: bool

    @property
    def usefulness(self) -> int:
        if self.ready:
            return 3
        return (2 if self.serving else 1) if self.terminating else 0


class Slice(NamedTuple):
    v6: bool
    http: int | None
    metrics: int | None
    endpoints: list[One]

    def address(self, one: One) -> str:
        return f"fd00::{one.number}" if self.v6 else f"10.0.0.{one.number}"

    def as_object(self, name: str) -> EndpointSlice:
        numbers = {"http": self.http, "metrics": self.metrics}
        return endpoint_slice(
            *(
                endpoint(
                    self.address(one),
                    one.pod,
                    ready=one.ready,
                    serving=one.serving,
                    terminating=one.terminating,
                )
                for one in self.endpoints
            ),
            name=name,
            address_type="IPv6" if self.v6 else "IPv4",
            ports=[EndpointPort(name=name, port=number) for name, number in numbers.items() if number],
        )


ones = st.builds(
    One,
    st.integers(1, 3),
    st.sampled_from(("", "a", "b")),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
slices = st.builds(
    Slice,
    st.booleans(),
    st.sampled_from((None, 8080, 8081)),
    st.sampled_from((None, 9090)),
    st.lists(ones, max_size=3),
)

Place = tuple[bool, str, str, int]  # IPv6, port name, address, number


def expected(some: list[Slice]) -> tuple[set[Place], set[Place]]:
    """What gets new connections, and what is known at all."""
    used, known = set[Place](), set[Place]()
    for v6 in (False, True):
        for name in ("http", "metrics"):
            best: dict[Place, int] = {}
            for one_slice in some:
                number = one_slice.http if name == "http" else one_slice.metrics
                if one_slice.v6 != v6 or number is None:
                    continue
                for one in one_slice.endpoints:
                    place = (v6, name, one_slice.address(one), number)
                    best[place] = max(best.get(place, 0), one.usefulness)
            ready = {place for place, usefulness in best.items() if usefulness == 3}
            used |= ready or {place for place, usefulness in best.items() if usefulness == 2}
            known |= best.keys()
    return used, known


def places(message: wire.Endpoint) -> set[Place]:
    return {
        (":" in address, override.Name, address, override.Port)
        for address in (*message.IPs.V4, *message.IPs.V6)
        for override in message.PortOverrides
    }


@settings(max_examples=400, deadline=None)
@given(st.lists(slices, max_size=4))
def test_each_family_and_port_has_its_own_endpoints(some: list[Slice]) -> None:
    objects = {f"s{index}": one.as_object(f"s{index}") for index, one in enumerate(some)}
    items = translate_service(WEB, Cluster(services={WEB: SERVICE}, slices={WEB: objects}), Options()).items
    assert len({item.path for item in items}) == len(items)
    seen = Seen(items)
    used, known = set[Place](), set[Place]()
    for message in seen.endpoints.values():
        here = places(message)
        assert not here & known, "an endpoint of one family and port is in two items"
        known |= here
        if message.Scopes.Cluster:
            used |= here
    assert (used, known) == expected(some)
