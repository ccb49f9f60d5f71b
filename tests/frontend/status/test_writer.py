"""What reaches the API server: no more and no less than what changed, whatever fails, and only in a term."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from blixt_fake_api import Request
from blixt_fakes.until import until
from blixt_frontend.kubernetes.client import ApiError
from blixt_frontend.objects import Gateway, GatewayAddress, TCPRoute, UDPRoute
from blixt_frontend.source import NOT_YET
from blixt_frontend.status import LostLeaseError, Term
from blixt_frontend.status.objects import Objects
from blixt_frontend.status.writer import GATEWAY_EXISTS_FINALIZER
from blixt_frontend.translation.options import CONTROLLER_NAME
from blixt_objects import (
    backend,
    endpoint,
    endpoint_slice,
    gateway,
    gateway_class,
    https,
    listener,
    service,
    tcp_route,
    tls_secret,
)
from blixt_status import LATEST, World, conditions

GC = gateway_class()
GW = gateway(listener())
ROUTE = tcp_route(backend())
WEB = (service(), endpoint_slice(endpoint("10.0.0.1", "web-0")))
GATEWAY_PATH = "/apis/gateway.networking.k8s.io/v1/namespaces/default/gateways/gw"
ROUTE_PATH = "/apis/gateway.networking.k8s.io/v1/namespaces/default/tcproutes/route"


def regenerated(obj: Gateway, generation: int) -> Gateway:
    metadata = msgspec.structs.replace(obj.metadata, generation=generation)
    return msgspec.structs.replace(obj, metadata=metadata)


@pytest.fixture
def world() -> World:
    return World()


async def everything(world: World) -> None:
    """A class, a Gateway, a route and its Service, that one node has applied."""
    await world.apply(GC, GW, ROUTE, *WEB)
    world.nodes.applied(world.revision, "node-a")


async def test_everything_gets_its_status(world: World) -> None:
    await everything(world)
    async with world.leading():
        await world.settled()
    of_class = await world.stored(GC)
    assert conditions(of_class["status"]) == {
        "Accepted": ("True", "Accepted"),
        "SupportedVersion": ("True", "SupportedVersion"),
    }
    features = [feature["name"] for feature in of_class["status"]["supportedFeatures"]]
    assert features == sorted(features)
    assert {"Gateway", "TCPRoute", "UDPRoute"} <= set(features)
    assert of_class["metadata"]["finalizers"] == [GATEWAY_EXISTS_FINALIZER]
    status = await world.status(GW)
    assert conditions(status) == {"Accepted": ("True", "Accepted"), "Programmed": ("True", "Programmed")}
    assert status["addresses"] == [{"type": "IPAddress", "value": "192.0.2.1"}]
    assert status["listeners"][0]["attachedRoutes"] == 1
    (parent,) = (await world.status(ROUTE))["parents"]
    assert conditions(parent) == {
        "Accepted": ("True", "Accepted"),
        "ResolvedRefs": ("True", "ResolvedRefs"),
    }


async def test_one_write_each_and_then_none(world: World) -> None:
    await everything(world)
    async with world.leading():
        await world.settled()
        assert sorted(request.path for request in world.api.writes) == [
            "/apis/gateway.networking.k8s.io/v1/gatewayclasses/blixt",
            "/apis/gateway.networking.k8s.io/v1/gatewayclasses/blixt/status",
            f"{GATEWAY_PATH}/status",
            f"{ROUTE_PATH}/status",
        ]
        world.api.requests.clear()
        for address in ("10.0.0.2", "10.0.0.3"):
            await world.apply(endpoint_slice(endpoint(address, "web-0")))
        await world.apply(GC, GW, ROUTE, *WEB)
        await world.settled()
        assert world.api.requests == []


async def test_certificates_are_told_of_once_they_are_known(world: World) -> None:
    """Nobody is told that a Secret is missing which was just not listed yet."""
    made = gateway(https())
    world.unread = {"Secret": NOT_YET}
    await world.apply(GC, made)
    world.nodes.applied(world.revision, "node-a")
    async with world.leading():
        await world.settled()
        assert world.api.writes == []
        world.unread = {}
        await world.apply(tls_secret())
        await world.settled()
        (listener_status,) = (await world.status(made))["listeners"]
        assert conditions(listener_status)["ResolvedRefs"] == ("True", "ResolvedRefs")
        assert sum(request.path.endswith("gateways/gw/status") for request in world.api.writes) == 1


async def test_certificates_that_can_not_be_read_hold_nothing_up(world: World) -> None:
    made = gateway(https(), listener())
    world.unread = {"Secret": "Forbidden"}
    await world.apply(GC, made)
    world.nodes.applied(world.revision, "node-a")
    async with world.leading():
        await world.settled()
        status = await world.status(made)
        assert conditions(status) == {"Accepted": ("True", "Accepted"), "Programmed": ("True", "Programmed")}
        assert conditions(status["listeners"][0])["ResolvedRefs"] == ("Unknown", "Pending")
        world.unread = {}
        await world.apply(gone=[tls_secret().key])
        await world.settled()
    assert (
        conditions((await world.status(made))["listeners"][0])["ResolvedRefs"][1] == "InvalidCertificateRef"
    )


async def test_the_next_term_finds_nothing_to_write(world: World) -> None:
    await everything(world)
    async with world.leading():
        await world.settled()
    world.api.requests.clear()
    async with world.leading():
        await world.settled()
    assert world.api.writes == []
    assert len(world.api.requests) < 12  # lists and definitions, no look at each object


async def test_a_follower_reads_and_writes_nothing(world: World) -> None:
    await everything(world)
    await world.settled()
    assert world.api.requests == []


async def test_programmed_waits_for_every_node_and_is_written_once_they_have_it(world: World) -> None:
    await world.apply(GC, GW)
    world.nodes.applied(world.revision, "node-a")
    world.nodes.applied(0, "node-b")
    async with world.leading():
        await world.settled()
        assert conditions(await world.status(GW))["Programmed"] == ("False", "Pending")
        writes = len(world.api.writes)
        world.nodes.applied(world.revision, "node-b")
        await world.settled()
        assert conditions(await world.status(GW))["Programmed"] == ("True", "Programmed")
        assert len(world.api.writes) == writes + 1


async def test_without_any_node_there_is_nothing_to_program(world: World) -> None:
    await world.apply(GC, GW)
    async with world.leading():
        await world.settled()
        assert conditions(await world.status(GW))["Programmed"] == ("False", "NoResources")
        world.nodes.streams["node-a"] = 1
        await world.settled()
        assert conditions(await world.status(GW))["Programmed"] == ("False", "Pending")


async def test_a_node_that_comes_later_or_goes_changes_nothing(world: World) -> None:
    await everything(world)
    async with world.leading():
        await world.settled()
        world.api.requests.clear()
        world.nodes.applied(0, "late")
        await world.apply(endpoint_slice(endpoint("10.0.0.9", "web-0")))
        await world.settled()
        world.nodes.streams.clear()
        await world.settled()
        assert world.api.requests == []


async def test_another_frontend_takes_over_what_is_programmed(world: World) -> None:
    """Its revisions are others, and no node watches it yet."""
    await everything(world)
    async with world.leading():
        await world.settled()
    other = World(api=world.api)
    other.observe(GC, GW, ROUTE, *WEB)
    world.api.requests.clear()
    async with other.leading():
        await other.settled()
    assert world.api.writes == []


async def test_a_new_generation_is_programmed_anew(world: World) -> None:
    await everything(world)
    async with world.leading():
        await world.settled()
        changed = regenerated(gateway(listener(), listener("more", 81)), 4)
        await world.apply(changed)
        await world.settled()
        status = await world.status(GW)
        assert conditions(status)["Programmed"] == ("False", "Pending")
        assert [one["name"] for one in status["listeners"]] == ["tcp", "more"]
        world.nodes.applied(world.revision, "node-a")
        await world.settled()
        status = await world.status(GW)
        assert conditions(status)["Programmed"] == ("True", "Programmed")
        assert {condition["observedGeneration"] for condition in status["conditions"]} == {4}


class TestFaults:
    async def test_a_conflict_is_made_anew_from_what_is_there(self, world: World) -> None:
        await everything(world)
        met: list[Request] = []

        def meddle(request: Request) -> ApiError | None:
            if request.path == f"{GATEWAY_PATH}/status" and not met:
                met.append(request)
                obj = world.api.objects[GATEWAY_PATH]
                world.api.put(GATEWAY_PATH, obj | {"status": {"conditions": [{"type": "x.io/Theirs"}]}})
            return None

        world.api.fault = meddle
        async with world.leading():
            await world.settled()
        assert set(conditions_types(await world.status(GW))) == {"x.io/Theirs", "Accepted", "Programmed"}

    @pytest.mark.parametrize("status", [0, 429, 500, 503, 403, 422])
    async def test_failures_are_tried_again(self, world: World, status: int) -> None:
        await everything(world)
        failures = iter(range(12))
        world.api.fault = lambda request: (
            ApiError(status, "Odd", "no") if next(failures, None) is not None else None
        )
        async with world.leading():
            await until(lambda: next(failures, None) is None)
            await world.settled()
        assert conditions(await world.status(GW))["Programmed"] == ("True", "Programmed")
        assert (await world.status(ROUTE))["parents"]

    async def test_one_object_that_fails_keeps_no_other(self, world: World) -> None:
        await everything(world)
        world.api.fault = lambda request: (
            ApiError(422, "Invalid", "no") if request.path == f"{GATEWAY_PATH}/status" else None
        )
        async with world.leading():
            await until(lambda: bool(world.api.objects[ROUTE_PATH]["status"]))

    async def test_what_is_deleted_meanwhile_is_left(self, world: World) -> None:
        await everything(world)
        del world.api.objects[ROUTE_PATH]
        async with world.leading():
            await world.settled()
            await world.apply(gone=[ROUTE.key])
            await world.settled()
        assert ROUTE_PATH not in world.api.objects
        assert conditions(await world.status(GW))["Programmed"] == ("True", "Programmed")

    async def test_a_write_whose_answer_is_lost_is_not_repeated(self, world: World) -> None:
        await everything(world)
        lost = iter([ApiError(0, "Unreachable", "reset")])
        world.api.lost = lambda request: (
            next(lost, None) if request.path == f"{GATEWAY_PATH}/status" else None
        )
        async with world.leading():
            await world.settled()
        assert [request.path for request in world.api.writes].count(f"{GATEWAY_PATH}/status") == 1

    async def test_a_kind_whose_version_changes_is_found_again(self) -> None:
        world = World({kind: kind.versions[-1] for kind in LATEST})
        await world.apply(GC, GW, ROUTE, *WEB)
        async with world.leading():
            await world.settled()
            world.served = dict(LATEST)
            for path in [path for path in world.api.objects if "/v1alpha2/" in path or "/v1beta1/" in path]:
                world.api.objects[path.replace("v1alpha2", "v1").replace("v1beta1", "v1")] = (
                    world.api.objects.pop(path)
                )
            world.nodes.applied(world.revision, "node-a")
            await world.settled()
        assert conditions(world.api.objects[GATEWAY_PATH]["status"])["Programmed"] == ("True", "Programmed")

    async def test_a_kind_that_may_not_be_listed_keeps_no_other(self, world: World) -> None:
        await everything(world)
        world.api.fault = lambda request: (
            ApiError(403, "Forbidden", "no") if request.path.endswith("/udproutes") else None
        )
        async with world.leading():
            await until(lambda: bool(world.api.objects[ROUTE_PATH]["status"]))

    async def test_what_cannot_be_merged_keeps_no_other(self, world: World) -> None:
        await everything(world)
        odd = {"parents": [{"controllerName": CONTROLLER_NAME, "parentRef": "odd"}]}
        world.api.put(ROUTE_PATH, world.api.objects[ROUTE_PATH] | {"status": odd})
        async with world.leading():
            await until(lambda: "conditions" in world.api.objects[GATEWAY_PATH]["status"])


class TestTheLease:
    @pytest.mark.parametrize("held", ["GET", "PATCH"])
    async def test_no_write_after_it_is_lost_in_mid_flight(self, world: World, held: str) -> None:
        """A request is under way when the lease is lost: a read leads to no write, a write to no other."""
        await everything(world)
        more = tcp_route(backend(), name="more")
        gate = asyncio.Event()
        async with world.leading():
            await world.settled()
            world.api.requests.clear()
            world.api.gate = lambda request: gate if request.method == held else None
            await world.apply(more)
            await until(lambda: any(request.method == held for request in world.api.requests))
        under_way = len(world.api.writes)
        gate.set()
        await world.settled()
        assert len(world.api.writes) == under_way
        assert await world.status(more) == {}

    async def test_no_write_after_its_end_even_if_nobody_has_noticed_yet(self, world: World) -> None:
        await everything(world)
        term = Term(asyncio.get_running_loop().time() - 1)
        with pytest.raises(LostLeaseError):
            await world.reporter.lead(term)
        assert world.api.writes == []
        assert world.api.requests

    async def test_every_write_asks_for_it(self, world: World) -> None:
        objects = Objects(world.api, Term(asyncio.get_running_loop().time() - 1))
        await world.apply(GC)
        path = await world.path(GC.key)
        assert path is not None
        stored = await objects.get(path)
        with pytest.raises(LostLeaseError):
            await objects.write_status(path, stored, {})
        with pytest.raises(LostLeaseError):
            await objects.write_finalizers(path, stored, ())


class TestOthers:
    async def test_what_others_did_to_ours_is_put_right(self, world: World) -> None:
        await everything(world)
        async with world.leading():
            await world.settled()
            obj = world.api.put(GATEWAY_PATH, world.api.objects[GATEWAY_PATH] | {"status": {}})
            world.reporter.seen(GW.key, obj["metadata"]["resourceVersion"])
            await world.settled()
            assert conditions(await world.status(GW))["Programmed"] == ("True", "Programmed")

    async def test_word_of_our_own_writes_costs_nothing(self, world: World) -> None:
        await everything(world)
        async with world.leading():
            await world.settled()
            world.api.requests.clear()
            for path, key in ((GATEWAY_PATH, GW.key), (ROUTE_PATH, ROUTE.key)):
                version = int(world.api.objects[path]["metadata"]["resourceVersion"])
                world.reporter.seen(key, str(version - 1))
                world.reporter.seen(key, str(version))
            await world.settled()
            assert world.api.requests == []

    async def test_what_a_definition_does_not_take_is_not_written_again_and_again(self, world: World) -> None:
        await everything(world)
        world.api.prune = lambda obj: obj.get("status", {}).pop("supportedFeatures", None)
        async with world.leading():
            await world.settled()
            world.api.requests.clear()
            await world.apply(GC)
            await world.settled()
        assert world.api.writes == []


class TestWhatIsGone:
    async def test_entries_from_earlier_terms_go(self, world: World) -> None:
        """The Gateway went while nobody wrote."""
        await everything(world)
        async with world.leading():
            await world.settled()
        await world.apply(gone=[GW.key])
        async with world.leading():
            await world.settled()
        assert (await world.status(ROUTE))["parents"] == []

    async def test_a_gateway_that_goes_takes_its_entries_along(self, world: World) -> None:
        await everything(world)
        async with world.leading():
            await world.settled()
            await world.apply(gone=[GW.key])
            await world.settled()
            assert (await world.status(ROUTE))["parents"] == []
            assert (await world.stored(GC))["metadata"]["finalizers"] == []

    async def test_a_gateway_of_another_class_is_left_as_it_is(self, world: World) -> None:
        await everything(world)
        async with world.leading():
            await world.settled()
            before = await world.status(GW)
            await world.apply(gateway(listener(), class_name="other"))
            await world.settled()
            assert await world.status(GW) == before
            assert (await world.status(ROUTE))["parents"] == []

    async def test_one_of_the_same_name_is_another_object(self, world: World) -> None:
        await everything(world)

        def reborn(uid: str) -> TCPRoute | UDPRoute:
            metadata = msgspec.structs.replace(ROUTE.metadata, uid=uid)
            return msgspec.structs.replace(ROUTE, metadata=metadata)

        async with world.leading():
            await world.apply(reborn("a"))
            await world.settled()
            del world.api.objects[ROUTE_PATH]
            await world.apply(reborn("b"))
            await world.settled()
            assert len((await world.status(ROUTE))["parents"]) == 1

    async def test_nothing_is_written_of_what_is_not_ours(self, world: World) -> None:
        await world.apply(gateway_class("x", "example.org/x"), gateway(listener(), class_name="x"), ROUTE)
        async with world.leading():
            await world.settled()
        assert world.api.writes == []


class TestDefinitions:
    @pytest.mark.parametrize(
        ("version", "condition"),
        [
            ("v1.6.1", ("True", "SupportedVersion")),
            ("v1.5.0", ("True", "SupportedVersion")),
            ("v1.6.0-rc.1", ("True", "SupportedVersion")),
            ("v1.0.0", ("False", "UnsupportedVersion")),
            ("v1.99.0", ("False", "UnsupportedVersion")),
            ("v2.0.0", ("False", "UnsupportedVersion")),
            ("odd", ("False", "UnsupportedVersion")),
            (None, ("False", "UnsupportedVersion")),
        ],
    )
    async def test_versions(self, world: World, version: str | None, condition: tuple[str, str]) -> None:
        world.install(version)
        await world.apply(GC)
        async with world.leading():
            await world.settled()
        status = await world.status(GC)
        assert conditions(status) == {"Accepted": ("True", "Accepted"), "SupportedVersion": condition}

    async def test_they_may_come_after_the_term_has_begun(self, world: World) -> None:
        for path in [path for path in world.api.objects if "customresourcedefinitions" in path]:
            del world.api.objects[path]
        world.served.clear()
        await world.apply()
        async with world.leading():
            await world.settled()
            world.install("v1.6.1")
            world.served.update(LATEST)
            await world.apply(GC, GW)
            await world.settled()
        assert conditions(await world.status(GC))["SupportedVersion"] == ("True", "SupportedVersion")
        assert conditions(await world.status(GW))["Accepted"] == ("True", "Accepted")

    async def test_an_upgrade_is_seen(self, world: World) -> None:
        world.install("v1.0.0")
        await world.apply(GC)
        async with world.leading():
            await world.settled()
            world.install("v1.6.1")
            world.reporter.definitions_changed()
            await world.settled()
        assert conditions(await world.status(GC))["SupportedVersion"] == ("True", "SupportedVersion")

    async def test_kinds_that_are_not_served_are_done_without(self) -> None:
        world = World({kind: version for kind, version in LATEST.items() if kind.name != "UDPRoute"})
        await everything(world)
        async with world.leading():
            await world.settled()
        assert conditions(await world.status(GW))["Programmed"] == ("True", "Programmed")


async def test_an_address_that_is_assigned_later_is_programmed_once_applied(world: World) -> None:
    await world.apply(GC, gateway(listener(), addresses=()))
    world.nodes.applied(world.revision, "node-a")
    async with world.leading():
        await world.settled()
        assert conditions(await world.status(GW))["Programmed"] == ("False", "AddressNotAssigned")
        assert "addresses" not in await world.status(GW)
        assigned = gateway(listener(), addresses=(), assigned=(GatewayAddress(value="192.0.2.5"),))
        world.observe(assigned)
        await world.settled()
        assert conditions(await world.status(GW))["Programmed"] == ("False", "Pending")
        world.nodes.applied(world.revision, "node-a")
        await world.settled()
        assert conditions(await world.status(GW))["Programmed"] == ("True", "Programmed")
        assert (await world.status(GW))["addresses"] == [{"type": "IPAddress", "value": "192.0.2.5"}]


async def test_a_burst_is_written_once() -> None:
    world = World()
    await everything(world)
    async with world.leading():
        await world.settled()
        world.api.requests.clear()
        for number in range(20):
            await world.apply(tcp_route(backend(), name=f"more-{number}"))
        await world.settled()
        writes = [request.path for request in world.api.writes]
        assert len(writes) < 40
        assert (await world.status(GW))["listeners"][0]["attachedRoutes"] == 21


def conditions_types(status: dict[str, object]) -> list[str]:
    found = status["conditions"]
    assert isinstance(found, list)
    return [condition["type"] for condition in found]
