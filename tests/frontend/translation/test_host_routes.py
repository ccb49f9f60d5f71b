"""HTTPRoutes and TLSRoutes: counted where they attach, and nothing else."""

from __future__ import annotations

import pytest

from blixt_frontend.objects import LabelSelector, ListenerTLS, Object, ParentRef, RouteGroupKind
from blixt_frontend.translation.cluster import NamespacedName
from blixt_frontend.translation.gateway_items import GatewayTranslation, translate_gateway
from blixt_frontend.translation.hostnames import meet
from blixt_frontend.translation.index import Index
from blixt_frontend.translation.options import Options
from blixt_objects import (
    backend,
    gateway,
    gateway_class,
    http_route,
    https,
    lets_in,
    listener,
    namespace,
    service,
    tcp_route,
    tls_route,
    tls_secret,
)


def translate(*objects: Object) -> GatewayTranslation:
    index = Index()
    for one in (gateway_class(), *objects):
        list(index.put(one))
    return translate_gateway(NamespacedName("default", "gw"), index.cluster, Options())


def attached(*objects: Object) -> list[int]:
    """The routes that each listener counts."""
    result = translate(*objects).result
    assert result is not None
    return [one.attached_routes for one in result.listeners]


WEB = listener("web", 80, "HTTP")


def to(**fields: object) -> tuple[ParentRef, ...]:
    return (ParentRef(name="gw", **fields),)  # type: ignore[arg-type]  # as its fields say


def test_each_counts_once_whatever_its_references() -> None:
    assert attached(gateway(WEB)) == [0]
    assert attached(gateway(WEB), http_route(), http_route(name="b")) == [2]
    assert attached(gateway(WEB), http_route(parents=(*to(), *to(section_name="web")))) == [1]
    assert attached(gateway(WEB), http_route(parents=(ParentRef(name="another"),))) == [0]


def test_by_section_and_port() -> None:
    made = gateway(WEB, listener("alt", 8080, "HTTP"))
    assert attached(made, http_route()) == [1, 1]
    assert attached(made, http_route(parents=to(section_name="alt"))) == [0, 1]
    assert attached(made, http_route(parents=to(port=80))) == [1, 0]
    assert attached(made, http_route(parents=to(section_name="alt", port=80))) == [0, 0]


def test_by_kind() -> None:
    passing = listener("tls", 8443, "TLS", tls=ListenerTLS(mode="Passthrough"))
    made = gateway(WEB, https(), passing, listener("tcp", 1), listener("udp", 1, "UDP"))
    assert attached(made, http_route(), tls_secret()) == [1, 1, 0, 0, 0]
    assert attached(made, tls_route("a.example"), tls_secret()) == [0, 0, 1, 0, 0]
    none = listener("web", 80, "HTTP", allowed_routes=lets_in("Same", kinds=(RouteGroupKind(kind="Odd"),)))
    assert attached(gateway(none), http_route()) == [0]


def test_by_namespace() -> None:
    def allowing(*rule: object) -> Object:
        return gateway(listener("web", 80, "HTTP", allowed_routes=lets_in(*rule)))  # type: ignore[arg-type]

    foreign = http_route(namespace="shop", parents=to(namespace="default"))
    assert attached(allowing("Same"), foreign) == [0]
    assert attached(allowing("All"), foreign) == [1]
    assert attached(allowing("None"), http_route()) == [0]
    selector = LabelSelector(match_labels={"tier": "front"})
    assert attached(allowing("Selector", selector), foreign, namespace("shop")) == [0]
    assert attached(allowing("Selector", selector), foreign, namespace("shop", tier="front")) == [1]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("", "", True),
        ("", "a.example.com", True),
        ("a.example.com", "a.example.com", True),
        ("A.example.com", "a.Example.com", True),
        ("a.example.com", "b.example.com", False),
        ("*.example.com", "a.example.com", True),
        ("*.example.com", "b.a.example.com", True),
        ("*.example.com", "*.a.example.com", True),
        ("*.example.com", "*.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "a.example.net", False),
        ("*.example.com", "anexample.com", False),
        ("*.a.example.com", "*.b.example.com", False),
    ],
)
def test_hostnames(one: str, other: str, expected: bool) -> None:
    assert meet(one, other) is meet(other, one) is expected
    if other:
        assert attached(gateway(listener("web", 80, "HTTP", hostname=one)), http_route(other)) == [
            int(expected)
        ]


def test_one_hostname_in_common_is_enough() -> None:
    made = gateway(listener("web", 80, "HTTP", hostname="a.example"))
    assert attached(made, http_route("b.example", "a.example")) == [1]
    assert attached(made, http_route()) == [1]


def test_listeners_that_are_not_programmed_count_as_well() -> None:
    assert attached(gateway(https()), http_route()) == [1]
    assert attached(gateway(WEB, listener("tcp", 80)), http_route(), tcp_route(backend())) == [1, 1]


def test_nothing_of_them_is_served_and_no_route_is_in_their_way() -> None:
    objects = (gateway(listener(), WEB), tcp_route(backend(), age=1), service())
    with_them = (*objects, http_route(name="route"), tls_route(name="older"))
    before, after = translate(*objects), translate(*with_them)
    assert before.translation.items == after.translation.items
    assert after.result is not None
    assert {parent.route.kind for parent in after.result.parents} == {"TCPRoute"}
    assert after.result.listeners[0].active == objects[1]
