"""Every condition and reason of the Gateway API that can arise here, from objects to what is written."""

from __future__ import annotations

from typing import Any

import pytest

from blixt_frontend.objects import (
    CertificateRef,
    GatewayAddress,
    GatewayClass,
    GatewayClassSpec,
    Infrastructure,
    ListenerTLS,
    ObjectMeta,
    ParametersRef,
    ParentRef,
    RouteGroupKind,
    RouteRule,
)
from blixt_frontend.status import FEATURES, FEATURES_WITH_POOLS
from blixt_frontend.translation.options import CONTROLLER_NAME
from blixt_objects import (
    Objects,
    backend,
    endpoint,
    endpoint_slice,
    gateway,
    gateway_class,
    https,
    lets_in,
    listener,
    port,
    service,
    tcp_route,
    tls_secret,
    udp_route,
)
from blixt_status import World, conditions

WEB: Objects = (service(), endpoint_slice(endpoint("10.0.0.1", "web-0")))
PARAMETERS = ParametersRef(group="x.io", kind="Config", name="c")
YES = "True"
NO = "False"


async def written(*objects: Any, applied: bool = True) -> World:
    world = World()
    await world.apply(gateway_class(), *objects)
    if applied:
        world.nodes.applied(world.revision, "node-a")
    async with world.leading():
        await world.settled()
    return world


GATEWAYS = {
    "Accepted, Programmed": (gateway(listener()), (YES, "Accepted"), (YES, "Programmed")),
    "some listeners not valid": (
        gateway(listener(), listener("odd", 81, "x.io/quic")),
        (YES, "ListenersNotValid"),
        (YES, "Programmed"),
    ),
    "no listener valid": (
        gateway(listener("odd", 81, "x.io/quic")),
        (NO, "ListenersNotValid"),
        (NO, "Invalid"),
    ),
    "no listeners": (gateway(), (NO, "Invalid"), (NO, "Invalid")),
    "parameters": (
        gateway(listener(), infrastructure=Infrastructure(parameters_ref=PARAMETERS)),
        (NO, "InvalidParameters"),
        (NO, "Invalid"),
    ),
    "a hostname as address": (
        gateway(listener(), addresses=(GatewayAddress(type="Hostname", value="lb.example"),)),
        (NO, "UnsupportedAddress"),
        (NO, "Invalid"),
    ),
    "no address": (gateway(listener(), addresses=()), (YES, "Accepted"), (NO, "AddressNotAssigned")),
    "an empty address": (
        gateway(listener(), addresses=(GatewayAddress(),)),
        (YES, "Accepted"),
        (NO, "AddressNotAssigned"),
    ),
    "no address at all": (
        gateway(listener(), addresses=(GatewayAddress(value="nowhere"),)),
        (YES, "Accepted"),
        (NO, "AddressNotUsable"),
    ),
}


@pytest.mark.parametrize(("made", "accepted", "programmed"), GATEWAYS.values(), ids=GATEWAYS)
async def test_gateways(made: Any, accepted: tuple[str, str], programmed: tuple[str, str]) -> None:
    status = await (await written(made)).status(made)
    assert conditions(status) == {"Accepted": accepted, "Programmed": programmed}
    assert {one["observedGeneration"] for one in status["conditions"]} == {3}


@pytest.mark.parametrize(
    ("streams", "reason"), [({}, "NoResources"), ({"node-a": 1}, "Pending")], ids=["no node", "not applied"]
)
async def test_what_nodes_do_not_have(streams: dict[str, int], reason: str) -> None:
    world = World()
    made = gateway(listener())
    await world.apply(gateway_class(), made)
    world.nodes.streams = streams
    async with world.leading():
        await world.settled()
    status = await world.status(made)
    assert conditions(status)["Programmed"] == (NO, reason)
    assert conditions(status["listeners"][0])["Programmed"] == (NO, "Pending")
    assert conditions(status)["Accepted"] == (YES, "Accepted")


ACCEPTED, RESOLVED = (YES, "Accepted"), (YES, "ResolvedRefs")
PROGRAMMED, INVALID = (YES, "Programmed"), (NO, "Invalid")
CONFLICTED = {"Accepted": (NO, "PortUnavailable"), "Programmed": INVALID, "ResolvedRefs": RESOLVED}
GOOD = {"Accepted": ACCEPTED, "Programmed": PROGRAMMED, "ResolvedRefs": RESOLVED}
ODD_CERTIFICATE = CertificateRef(name="c", group="x.io", kind="Vault")
ODD_KINDS = lets_in("Same", kinds=(RouteGroupKind(kind="Odd"), RouteGroupKind(kind="TCPRoute")))
LISTENERS = {
    "TCP": ((listener(),), GOOD, ["TCPRoute"]),
    "UDP": ((listener("dns", 53, "UDP"),), GOOD, ["UDPRoute"]),
    "HTTP": ((listener("web", 80, "HTTP"),), GOOD, ["HTTPRoute"]),
    "HTTPS": ((https(),), GOOD, ["HTTPRoute"]),
    "TLS that passes through": (
        (listener("tls", 443, "TLS", tls=ListenerTLS(mode="Passthrough")),),
        GOOD,
        ["TLSRoute"],
    ),
    "TLS that ends": ((https(protocol="TLS"),), GOOD, ["TLSRoute"]),
    "an unknown protocol": (
        (listener("odd", 80, "x.io/quic"), listener("good", 81)),
        {"Accepted": (NO, "UnsupportedProtocol"), "Programmed": INVALID, "ResolvedRefs": RESOLVED},
        [],
    ),
    "TCP beside HTTP": (
        (listener("a", 80), listener("b", 80, "HTTP"), listener("good", 81)),
        CONFLICTED | {"Conflicted": (YES, "ProtocolConflict")},
        ["TCPRoute"],
    ),
    "a hostname twice": (
        (listener("a", 80, "HTTP"), listener("b", 80, "HTTP"), listener("good", 81)),
        CONFLICTED | {"Conflicted": (YES, "HostnameConflict")},
        ["HTTPRoute"],
    ),
    "some kinds not valid": (
        (listener(allowed_routes=ODD_KINDS),),
        GOOD | {"ResolvedRefs": (NO, "InvalidRouteKinds")},
        ["TCPRoute"],
    ),
    "a certificate that is no Secret": (
        (https("web", 443, ODD_CERTIFICATE), listener()),
        GOOD | {"Programmed": INVALID, "ResolvedRefs": (NO, "InvalidCertificateRef")},
        ["HTTPRoute"],
    ),
    "no kind valid": (
        (listener(allowed_routes=lets_in("Same", kinds=(RouteGroupKind(kind="Odd"),))), listener("good", 81)),
        {"Accepted": ACCEPTED, "Programmed": INVALID, "ResolvedRefs": (NO, "InvalidRouteKinds")},
        [],
    ),
}


@pytest.mark.parametrize(("listeners", "expected", "kinds"), LISTENERS.values(), ids=LISTENERS)
async def test_listeners(listeners: Any, expected: dict[str, tuple[str, str]], kinds: list[str]) -> None:
    """The first of them."""
    made = gateway(*listeners)
    found = (await (await written(made, tls_secret())).status(made))["listeners"]
    assert [one["name"] for one in found] == [one.name for one in listeners]
    assert conditions(found[0]) == expected
    assert [kind["kind"] for kind in found[0]["supportedKinds"]] == kinds
    assert {one["observedGeneration"] for one in found[0]["conditions"]} == {3}


async def test_a_listener_without_an_address_is_pending() -> None:
    made = gateway(listener(), addresses=())
    (found,) = (await (await written(made)).status(made))["listeners"]
    assert conditions(found)["Programmed"] == (NO, "Pending")


SECTION = (ParentRef(name="gw", section_name="none"),)
UDP_ONLY = (service("api", port(80, protocol="UDP")),)
ROUTES = {
    "good": (tcp_route(backend()), ACCEPTED, RESOLVED, WEB),
    "no such section": (tcp_route(backend(), parents=SECTION), (NO, "NoMatchingParent"), RESOLVED, WEB),
    "another kind of listener": (
        udp_route(backend("api")),
        (NO, "NotAllowedByListeners"),
        RESOLVED,
        UDP_ONLY,
    ),
    "no such Service": (tcp_route(backend("gone")), ACCEPTED, (NO, "BackendNotFound"), ()),
    "no Service": (
        tcp_route(backend(kind="Bucket", group="x.io")),
        ACCEPTED,
        (NO, "InvalidKind"),
        (),
    ),
    "not granted": (tcp_route(backend(namespace="other")), ACCEPTED, (NO, "RefNotPermitted"), ()),
    "another protocol": (tcp_route(backend("api")), ACCEPTED, (NO, "UnsupportedProtocol"), UDP_ONLY),
}


@pytest.mark.parametrize(("route", "accepted", "resolved", "more"), ROUTES.values(), ids=ROUTES)
async def test_routes(route: Any, accepted: Any, resolved: Any, more: Objects) -> None:
    (parent,) = (await (await written(gateway(listener()), route, *more)).status(route))["parents"]
    assert conditions(parent) == {"Accepted": accepted, "ResolvedRefs": resolved}
    assert parent["controllerName"] == CONTROLLER_NAME
    assert {one["observedGeneration"] for one in parent["conditions"]} == {7}


async def test_a_route_of_several_rules_is_partially_invalid() -> None:
    route = tcp_route(rules=(RouteRule(backend_refs=(backend(),)), RouteRule()))
    (parent,) = (await (await written(gateway(listener()), route, *WEB)).status(route))["parents"]
    assert conditions(parent)["PartiallyInvalid"] == (YES, "UnsupportedValue")


async def test_a_route_of_several_gateways_has_an_entry_for_each() -> None:
    parents = (ParentRef(name="gw"), ParentRef(name="gx", section_name="none"), ParentRef(name="theirs"))
    route = tcp_route(backend(), parents=parents)
    theirs = gateway(listener(), name="theirs", class_name="other")
    world = await written(gateway(listener()), gateway(listener(), name="gx"), theirs, route, *WEB)
    found = (await world.status(route))["parents"]
    assert {one["parentRef"]["name"]: conditions(one)["Accepted"] for one in found} == {
        "gw": ACCEPTED,
        "gx": (NO, "NoMatchingParent"),
    }


@pytest.mark.parametrize("claimed", [FEATURES, FEATURES_WITH_POOLS])
async def test_a_class_has_the_features_by_name(claimed: tuple[str, ...]) -> None:
    world = World(features=claimed)
    await world.apply(gateway_class())
    async with world.leading():
        await world.settled()
    found = [one["name"] for one in (await world.status(gateway_class()))["supportedFeatures"]]
    assert found == sorted(claimed)
    assert ("GatewayAddressEmpty" in found) == (claimed is FEATURES_WITH_POOLS)


async def test_a_class_with_parameters() -> None:
    made = GatewayClass(
        metadata=ObjectMeta(name="odd", generation=2),
        spec=GatewayClassSpec(controller_name=CONTROLLER_NAME, parameters_ref=PARAMETERS),
    )
    status = await (await written(made)).status(made)
    assert conditions(status)["Accepted"] == (NO, "InvalidParameters")
    assert {one["observedGeneration"] for one in status["conditions"]} == {2}
