"""Faults of the control plane: traffic never stops, and status converges once it can.

Each test has a shop of its own, and traffic all the time: TCP connections and UDP flows that are held open
and asked again and again, and new ones at a steady rate; over IPv4 and IPv6, by a Gateway, a Service's load
balancer addresses and its cluster IPs. None may be lost, refused or left unanswered. A change then shows that
Blixt follows again, in traffic and in status: a pod and a listener more, and another weight. The table at the
end of the run has the figures; its seconds count from the fault's end until that change carried traffic, and
until status told of it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import pytest

from blixt_control_plane import STANDARD, Component
from blixt_lab import wait_for
from blixt_lab.daemon import Daemon
from blixt_lab.relay import Manner, Relay
from blixt_real import Clock, Figures, RealCluster, Shop, await_growth, grow, open_shop, undisturbed
from blixt_real.growth import carried, streams, streams_of_services
from blixt_real.shop import Json, gateway, routes, service
from blixt_real.stream import Stream

pytestmark = pytest.mark.lab


@pytest.fixture
def shop(shop: Shop) -> Shop:
    open_shop(shop)
    return shop


class Since:
    """What daemons write into their logs from now on."""

    def __init__(self, daemons: list[Daemon]) -> None:
        self._marks = {daemon.log: len(daemon.log.read_bytes()) for daemon in daemons}

    def all_say(self, text: str) -> bool:
        return all(text in log.read_bytes()[mark:].decode() for log, mark in self._marks.items())


# --- the API server and what is behind it ---


@contextlib.contextmanager
def killed(server: Component) -> Iterator[None]:
    """Without that server; afterwards it is there again, and ready."""
    server.kill9()
    try:
        yield
    finally:
        server.start()


def test_the_api_server_is_killed_and_comes_back(real: RealCluster, shop: Shop, figures: Figures) -> None:
    """The controllers with it: they would need up to half a minute to find it again. Their start counts."""
    plane = real.plane
    with undisturbed(streams(shop), figures) as load:
        with killed(plane.controller_manager):
            with killed(plane.api_server):
                load.go_on()
            clock = Clock()
        grow(shop)
        await_growth(shop, clock, figures)


def test_etcd_is_killed_and_comes_back(real: RealCluster, shop: Shop, figures: Figures) -> None:
    plane = real.plane
    with undisturbed(streams(shop), figures) as load:
        with killed(plane.etcd_server):
            load.go_on()
        plane.api_server.wait_ready()
        clock = Clock()
        grow(shop)
        await_growth(shop, clock, figures)


def test_history_is_compacted_while_the_frontends_stand_still(
    real: RealCluster, shop: Shop, figures: Figures
) -> None:
    """410 Gone: what nobody can tell them any more, deletions as well, is found by listing anew."""
    frontends = list(real.frontends.daemons.values())
    shop.apply(service("side", "side"))
    shop.run("side", "1-2")
    shop.await_answers({"1-2"}, *shop.inside("side"))
    with undisturbed(streams(shop), figures) as load:
        since = Since(frontends)
        for frontend in frontends:
            frontend.pause()
        try:
            shop.remove("side", "1-2")
            shop.run("side", "2-1")
            grow(shop)
            load.go_on()
            assert not carried(shop)
            with killed(real.plane.controller_manager):
                real.plane.expire_resource_versions()
        finally:
            for frontend in frontends:
                frontend.resume()
        clock = Clock()
        await_growth(shop, clock, figures)
        shop.await_answers({"2-1"}, *shop.inside("side"))
        wait_for(lambda: since.all_say("(410 Expired); listing anew"), "both to list anew", 60)


# --- the frontends ---


@pytest.mark.parametrize("way", ["killed", "told-to-end"])
def test_the_leader_goes_and_the_other_frontend_takes_over(
    real: RealCluster, shop: Shop, figures: Figures, way: str
) -> None:
    """A killed one's lease must expire; one that is told to end gives it up."""
    leader = real.frontends.await_leader()
    frontend = real.frontends.daemons[leader]
    with undisturbed(streams(shop), figures) as load:
        if way == "killed":
            frontend.kill9()
        else:
            assert frontend.terminate() == 0
        clock = Clock()
        try:
            grow(shop)
            await_growth(shop, clock, figures)
            assert real.frontends.await_leader() != leader
        finally:
            frontend.start()
        load.go_on()


def test_both_frontends_are_killed_and_for_a_while_there_is_none(
    real: RealCluster, shop: Shop, figures: Figures
) -> None:
    """What was changed meanwhile is made up for. Status waits until the dead leader's lease has expired."""
    with undisturbed(streams(shop), figures) as load:
        for frontend in real.frontends.daemons.values():
            frontend.kill9()
        try:
            grow(shop)
            load.go_on()
            assert not carried(shop)
        finally:
            real.frontends.start()
        clock = Clock()
        await_growth(shop, clock, figures)


# --- what is in the API ---


def test_the_gateway_apis_definitions_are_deleted_and_come_back(
    real: RealCluster, shop: Shop, figures: Figures
) -> None:
    """Gateways and routes are gone with them, and so is their traffic: nobody wants it any more. Services'
    traffic goes on, and is followed. Once all is there again, the Gateway's traffic is back by itself."""
    with undisturbed(streams_of_services(shop), figures):
        before = shop.gateway()
        real.plane.uninstall(STANDARD)
        try:
            shop.await_silence(*before)
            shop.run("web", "1-2")
            shop.await_answers({"1-1", "2-1", "1-2"}, *shop.balancer(), *shop.inside())
        finally:
            real.install()
        shop.apply(gateway("edge"), *routes("edge", web=1))
        clock = Clock()
        shop.wait("gateway/edge", "condition=Programmed")
        shop.await_answers({"1-1", "2-1", "1-2"}, *shop.gateway())
        grow(shop)
        await_growth(shop, clock, figures)


def handmade(shop: Shop, port: int, *pods: str) -> Json:
    """A slice that no controller made."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "handmade", "labels": {"kubernetes.io/service-name": "handmade"}},
        "addressType": "IPv4",
        "ports": [{"name": "tcp", "protocol": "TCP", "port": port}],
        "endpoints": [{"addresses": [shop.pod(pod).address4]} for pod in pods],
    }


def test_a_slice_that_the_api_server_takes_and_no_one_can_use(
    real: RealCluster, shop: Shop, figures: Figures
) -> None:
    """A slice's port may be any number. Its last good version stays in force, and all else is followed."""
    selecting_nothing = service("handmade", "")
    del selecting_nothing["spec"]["selector"]
    shop.apply(selecting_nothing, handmade(shop, 8080, "1-2"))
    (target, *_) = shop.inside("handmade")
    shop.await_answers({"1-2"}, target)
    with undisturbed([*streams(shop), Stream(real.lab.client, target)], figures) as load:
        since = Since(list(real.frontends.daemons.values()))
        shop.apply(handmade(shop, 70000, "2-1"))
        wait_for(lambda: since.all_say("its last good version stays in force"), "both to report the slice")
        load.go_on()
        clock = Clock()
        grow(shop)
        await_growth(shop, clock, figures)
        shop.apply(handmade(shop, 8080, "1-2", "2-1"))
        shop.await_answers({"1-2", "2-1"}, target)


def test_a_route_that_makes_no_sense_gets_past_definitions_without_a_schema(
    real: RealCluster, shop: Shop, figures: Figures
) -> None:
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    patch = [
        {"op": "replace", "path": f"/spec/versions/{number}/schema/openAPIV3Schema", "value": anything}
        for number in range(2)
    ]
    with undisturbed(streams(shop), figures) as load:
        since = Since(list(real.frontends.daemons.values()))
        definition = "crd/tcproutes.gateway.networking.k8s.io"
        real.plane.kubectl("patch", definition, "--type=json", f"--patch={json.dumps(patch)}")
        try:
            nonsense = '--patch={"spec": {"rules": "to the left, please"}}'

            def taken() -> bool:
                shop.kubectl("patch", "tcproute/edge", "--type=merge", nonsense)
                return since.all_say("its last good version stays in force")

            wait_for(taken, "both to report the route", interval=0.5)
            load.go_on()
        finally:
            real.install()
        route, _ = routes("edge", web=1)
        shop.kubectl("patch", "tcproute/edge", "--type=merge", f"--patch={json.dumps(route)}")
        clock = Clock()
        grow(shop)
        await_growth(shop, clock, figures)


# --- the way between them ---


@pytest.fixture(scope="module")
def relay(real: RealCluster) -> Iterator[Relay]:
    """Between the API server and both frontends from now on."""
    made = real.relay_to_api_server()
    real.frontends.redirect(made.listen)
    yield made
    real.frontends.restore()


@pytest.mark.parametrize("manner", [Manner.STALL, Manner.DRIBBLE], ids=["hang", "dribble"])
def test_connections_to_the_api_server_go_bad_and_stay_open(
    real: RealCluster, relay: Relay, shop: Shop, figures: Figures, manner: Manner
) -> None:
    """As by a load balancer that has forgotten them: only new ones are well, and nobody says so.

    It never ends by itself: seconds count from its beginning. The frontends are impatient ones.
    """
    with undisturbed(streams(shop), figures) as load:
        taken = relay.taken
        assert relay.spoil(manner) > 10
        clock = Clock()
        grow(shop)
        load.go_on()
        await_growth(shop, clock, figures)
        assert relay.taken > taken + 10


# --- what all of this is worth ---


def test_a_pod_that_dies_would_be_noticed(real: RealCluster, shop: Shop) -> None:
    """Its connections are lost, and new ones to it fail until the API knows: what no fault may cause."""
    figures = Figures()

    def let_it_die() -> None:
        server = real.servers["pod-1-1"]
        with undisturbed(streams(shop), figures) as load:
            server.kill()
            load.go_on(1)
            server.start()
            server.wait_ready()

    with pytest.raises(AssertionError, match="lost Loss"):
        let_it_die()
    assert figures.lost > 0
    assert figures.failed > 0
    assert figures.unanswered > 0
