"""Whatever the order and the batches of edits: the same as translating what is there from scratch."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from blixt_frontend.items import Item
from blixt_frontend.objects import (
    CertificateRef,
    EndpointPort,
    GrantFrom,
    GrantTo,
    LabelSelector,
    Object,
    ParametersRef,
    ParentRef,
)
from blixt_frontend.objects.gateway import GATEWAY_GROUP
from blixt_frontend.source import Batch, ObjectKey
from blixt_frontend.translator import Translator
from blixt_objects import (
    Seen,
    backend,
    endpoint,
    endpoint_slice,
    gateway,
    gateway_class,
    grant,
    http_route,
    https,
    lets_in,
    listener,
    namespace,
    node,
    port,
    service,
    tcp_route,
    tls_secret,
)

NAMESPACES = ("default", "other")
NODES = ("n1", "n2", "n3")
ZONES = ("", "a", "b")

names = st.sampled_from(("s1", "s2"))
spaces = st.sampled_from(NAMESPACES)
policies = st.sampled_from(("Cluster", "Local"))
targets: st.SearchStrategy[int | str] = st.sampled_from((8080, "http"))
conditions = st.sampled_from((None, True, False))
maybe_spaces = st.sampled_from(("", *NAMESPACES))
hostnames = st.sampled_from(("", "a.example", "*.example", "b.example"))
parents = st.lists(
    st.builds(
        ParentRef,
        name=st.sampled_from(("g1", "g2")),
        namespace=st.just("default"),
        section_name=st.sampled_from(("", "l1", "l3")),
    ),
    max_size=2,
)


@st.composite
def services(draw: st.DrawFn) -> Object:
    return service(
        draw(names),
        port(80, draw(targets), "http"),
        namespace=draw(spaces),
        cluster_ips=(draw(st.sampled_from(("10.96.0.1", "None"))),),
        internal_traffic_policy=draw(policies),
        external_traffic_policy=draw(policies),
    )


@st.composite
def slices(draw: st.DrawFn) -> Object:
    v6 = draw(st.booleans())
    endpoints = [
        endpoint(
            f"fd00::{i}" if v6 else f"10.0.0.{i}",
            draw(st.sampled_from(("", f"p{i}"))),
            node=draw(st.sampled_from(("", *NODES))),
            ready=draw(conditions),
            terminating=draw(conditions),
            serving=draw(conditions),
            zones=draw(st.sets(st.sampled_from(ZONES[1:]), max_size=1)),
            nodes=draw(st.sets(st.sampled_from(NODES), max_size=1)),
        )
        for i in draw(st.lists(st.integers(1, 4), max_size=3))
    ]
    return endpoint_slice(
        *endpoints,
        of=draw(names),
        name=draw(st.sampled_from(("x", "y"))),
        namespace=draw(spaces),
        address_type="IPv6" if v6 else "IPv4",
        ports=(EndpointPort(name="http", port=draw(st.sampled_from((8080, 9090)))),),
        time=draw(st.sampled_from(("", "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"))),
    )


@st.composite
def gateways(draw: st.DrawFn) -> Object:
    selector = LabelSelector(match_labels={"team": "a"})
    return gateway(
        *(
            listener(
                name,
                draw(st.sampled_from((80, 81))),
                allowed_routes=lets_in(draw(st.sampled_from(("Same", "All", "Selector"))), selector),
            )
            for name in ("l1", "l2")
        ),
        https(
            "l3",
            443,
            *draw(st.lists(st.builds(CertificateRef, name=names, namespace=maybe_spaces), max_size=2)),
            hostname=draw(hostnames),
            allowed_routes=lets_in(draw(st.sampled_from(("Same", "All", "Selector"))), selector),
        ),
        name=draw(st.sampled_from(("g1", "g2"))),
        class_name=draw(st.sampled_from(("c1", "c2"))),
        accepted=draw(st.sampled_from(("", "Unknown", "True"))),
    )


@st.composite
def routes(draw: st.DrawFn) -> Object:
    refs = draw(
        st.lists(
            st.builds(
                backend,
                names,
                st.just(80),
                namespace=maybe_spaces,
                weight=st.integers(0, 2),
            ),
            max_size=3,
        )
    )
    return tcp_route(
        *refs,
        name=draw(st.sampled_from(("r1", "r2"))),
        namespace=draw(spaces),
        parents=draw(parents),
        age=draw(st.sampled_from((None, 1, 2))),
    )


http_routes = st.builds(
    lambda hostname, name, namespace, parents: http_route(
        *filter(None, [hostname]), name=name, namespace=namespace, parents=parents
    ),
    hostnames,
    st.sampled_from(("r1", "r2")),
    spaces,
    parents,
)
grants = st.builds(
    lambda name, kind, target, namespace: grant(
        name,
        namespace,
        from_=(GrantFrom(group=GATEWAY_GROUP, kind=kind[0], namespace="default"),),
        to=(GrantTo(group="", kind=kind[1], name=target),),
    ),
    st.sampled_from(("a", "b")),
    st.sampled_from((("TCPRoute", "Service"), ("Gateway", "Secret"))),
    st.sampled_from(("", "s1")),
    spaces,
)
objects = st.one_of(
    services(),
    slices(),
    slices(),
    gateways(),
    routes(),
    st.builds(node, st.sampled_from(NODES), st.sampled_from(ZONES)),
    st.builds(lambda name, team: namespace(name, team=team), spaces, st.sampled_from(("a", "b"))),
    st.builds(
        gateway_class,
        st.sampled_from(("c1", "c2")),
        parameters=st.sampled_from((None, ParametersRef(group="x.io", kind="Odd", name="c"))),
    ),
    st.builds(tls_secret, names, spaces, key=st.sampled_from((None, b""))),
    http_routes,
    grants,
)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    upserts = {one.key: one for one in draw(st.lists(objects, max_size=6))}
    known = [one.key for one in draw(st.lists(objects, max_size=3))]
    return Batch(
        tuple(upserts.values()),
        tuple(key for key in dict.fromkeys(known) if key not in upserts),
        draw(st.booleans()),
        draw(st.sampled_from((None, {}, {"Secret": "Forbidden"}))),
    )


def as_seen(items: Mapping[str, Item]) -> dict[tuple[str, str], object]:
    """What every node sees, without TriggerTime: it tells how the present came about."""
    result: dict[tuple[str, str], object] = {}
    for where in NODES:
        for zone in ZONES:
            view = Seen(items.values(), where, zone)
            for message in view.endpoints.values():
                message.TriggerTime = 0
            result[where, zone] = (view.services, view.endpoints)
    return result


@settings(max_examples=150, deadline=None)
@given(st.lists(batches(), min_size=1, max_size=8))
def test_edits_lead_to_what_translating_from_scratch_makes(edits: list[Batch]) -> None:
    translator, there = Translator(), dict[ObjectKey, Object]()
    unread: Mapping[str, str] = {}
    units: dict[str, dict[str, Item]] = {}
    for edit in (*edits, Batch(complete=True)):
        unread = unread if edit.unread is None else edit.unread
        for one in edit.upserts:
            there[one.key] = one  # type: ignore[assignment]  # a batch's objects are only known by their key
        for key in edit.deletions:
            there.pop(key, None)
        for unit, items in translator.apply(edit).items():
            units[unit] = {item.path: item for item in items}
            assert len(units[unit]) == len(items), "a path stands for two items"
    fresh = Translator()
    scratch = fresh.apply(Batch(tuple(there.values()), complete=True, unread=unread))
    assert {unit for unit, items in units.items() if items} == set(scratch)
    for unit, items in scratch.items():
        assert as_seen(units[unit]) == as_seen({item.path: item for item in items})
    assert dict(translator.gateways) == dict(fresh.gateways)
    assert dict(translator.zones) == dict(fresh.zones)
