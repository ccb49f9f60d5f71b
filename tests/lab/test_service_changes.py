"""A Service that changes keeps its connections: what was opened goes on while its endpoint is there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from blixt_lab import manifests, wait_for
from blixt_lab.load import holding
from blixt_lab.manifests import Manifest
from blixt_lab.traffic import Held
from blixt_lab.world import KINDS, Space, World

pytestmark = pytest.mark.lab

NODE_PORTS = (33_080, 33_053)


def plain(space: Space, **spec: Any) -> dict[str, Any]:
    return {**manifests.service(space.name, space.inside, external=space.outside, **spec)}


def port(name: str, protocol: str, number: int, target: int | str, node_port: int = 0) -> dict[str, Any]:
    made: dict[str, Any] = {"protocol": protocol, "port": number, "targetPort": target}
    if name:
        made["name"] = name
    if node_port:
        made["nodePort"] = node_port
    return made


def to_node_port(space: Space) -> Manifest:
    tcp, udp = NODE_PORTS
    ports = [port("tcp", "TCP", 80, 8080, tcp), port("udp", "UDP", 53, 5353, udp)]
    return plain(space, type="NodePort", ports=ports)


def to_load_balancer(space: Space) -> Manifest:
    return manifests.service(space.name, space.inside, external=space.outside, balancers=space.beside)


def with_more_ports(space: Space) -> Manifest:
    made = plain(space)
    made["spec"]["ports"] = [
        port("extra", "TCP", 81, 8080),
        *made["spec"]["ports"],
        port("more", "UDP", 54, 5353),
    ]
    return made


def at_other_ports(space: Space) -> Manifest:
    return plain(space, tcp=8000, udp=5000)


def annotated(space: Space) -> Manifest:
    made = plain(space)
    made["metadata"]["annotations"] = {"example.com/note": "other"}
    made["metadata"]["labels"] = {"app": "other"}
    return made


def local(space: Space) -> Manifest:
    """Of its two endpoints one is not on the node that the client comes in by."""
    return plain(space, type="LoadBalancer", externalTrafficPolicy="Local", internalTrafficPolicy="Local")


def sticky(space: Space) -> Manifest:
    return plain(space, sessionAffinity="ClientIP")


def guarded(space: Space) -> Manifest:
    return manifests.service(
        space.name,
        space.inside,
        external=space.outside,
        balancers=space.beside,
        loadBalancerSourceRanges=["192.0.2.99/32", "2001:db8::99/128"],
    )


def without_an_address(space: Space) -> Manifest:
    """The address that its clients have connected to is another's, or nobody's, from now on."""
    return manifests.service(space.name, space.inside, external=space.beside)


CHANGES = [
    to_node_port,
    to_load_balancer,
    with_more_ports,
    at_other_ports,
    annotated,
    local,
    sticky,
    guarded,
    without_an_address,
]


@contextlib.contextmanager
def undisturbed(world: World, space: Space) -> Iterator[None]:
    """Connections from outside and from a pod, to endpoints of both nodes; none may be lost or move."""
    clients = (world.cluster.client, world.pod("1-2"))
    with contextlib.ExitStack() as stack:
        held: list[Held] = [
            stack.enter_context(holding(client, space.target(kind), 10, interval=0.1)).result
            for client in clients
            for kind in KINDS
        ]
        yield
        marks = [result.exchanges for result in held]
        wait_for(
            lambda: all(result.exchanges > mark + 20 for result, mark in zip(held, marks, strict=True)),
            "all of them to go on",
        )
    assert [loss for result in held for loss in result.lost] == []
    assert sum(result.moved for result in held) == 0
    assert [dict(result.missed) for result in held if result.missed] == []


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_connections_outlive_a_change_and_its_undoing(
    world: World, space: Space, change: Callable[[Space], Manifest]
) -> None:
    endpoints = manifests.slices(space.name, world.pods("1-1", "2-1"))
    space.apply(plain(space), *endpoints)
    with undisturbed(world, space):
        space.apply(change(space), *endpoints)
        space.apply(plain(space), *endpoints)
    assert set(space.outcomes(world.cluster.client).values()) <= {"1-1", "2-1"}


def test_connections_outlive_a_port_s_other_name(world: World, space: Space) -> None:
    """As where a second port makes names needful."""

    def put(tcp: str, udp: str) -> None:
        ports = [port(tcp, "TCP", 80, 8080), port(udp, "UDP", 53, 5353)]
        pieces = manifests.slices(space.name, world.pods("1-1", "2-1"))
        for piece in pieces:
            for entry, name in zip(piece["ports"], (tcp, udp), strict=True):
                entry["name"] = name
        space.apply(plain(space, ports=ports), *pieces)

    put("tcp", "udp")
    with undisturbed(world, space):
        put("web", "dns")
        put("tcp", "udp")


def test_connections_outlive_other_slices_with_the_same_endpoints(world: World, space: Space) -> None:
    pods = world.pods("1-1", "2-1")
    space.apply(plain(space), *manifests.slices(space.name, pods))
    with undisturbed(world, space):
        pieces = manifests.slices(space.name, pods)
        for piece in pieces:
            piece["metadata"]["name"] += "-anew"
        space.apply(plain(space), *pieces)
