"""Service views by chance, small enough that they meet each other's addresses."""

from __future__ import annotations

import ipaddress

from hypothesis import strategies as st

from blixt_backend.model import (
    Endpoint,
    Origin,
    PackedAddress,
    PortMapping,
    Protocol,
    Scope,
    Service,
    ServiceView,
    SourceFilter,
)


def packed(*texts: str) -> tuple[PackedAddress, ...]:
    return tuple(PackedAddress(ipaddress.ip_address(text).packed) for text in texts)


_IPS = packed("10.96.0.1", "10.96.0.2", "fd00::1", "fd00::2")
_EXTERNAL = packed("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2")
_SCOPES = st.sampled_from([Scope.NONE, Scope.INTERNAL, Scope.CLUSTER, Scope(5), Scope(6), Scope(7), Scope(7)])
_RANGES = st.sampled_from(
    [(each, length) for each, length in zip(_EXTERNAL, (8, 32, 32, 128), strict=True)]
    + [(packed("0.0.0.0")[0], 0)]
)


def _some(values: tuple[PackedAddress, ...]) -> st.SearchStrategy[tuple[PackedAddress, ...]]:
    return st.lists(st.sampled_from(values), max_size=3, unique=True).map(tuple)


ports = st.builds(
    PortMapping,
    name=st.sampled_from(["", "a", "b"]),
    protocol=st.sampled_from(Protocol),
    port=st.sampled_from([53, 80]),
    node_port=st.sampled_from([0, 30080]),
    target_port=st.sampled_from([0, 8080]),
)


@st.composite
def endpoints(draw: st.DrawFn, key: str) -> Endpoint:
    number = draw(st.integers(1, 5))
    if draw(st.integers(0, 9)) == 0:
        return Endpoint(key, reject=True, group=draw(st.integers(0, 2)), weight=draw(st.integers(0, 3)))
    return Endpoint(
        key,
        draw(st.sampled_from([packed(f"10.0.0.{number}"), packed(f"10.0.0.{number}", f"fd01::{number}")])),
        local=draw(st.booleans()),
        port_overrides=draw(st.sampled_from([(), (("a", 8081),)])),
        scopes=draw(_SCOPES),
        group=draw(st.integers(0, 2)),
        weight=draw(st.integers(0, 3)),
        serving=draw(st.booleans()),
    )


@st.composite
def views(draw: st.DrawFn, name: str) -> ServiceView:
    """A service called `name` in namespace `ns`."""
    external = draw(_some(_EXTERNAL))
    filters = draw(
        st.lists(
            st.builds(SourceFilter, st.just(external), st.lists(_RANGES, max_size=3).map(tuple)), max_size=1
        )
    )
    service = Service(
        "ns",
        name,
        origin=draw(st.sampled_from(Origin)),
        cluster_ips=draw(_some(_IPS)),
        load_balancer_ips=external,
        ports=tuple(draw(st.lists(ports, max_size=3))),
        external_traffic_local=draw(st.booleans()),
        internal_traffic_local=draw(st.booleans()),
        source_filters=tuple(filters),
        affinity_seconds=draw(st.sampled_from([0, 0, 60, 100_000])),
    )
    keys = [f"e{number}" for number in range(draw(st.integers(0, 4)))]
    return ServiceView(service, tuple(draw(endpoints(key)) for key in keys))
