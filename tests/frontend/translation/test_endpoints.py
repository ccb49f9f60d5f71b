"""From slices to endpoints: what becomes one item, under which path."""

from __future__ import annotations

from msgspec.structs import replace
from xxhash import xxh64_hexdigest

from blixt_frontend.items import Item, ItemKind, Topology
from blixt_frontend.objects import EndpointPort, EndpointSlice, Service, TargetRef
from blixt_frontend.translation.cluster import Cluster, NamespacedName, Translation
from blixt_frontend.translation.options import Options
from blixt_frontend.translation.services import translate_service
from blixt_objects import (
    ALL,
    NONE,
    Seen,
    endpoint,
    endpoint_slice,
    only,
    port,
    scopes,
    service,
    terminating,
)

WEB = NamespacedName("default", "web")
HTTP = EndpointPort(name="http", port=8080)
METRICS = EndpointPort(name="metrics", port=9090)
TWO_PORTS = service("web", port(80, 8080, "http"), port(81, 9090, "metrics"))


def translation(*slices: EndpointSlice, of: Service | None = None) -> Translation:
    cluster = Cluster(services={WEB: of or service()}, slices={WEB: {s.metadata.name: s for s in slices}})
    return translate_service(WEB, cluster, Options())


def items(*slices: EndpointSlice, of: Service | None = None) -> list[Item]:
    return [item for item in translation(*slices, of=of).items if item.kind is not ItemKind.SERVICE]


def seen(*slices: EndpointSlice, of: Service | None = None, node: str = "") -> Seen:
    return Seen(translation(*slices, of=of).items, node)


def test_a_pods_endpoint() -> None:
    (item,) = items(endpoint_slice(endpoint("10.0.0.1", "web-0", node="a", zone="x", hostname="h")))
    assert (item.kind, item.path, item.blixt_only) == (ItemKind.POD_ENDPOINT, "default/web/web-0", False)
    message = only(Seen([item]))
    assert (message.Node, message.Zone, message.Hostname, list(message.IPs.V4)) == (
        "a",
        "x",
        "h",
        ["10.0.0.1"],
    )
    assert not message.HasField("Weight")
    assert message.Group == 0


def test_local_on_its_own_node_only() -> None:
    (item,) = items(endpoint_slice(endpoint("10.0.0.1", "web-0", node="a")))
    assert only(Seen([item], "a")).Local
    assert not only(Seen([item], "b")).Local


def test_equal_views_share_their_bytes() -> None:
    (item,) = items(
        endpoint_slice(endpoint(nodes=("a", "b", "c"), node="z"), endpoint("10.0.0.2", nodes=("d",)))
    )[:1]
    assert item.variant(Topology("a")) is item.variant(Topology("b")) is item.variant(Topology("elsewhere"))


def test_an_endpoint_without_a_pod_is_known_by_its_address() -> None:
    (item,) = items(endpoint_slice(endpoint("10.0.0.1")))
    assert (item.kind, item.path) == (ItemKind.ENDPOINT, f"default/web/{xxh64_hexdigest(b'10.0.0.1')}")
    (drained,) = items(endpoint_slice(terminating("10.0.0.1", node="b")))
    assert drained.path == item.path


def test_only_a_reference_to_a_pod_is_a_pods() -> None:
    virtual_machine = TargetRef(kind="VirtualMachine", name="vm-0")
    odd_name = TargetRef(kind="Pod", name="a/b")
    for reference in (virtual_machine, odd_name, TargetRef(kind="Pod")):
        made = endpoint_slice(replace(endpoint("10.0.0.1"), target_ref=reference))
        (item,) = items(made)
        assert item.kind is ItemKind.ENDPOINT
        assert item.path.count("/") == 2


def test_both_families_of_a_pod_are_one_item() -> None:
    (item,) = items(
        endpoint_slice(endpoint("10.0.0.1", "web-0", node="a")),
        endpoint_slice(endpoint("fd00::1", "web-0", node="a"), address_type="IPv6"),
    )
    message = only(Seen([item]))
    assert (list(message.IPs.V4), list(message.IPs.V6)) == (["10.0.0.1"], ["fd00::1"])


def test_all_ports_of_a_pod_are_one_item() -> None:
    view = seen(
        endpoint_slice(endpoint("10.0.0.1", "web-0"), name="1", ports=(HTTP,)),
        endpoint_slice(endpoint("10.0.0.1", "web-0"), name="2", ports=(METRICS,)),
        of=TWO_PORTS,
    )
    assert {o.Name: o.Port for o in only(view).PortOverrides} == {"http": 8080, "metrics": 9090}


def test_families_that_disagree_stay_apart() -> None:
    view = seen(
        endpoint_slice(endpoint("10.0.0.1", "web-0")),
        endpoint_slice(terminating("fd00::1", "web-0"), endpoint("fd00::2", "web-1"), address_type="IPv6"),
    )
    by_address = {(*m.IPs.V4, *m.IPs.V6): (path, scopes(m)) for path, m in view.endpoints.items()}
    assert by_address["10.0.0.1",] == ("default/web/web-0", ALL)
    path, scope = by_address["fd00::1",]
    assert path.startswith("default/web/web-0~")
    assert scope == NONE


def test_families_are_independent() -> None:
    """No IPv6 endpoint is ready, so the terminating one serves, whatever IPv4's do."""
    view = seen(
        endpoint_slice(endpoint("10.0.0.1", "web-1")),
        endpoint_slice(terminating("fd00::1", "web-0"), address_type="IPv6"),
    )
    assert view.cluster() == {"10.0.0.1", "fd00::1"}


def test_ports_are_independent() -> None:
    view = seen(
        endpoint_slice(endpoint("10.0.0.1", "web-0"), name="1", ports=(HTTP,)),
        endpoint_slice(terminating("10.0.0.2", "web-1"), name="2", ports=(METRICS,)),
        of=TWO_PORTS,
    )
    assert view.cluster() == {"10.0.0.1", "10.0.0.2"}


def test_ports_that_disagree_stay_apart() -> None:
    view = seen(
        endpoint_slice(endpoint("10.0.0.1", "web-0"), name="1", ports=(HTTP,)),
        endpoint_slice(
            terminating("10.0.0.1", "web-0"), endpoint("10.0.0.2", "x"), name="2", ports=(METRICS,)
        ),
        of=TWO_PORTS,
    )
    of_pod = [m for path, m in view.endpoints.items() if "web-0" in path]
    assert {(tuple(o.Name for o in m.PortOverrides), scopes(m)) for m in of_pod} == {
        (("http",), ALL),
        (("metrics",), NONE),
    }


def test_two_addresses_of_one_family_stay_apart() -> None:
    """A pod of a StatefulSet that was made anew, while the slices still have the old one."""
    view = seen(endpoint_slice(terminating("10.0.0.1", "web-0"), endpoint("10.0.0.2", "web-0")))
    assert list(view.endpoints["default/web/web-0"].IPs.V4) == ["10.0.0.2"]
    assert len(view.endpoints) == 2


def test_a_double_counts_once() -> None:
    view = seen(
        endpoint_slice(endpoint("10.0.0.1", "web-0"), name="1"),
        endpoint_slice(endpoint("10.0.0.1", "web-0"), name="2"),
    )
    assert list(only(view).IPs.V4) == ["10.0.0.1"]


def test_of_doubles_that_disagree_the_more_useful_counts() -> None:
    ready = endpoint("10.0.0.1", "web-0")
    serving = terminating("10.0.0.1", "web-0")
    dying = terminating("10.0.0.1", "web-0", serving=False)
    unready = endpoint("10.0.0.1", "web-0", ready=False)
    order = [unready, dying, serving, ready]
    for worse in range(len(order)):
        for better in range(worse + 1, len(order)):
            alone = seen(endpoint_slice(order[better])).endpoints
            for first, second in ((worse, better), (better, worse)):
                both = seen(
                    endpoint_slice(order[first], name="1"), endpoint_slice(order[second], name="2")
                ).endpoints
                assert both == alone


def test_one_address_with_several_numbers_is_several_endpoints() -> None:
    view = seen(
        endpoint_slice(endpoint("10.0.0.1"), name="1", ports=(EndpointPort(port=1),)),
        endpoint_slice(endpoint("10.0.0.1"), name="2", ports=(EndpointPort(port=2),)),
        of=service("web", port(80, "web")),
    )
    assert sorted(o.Port for m in view.endpoints.values() for o in m.PortOverrides) == [1, 2]


def test_only_the_first_address_counts() -> None:
    both = replace(endpoint("10.0.0.1"), addresses=("10.0.0.1", "10.0.0.9"))
    assert list(only(seen(endpoint_slice(both))).IPs.V4) == ["10.0.0.1"]


def test_what_is_no_address_costs_only_its_endpoint() -> None:
    none = replace(endpoint(), addresses=())
    result = translation(
        endpoint_slice(endpoint("web.example.org"), endpoint("fd00::1"), none, endpoint("10.0.0.1"))
    )
    assert Seen(result.items).cluster() == {"10.0.0.1"}
    assert len(result.problems) == 3


def test_slices_of_names_are_left_out() -> None:
    assert not items(endpoint_slice(endpoint("web.example.org"), address_type="FQDN"))


class TestConditions:
    def test_unknown_counts_as_ready(self) -> None:
        assert scopes(only(seen(endpoint_slice(endpoint())))) == ALL

    def test_not_ready_and_not_terminating_keeps_its_connections(self) -> None:
        [item] = items(endpoint_slice(endpoint(ready=False)))
        assert item.blixt_only
        message = only(Seen([item]))
        assert scopes(message) == NONE
        assert (message.Terminating, message.NotServing) == (False, True)

    def test_ready_has_neither_flag(self) -> None:
        message = only(seen(endpoint_slice(endpoint())))
        assert (message.Terminating, message.NotServing) == (False, False)

    def test_published_whatever_its_state_is_ready(self) -> None:
        message = only(seen(endpoint_slice(endpoint(ready=True, serving=False, terminating=True))))
        assert scopes(message) == ALL
        assert (message.Terminating, message.NotServing) == (False, False)

    def test_terminating_beside_ready_only_drains(self) -> None:
        draining, ready = items(endpoint_slice(terminating("10.0.0.1", "a"), endpoint("10.0.0.2", "b")))
        assert (draining.blixt_only, ready.blixt_only) == (True, False)
        message = only(Seen([draining]))
        assert scopes(message) == NONE
        assert message.Terminating
        assert not message.NotServing
        assert message.HasField("Scopes")

    def test_terminating_takes_over_where_nothing_is_ready(self) -> None:
        (item,) = items(endpoint_slice(terminating("10.0.0.1")))
        assert scopes(only(Seen([item]))) == ALL
        assert only(Seen([item])).Terminating
        assert not item.blixt_only

    def test_what_no_longer_serves_only_drains(self) -> None:
        (item,) = items(endpoint_slice(terminating("10.0.0.1", serving=False)))
        message = only(Seen([item]))
        assert (scopes(message), message.NotServing, item.blixt_only) == (NONE, True, True)
