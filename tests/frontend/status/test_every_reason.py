"""Every condition and reason that the Gateway API lists for what we do, from objects to what is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, get_args

import pytest

from blixt_frontend.objects import (
    CertificateRef,
    GatewayAddress,
    GatewayClass,
    Infrastructure,
    ListenerTLS,
    Object,
    ParametersRef,
    ParentRef,
    RouteGroupKind,
    RouteRule,
)
from blixt_frontend.translation.results import Reason
from blixt_objects import (
    backend,
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
from blixt_status import World


class Told(NamedTuple):
    """One condition, as it stands in a status."""

    of: str
    type: str
    status: str
    reason: str


@dataclass(frozen=True)
class Case:
    """Objects that bring a condition about. A class is there as well, if none of them is one."""

    objects: Sequence[Object]
    #: Whether each node that watches has applied everything.
    nodes: Mapping[str, bool]
    bundle: str
    unread: Mapping[str, str] | None


def case(
    *objects: Object,
    nodes: Mapping[str, bool] = MappingProxyType({"node-a": True}),
    bundle: str = "v1.6.1",
    unread: Mapping[str, str] | None = None,
) -> Case:
    return Case(objects, nodes, bundle, unread)


PARAMETERS = ParametersRef(group="x.io", kind="Config", name="c")
BAD_CLASS = gateway_class(parameters=PARAMETERS)
FOREIGN = CertificateRef(name="cert", namespace="other")
ODD_KINDS = lets_in("Same", kinds=(RouteGroupKind(kind="Odd"), RouteGroupKind(kind="TCPRoute")))
GOOD = gateway(listener())
ODD = listener("odd", 81, "x.io/quic")
CERTIFIED = case(gateway(https()), tls_secret())
UNREAD = {"Secret": "Forbidden"}
UDP_ONLY = service("api", port(80, protocol="UDP"))

CASES: Mapping[Told, Case] = {
    Told("GatewayClass", "Accepted", "True", "Accepted"): case(),
    Told("GatewayClass", "Accepted", "False", "InvalidParameters"): case(BAD_CLASS),
    Told("GatewayClass", "SupportedVersion", "True", "SupportedVersion"): case(),
    Told("GatewayClass", "SupportedVersion", "False", "UnsupportedVersion"): case(bundle="v9.0.0"),
    Told("Gateway", "Accepted", "True", "Accepted"): case(GOOD),
    Told("Gateway", "Accepted", "True", "ListenersNotValid"): case(gateway(listener(), ODD)),
    Told("Gateway", "Accepted", "False", "ListenersNotValid"): case(gateway(ODD)),
    Told("Gateway", "Accepted", "False", "Invalid"): case(gateway()),
    Told("Gateway", "Accepted", "False", "InvalidParameters"): case(
        gateway(listener(), infrastructure=Infrastructure(parameters_ref=PARAMETERS))
    ),
    Told("Gateway", "Accepted", "False", "UnsupportedAddress"): case(
        gateway(listener(), addresses=(GatewayAddress(type="Hostname", value="lb.example"),))
    ),
    Told("Gateway", "Accepted", "Unknown", "Pending"): case(BAD_CLASS, GOOD),
    Told("Gateway", "Programmed", "True", "Programmed"): case(GOOD),
    Told("Gateway", "Programmed", "False", "Invalid"): case(gateway()),
    Told("Gateway", "Programmed", "False", "Pending"): case(GOOD, nodes={"node-a": False}),
    Told("Gateway", "Programmed", "False", "NoResources"): case(GOOD, nodes={}),
    Told("Gateway", "Programmed", "False", "AddressNotAssigned"): case(gateway(listener(), addresses=())),
    Told("Gateway", "Programmed", "False", "AddressNotUsable"): case(
        gateway(listener(), addresses=(GatewayAddress(value="nowhere"),))
    ),
    Told("Gateway", "Programmed", "Unknown", "Pending"): case(BAD_CLASS, GOOD),
    Told("Listener", "Accepted", "True", "Accepted"): case(GOOD),
    Told("Listener", "Accepted", "False", "PortUnavailable"): case(gateway(listener("a"), listener("b"))),
    Told("Listener", "Accepted", "False", "UnsupportedProtocol"): case(gateway(ODD)),
    Told("Listener", "Accepted", "False", "UnsupportedValue"): case(
        gateway(https(tls=ListenerTLS(mode="Passthrough")))
    ),
    Told("Listener", "Accepted", "Unknown", "Pending"): case(BAD_CLASS, GOOD),
    Told("Listener", "Programmed", "True", "Programmed"): CERTIFIED,
    Told("Listener", "Programmed", "False", "Invalid"): case(gateway(ODD)),
    Told("Listener", "Programmed", "False", "Pending"): case(gateway(listener(), addresses=())),
    Told("Listener", "Programmed", "Unknown", "Pending"): case(BAD_CLASS, GOOD),
    Told("Listener", "ResolvedRefs", "True", "ResolvedRefs"): CERTIFIED,
    Told("Listener", "ResolvedRefs", "False", "InvalidCertificateRef"): case(gateway(https())),
    Told("Listener", "ResolvedRefs", "False", "InvalidRouteKinds"): case(
        gateway(listener(allowed_routes=ODD_KINDS))
    ),
    Told("Listener", "ResolvedRefs", "False", "RefNotPermitted"): case(
        gateway(https("https", 443, FOREIGN)), tls_secret(namespace="other")
    ),
    Told("Listener", "ResolvedRefs", "Unknown", "Pending"): case(gateway(https()), unread=UNREAD),
    Told("Listener", "Conflicted", "True", "ProtocolConflict"): case(
        gateway(listener("a"), listener("b", 80, "HTTP"))
    ),
    Told("Listener", "Conflicted", "True", "HostnameConflict"): case(
        gateway(listener("a", 80, "HTTP"), listener("b", 80, "HTTP"))
    ),
    Told("Listener", "OverlappingTLSConfig", "True", "OverlappingHostnames"): case(
        gateway(https("a", hostname="*.example.org"), https("b", hostname="a.example.org")), tls_secret()
    ),
    Told("Route", "Accepted", "True", "Accepted"): case(GOOD, tcp_route(backend())),
    Told("Route", "Accepted", "False", "NotAllowedByListeners"): case(GOOD, udp_route(backend())),
    Told("Route", "Accepted", "False", "NoMatchingParent"): case(
        GOOD, tcp_route(backend(), parents=(ParentRef(name="gw", section_name="none"),))
    ),
    Told("Route", "Accepted", "False", "UnsupportedValue"): case(GOOD, tcp_route(rules=())),
    Told("Route", "Accepted", "Unknown", "Pending"): case(BAD_CLASS, GOOD, tcp_route(backend())),
    Told("Route", "ResolvedRefs", "True", "ResolvedRefs"): case(GOOD, tcp_route(backend()), service()),
    Told("Route", "ResolvedRefs", "False", "RefNotPermitted"): case(
        GOOD, tcp_route(backend(namespace="other"))
    ),
    Told("Route", "ResolvedRefs", "False", "InvalidKind"): case(
        GOOD, tcp_route(backend(kind="Bucket", group="x.io"))
    ),
    Told("Route", "ResolvedRefs", "False", "BackendNotFound"): case(GOOD, tcp_route(backend("gone"))),
    Told("Route", "ResolvedRefs", "False", "UnsupportedProtocol"): case(
        GOOD, tcp_route(backend("api")), UDP_ONLY
    ),
    Told("Route", "PartiallyInvalid", "True", "UnsupportedValue"): case(
        GOOD, tcp_route(rules=(RouteRule(backend_refs=(backend(),)), RouteRule())), service()
    ),
}

#: As the specification (v1.6) has them: by "object condition", each reason with its status or statuses.
LISTED: Mapping[str, Mapping[str, Sequence[str]]] = {
    "GatewayClass Accepted": {"Accepted": ["True"], "InvalidParameters": ["False"]},
    "GatewayClass SupportedVersion": {"SupportedVersion": ["True"], "UnsupportedVersion": ["False"]},
    "Gateway Accepted": {
        "Accepted": ["True"],
        "ListenersNotValid": ["True", "False"],
        "Invalid": ["False"],
        "InvalidParameters": ["False"],
        "UnsupportedAddress": ["False"],
        "Pending": ["Unknown"],
    },
    "Gateway Programmed": {
        "Programmed": ["True"],
        "Invalid": ["False"],
        "Pending": ["False", "Unknown"],
        "NoResources": ["False"],
        "AddressNotAssigned": ["False"],
        "AddressNotUsable": ["False"],
    },
    "Listener Accepted": {
        "Accepted": ["True"],
        "PortUnavailable": ["False"],
        "UnsupportedProtocol": ["False"],
        "UnsupportedValue": ["False"],
        "Pending": ["Unknown"],
    },
    "Listener Programmed": {"Programmed": ["True"], "Invalid": ["False"], "Pending": ["False", "Unknown"]},
    "Listener ResolvedRefs": {
        "ResolvedRefs": ["True"],
        "InvalidCertificateRef": ["False"],
        "InvalidRouteKinds": ["False"],
        "RefNotPermitted": ["False"],
    },
    "Listener Conflicted": {"HostnameConflict": ["True"], "ProtocolConflict": ["True"]},
    "Listener OverlappingTLSConfig": {"OverlappingHostnames": ["True"]},
    "Route Accepted": {
        "Accepted": ["True"],
        "NotAllowedByListeners": ["False"],
        "NoMatchingParent": ["False"],
        "UnsupportedValue": ["False"],
        "Pending": ["Unknown"],
    },
    "Route ResolvedRefs": {
        "ResolvedRefs": ["True"],
        "RefNotPermitted": ["False"],
        "InvalidKind": ["False"],
        "BackendNotFound": ["False"],
        "UnsupportedProtocol": ["False"],
    },
    "Route PartiallyInvalid": {"UnsupportedValue": ["True"]},
}
#: What we say besides, which the specification leaves open.
OURS = {Told("Listener", "ResolvedRefs", "Unknown", "Pending")}


def test_none_is_missing() -> None:
    listed = {
        Told(of, type_, status, reason)
        for place, reasons in LISTED.items()
        for of, type_ in [place.split()]
        for reason, statuses in reasons.items()
        for status in statuses
    }
    assert set(CASES) == listed | OURS
    assert {told.reason for told in CASES} == set(get_args(Reason)), "a reason that nothing brings about"


@pytest.mark.parametrize(("told", "made"), CASES.items(), ids=[" ".join(told) for told in CASES])
async def test_it_is_written(told: Told, made: Case) -> None:
    world = World()
    world.install(made.bundle)
    world.unread = made.unread
    classes = () if any(isinstance(one, GatewayClass) for one in made.objects) else (gateway_class(),)
    objects = (*classes, *made.objects)
    await world.apply(*objects)
    for node, has_applied in made.nodes.items():
        world.nodes.applied(world.revision if has_applied else 0, node)
    async with world.leading():
        await world.settled()
    found = [condition for one in objects for condition in await conditions_of(world, one)]
    assert told in found
    assert set(found) <= set(CASES)


async def conditions_of(world: World, obj: Object) -> list[Told]:
    """Of an object whose status is ours."""
    if await world.path(obj.key) is None:
        return []
    status = await world.status(obj)
    places = {
        obj.kind: [status],
        "Listener": status.get("listeners", []),
        "Route": status.get("parents", []),
    }
    return [
        Told(of, one["type"], one["status"], one["reason"])
        for of, entries in places.items()
        for entry in entries
        for one in entry.get("conditions", [])
    ]
