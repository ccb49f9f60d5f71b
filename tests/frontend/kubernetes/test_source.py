"""The source against an API server that does everything right, and one that does not."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blixt_fakes.api_server import FakeApiServer, Plain, api_server
from blixt_fakes.follower import Follower, following
from blixt_fakes.until import until
from blixt_frontend.kubernetes import ApiClient, KubernetesSource
from blixt_frontend.kubernetes.kinds import CORE, GATEWAY
from blixt_frontend.kubernetes.pace import Pace
from blixt_frontend.source import ObjectKey

#: Nothing here waits for a clock longer than it must.
FAST = Pace(
    page=3,
    watch=(1000, 2000),
    silence=60,
    first=0.005,
    most=0.02,
    forbidden=0.02,
    discovery=0.05,
    relook=0.02,
    settle=0.001,
)
IMPATIENT = Pace(page=3, watch=(1000, 2000), silence=0.2, first=0.005, most=0.02, discovery=5, settle=0.001)


def service(name: str, port: Any = 80, **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "demo", **metadata}, "spec": {"ports": [{"port": port}]}}


def node(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "creationTimestamp": None}}


def route(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "demo"}, "spec": {"rules": None}}


def named(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "demo"}, "type": "kubernetes.io/tls", "data": {}}


SECRET = named("cert")


@asynccontextmanager
async def follow(
    server: FakeApiServer, pace: Pace = FAST, token: Path | None = None
) -> AsyncIterator[Follower]:
    async with (
        ApiClient(Plain(server.url, token)) as client,
        following(KubernetesSource(client, pace)) as follower,
    ):
        yield follower


def ports(follower: Follower) -> dict[str, int]:
    told: dict[ObjectKey, Any] = dict(follower.objects)
    return {key.name: one.spec.ports[0].port for key, one in told.items() if key.kind == "Service"}


class TestFollowing:
    async def test_what_is_there_and_what_changes(self) -> None:
        async with api_server() as server:
            for number in range(10):
                server.put("services", service(f"s{number}"))
            server.put("nodes", node("n1"))
            server.put("tcproutes", route("r"))
            async with follow(server) as follower:
                services = [f"Service/s{number}" for number in range(10)]
                await follower.has("Node/n1", "TCPRoute/r", *services)
                assert server.requests["list", "services"] == 4  # pages of three
                server.put("services", service("s0", 81))
                server.delete("services", "s1", "demo")
                server.put("udproutes", route("u"))
                await follower.has("Node/n1", "TCPRoute/r", "UDPRoute/u", "Service/s0", *services[2:])
                assert ports(follower)["s0"] == 81
            assert server.requests["list", "services"] == 4
            assert server.requests["watch", "services"] == 1

    async def test_an_empty_cluster_is_complete_as_well(self) -> None:
        async with api_server() as server, follow(server) as follower:
            await follower.has()
            assert all(batch.complete for batch in follower.batches)

    async def test_updates_of_what_is_not_read_are_no_changes(self) -> None:
        async with api_server() as server:
            server.put("nodes", node("n1"))
            async with follow(server) as follower:
                await follower.has("Node/n1")
                heartbeat = {**node("n1"), "status": {"conditions": [{"type": "Ready"}]}}
                server.put("nodes", heartbeat)
                server.put("nodes", node("n2"))
                await follower.has("Node/n1", "Node/n2")
                assert sum(one.key.name == "n1" for batch in follower.batches for one in batch.upserts) == 1

    async def test_a_burst_is_a_few_batches(self) -> None:
        async with api_server() as server, follow(server, Pace(settle=0.05)) as follower:
            await follower.has()
            for port in range(1, 11):
                for number in range(100):
                    server.put("services", service(f"s{number}", port))
            await follower.until(lambda: list(ports(follower).values()) == [10] * 100)
            assert len(follower.batches) < 50

    async def test_a_watch_that_the_server_ends_goes_on_where_it_was(self) -> None:
        async with api_server() as server:
            server.put("services", service("a"))
            async with follow(server) as follower:
                await follower.has("Service/a")
                for port in (1, 2, 3):
                    await until(lambda: server.watching("services") == 1)
                    server.end_watches()
                    server.put("services", service("a", port))
                    await follower.until(lambda port=port: ports(follower) == {"a": port})  # type: ignore[misc]
                assert server.requests["list", "services"] <= 1 + 3  # one look each at the server's version
                assert all(not batch.deletions for batch in follower.batches)


class TestExpiry:
    async def test_a_version_that_is_too_old(self) -> None:
        """410: all is listed, and what was missed is found, deletions too."""
        async with api_server() as server:
            for name in "abcd":
                server.put("services", service(name))
            async with follow(server) as follower:
                await follower.has(*(f"Service/{name}" for name in "abcd"))
                server.hang_watches()
                server.delete("services", "a", "demo")
                server.put("services", service("b", 81))
                server.put("services", service("e"))
                server.compact()
                server.end_watches()
                await follower.has(*(f"Service/{name}" for name in "bcde"))
                assert ports(follower)["b"] == 81
                told = [one.key.name for batch in follower.batches for one in batch.upserts]
                assert sorted(told) == ["a", "b", "b", "c", "d", "e"]

    async def test_after_a_time_of_trouble_all_is_listed_without_a_long_pause(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The server is well again, and says what to do."""
        monkeypatch.setattr(random, "uniform", lambda _, most: 0.0 if most <= FAST.first else 1000.0)
        async with api_server() as server, follow(server) as follower:
            await follower.has()
            await until(lambda: server.watching("services") == 1)
            server.hang_watches()
            server.put("services", service("a"))
            server.compact()
            server.end_watches()  # after which the next pause would be a long one
            await follower.has("Service/a")

    async def test_bookmarks_keep_the_version_young(self) -> None:
        async with api_server() as server, follow(server) as follower:
            await follower.has()
            await until(lambda: server.watching("services") == 1)
            server.put("nodes", node("n"))
            server.bookmark("services")
            server.compact()
            lists = server.requests["list", "services"]
            server.end_watches()
            await until(lambda: server.requests["watch", "services"] == 2)
            server.put("services", service("a"))
            await follower.has("Node/n", "Service/a")
            assert server.requests["list", "services"] == lists + 1  # whether the server went back; no more

    async def test_a_list_that_expires_half_way(self) -> None:
        async with api_server() as server:
            for name in "abcdefgh":
                server.put("services", service(name))
            original = server.page_served

            def expire(plural: str) -> None:
                server.page_served = original
                server.put("services", service("i"))
                server.compact()

            server.page_served = lambda plural: expire(plural) if plural == "services" else None
            async with follow(server) as follower:
                await follower.has(*(f"Service/{name}" for name in "abcdefghi"))
                assert server.requests["list", "services"] == 3  # a page, a refusal, all at once

    async def test_a_server_that_starts_again_with_nothing(self) -> None:
        """Its versions begin anew: a watch from ours would stay silent for ever."""
        async with api_server() as server:
            for name in "abcd":
                server.put("services", service(name))
            async with follow(server) as follower:
                await follower.has(*(f"Service/{name}" for name in "abcd"))
                await until(lambda: server.watching("services") == 1)
                await server.stop()
                server.lose_everything()
                server.put("services", service("z"))
                await server.start()
                await follower.has("Service/z")


class TestConnections:
    @pytest.mark.parametrize("seconds", [0.0, 0.3])
    async def test_a_server_that_goes_and_comes_back(self, seconds: float, caplog: Any) -> None:
        async with api_server() as server:
            server.put("services", service("a"))
            async with follow(server) as follower:
                await follower.has("Service/a")
                batches = len(follower.batches)
                await server.stop()
                await asyncio.sleep(seconds)
                assert len(follower.batches) == batches
                server.put("services", service("b"))
                await server.start()
                await follower.has("Service/a", "Service/b")
        assert caplog.text.count("Service: GET") <= 2  # said once, not at each attempt

    async def test_a_server_that_is_not_there_yet(self) -> None:
        async with api_server() as server:
            await server.stop()
            async with follow(server) as follower:
                await asyncio.sleep(0.1)
                assert follower.batches == []
                server.put("services", service("a"))
                await server.start()
                await follower.has("Service/a")

    async def test_resets_in_the_middle(self) -> None:
        async with api_server() as server, follow(server) as follower:
            await follower.has()
            for number in range(1, 20):
                server.put("services", service("a", number))
                if number % 3 == 0:
                    server.end_watches(reset=True)
                await asyncio.sleep(0.01)
            await follower.until(lambda: ports(follower) == {"a": 19})

    async def test_a_watch_that_hangs_is_given_up(self, caplog: Any) -> None:
        async with api_server() as server, follow(server, IMPATIENT) as follower:
            await follower.has()
            await until(lambda: server.watching("services") == 1)
            server.hang_watches()
            server.put("services", service("a"))
            await follower.has("Service/a")
            assert server.requests["list", "services"] >= 2
        assert "Service:" not in caplog.text  # an idle kind is as silent: no reason to complain

    async def test_a_watch_that_dribbles_is_given_up(self) -> None:
        async with api_server() as server, follow(server, IMPATIENT) as follower:
            await follower.has()
            await until(lambda: server.watching("services") == 1)
            server.hang_watches()
            server.put("services", service("a"))
            while not follower.objects:
                server.send("services", b" ")
                await asyncio.sleep(0.01)
            await follower.has("Service/a")


class TestRefusals:
    async def test_a_token_that_was_replaced(self, tmp_path: Path, caplog: Any) -> None:
        token = tmp_path / "token"
        token.write_text("old")
        async with api_server() as server:
            server.tokens = {"old"}
            async with follow(server, token=token) as follower:
                await follower.has()
                token.write_text("new")
                server.tokens = {"new"}
                server.end_watches()
                server.put("services", service("a"))
                await follower.has("Service/a")
        assert "Unauthorized" not in caplog.text

    async def test_a_token_that_comes_later(self, tmp_path: Path, caplog: Any) -> None:
        token = tmp_path / "token"
        token.write_text("old")
        async with api_server() as server:
            server.tokens = {"new"}
            async with follow(server, token=token) as follower:
                await until(lambda: "401 Unauthorized" in caplog.text)
                token.write_text("new")
                await follower.has()

    async def test_a_kind_that_may_not_be_listed(self, caplog: Any) -> None:
        """The others are told, but nothing is complete: a part is not the whole."""
        async with api_server() as server:
            server.put("services", service("a"))
            empty = {"metadata": {"name": "x"}, "addressType": "IPv4", "endpoints": None}
            server.put("endpointslices", empty)
            server.refuse("list", "endpointslices", 403, "Forbidden", times=10)
            async with follow(server) as follower:
                await follower.until(lambda: follower.names == {"Service/a"})
                assert not follower.complete
                await follower.has("Service/a", "EndpointSlice/x")
        [line] = [one.getMessage() for one in caplog.records if "Forbidden" in one.getMessage()]
        assert "get, list and watch of endpointslices.discovery.k8s.io" in line

    async def test_a_kind_that_only_status_needs_and_that_may_not_be_listed(self, caplog: Any) -> None:
        """All the others are complete without it; that it is unread is told, and when it is read."""
        async with api_server() as server:
            server.put("services", service("a"))
            server.put("secrets", SECRET)
            server.put("httproutes", route("h"))
            server.refuse("list", "secrets", 403, "Forbidden", times=10)
            server.refuse("list", "httproutes", 500, "Trouble", times=10)
            async with follow(server) as follower:
                await follower.has("Service/a")
                reasons = {"Secret": "Forbidden", "HTTPRoute": "Trouble"}
                await follower.until(lambda: follower.unread == reasons)
                assert follower.names == {"Service/a"}
                await follower.has("Service/a", "Secret/cert", "HTTPRoute/h")
                await follower.until(lambda: follower.unread == {})
        [line] = [one.getMessage() for one in caplog.records if "Forbidden" in one.getMessage()]
        assert "get, list and watch of secrets" in line

    async def test_what_was_read_once_stays(self) -> None:
        async with api_server() as server:
            server.put("secrets", SECRET)
            async with follow(server) as follower:
                await follower.has("Secret/cert")
                await follower.until(lambda: follower.unread == {})
                server.refuse("watch", "secrets", 403, "Forbidden", times=5)
                server.end_watches()
                server.put("secrets", named("other"))
                await follower.has("Secret/cert", "Secret/other")
                assert all(batch.unread == {} for batch in follower.batches[-2:])

    async def test_secrets_of_other_types_are_not_asked_for(self) -> None:
        async with api_server() as server:
            server.put("secrets", SECRET)
            server.put("secrets", {**named("password"), "type": "Opaque"})
            async with follow(server) as follower:
                await follower.has("Secret/cert")
                server.compact()
                server.end_watches()
                server.put("secrets", named("other"))
                await follower.has("Secret/cert", "Secret/other")
        queries = [query for plural, query in server.queries if plural == "secrets"]
        assert len(queries) > 2
        assert {query.get("fieldSelector") for query in queries} == {"type=kubernetes.io/tls"}
        others = [query for plural, query in server.queries if plural != "secrets"]
        assert not any("fieldSelector" in query for query in others)

    async def test_a_server_that_has_not_read_its_rules_yet(self, caplog: Any) -> None:
        """One that has just started refuses for a moment: no reason to wait long, or to ask for rights."""
        async with api_server() as server:
            server.put("services", service("a"))
            server.refuse("list", "services", 403, "Forbidden")
            async with follow(server, replace(FAST, forbidden=1000)) as follower:
                await follower.has("Service/a")
        assert "Forbidden" not in caplog.text

    async def test_a_kind_that_may_not_be_watched_any_more(self) -> None:
        async with api_server() as server:
            server.put("services", service("a"))
            async with follow(server) as follower:
                await follower.has("Service/a")
                server.refuse("watch", "services", 403, "Forbidden", times=5)
                server.end_watches()
                server.put("nodes", node("n"))
                await follower.has("Service/a", "Node/n")
                server.put("services", service("b"))
                await follower.has("Service/a", "Service/b", "Node/n")

    @pytest.mark.parametrize("verb", ["list", "watch"])
    @pytest.mark.parametrize("status", [400, 429, 500, 503])
    async def test_a_server_in_trouble(self, verb: str, status: int) -> None:
        async with api_server() as server:
            server.put("services", service("a"))
            server.refuse(verb, "services", status, "Trouble", times=3)
            async with follow(server) as follower:
                await until(lambda: server.watching("services") == 1)
                server.put("services", service("b"))
                await follower.has("Service/a", "Service/b")

    async def test_a_server_that_says_when_to_come_back(self) -> None:
        async with api_server() as server:
            server.refuse("list", "services", 429, "TooManyRequests", retry_after=1)
            async with follow(server) as follower:
                await until(lambda: server.requests["list", "services"] == 1)
                await asyncio.sleep(0.5)
                assert server.requests["list", "services"] == 1
                await follower.has()


class TestGarbage:
    async def test_a_malformed_object(self, caplog: Any) -> None:
        """Reported with its name and field; its last good version stays, whether it is watched or listed."""
        async with api_server() as server:
            server.put("services", service("a", 1))
            server.put("services", service("bad", "x"))
            async with follow(server) as follower:
                await follower.has("Service/a")
                server.put("services", service("a", "y"))
                server.put("services", service("b"))
                await follower.has("Service/a", "Service/b")
                assert ports(follower)["a"] == 1
                server.compact()
                server.end_watches()
                await until(lambda: server.watching("services") == 1)
                server.put("services", service("c"))
                await follower.has("Service/a", "Service/b", "Service/c")
                server.put("services", service("a", 2))
                server.put("services", service("bad", 3))
                await follower.until(lambda: ports(follower) == {"a": 2, "b": 80, "c": 80, "bad": 3})
        lines = [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR]
        assert lines == [
            "Service demo/bad: spec.ports[0].port: 'x': expected int, got str; it is left out",
            "Service demo/a: spec.ports[0].port: 'y': expected int, got str; "
            "its last good version stays in force",
        ]

    async def test_a_malformed_object_that_is_deleted(self) -> None:
        async with api_server() as server:
            server.put("services", service("a", 1))
            async with follow(server) as follower:
                await follower.has("Service/a")
                server.put("services", service("a", "y"))
                server.delete("services", "a", "demo")
                await follower.has()

    @pytest.mark.parametrize(
        "line",
        [
            b"\xff\n",
            b'{"type": "ADDED"\n',
            b"[]\n",
            b'{"type": "ADDED", "object": 7}\n',
            b"<html>\n",
        ],
    )
    async def test_lines_that_are_no_events(self, line: bytes, caplog: Any) -> None:
        async with api_server() as server, follow(server) as follower:
            await follower.has()
            for name in ("a", "b", "c"):
                await until(lambda: server.watching("services") == 1)
                server.send("services", line)
                server.put("services", service(name))
                await follower.until(lambda name=name: f"Service/{name}" in follower.names)  # type: ignore[misc]
        assert "a line that is no event" in caplog.text

    @pytest.mark.parametrize(
        "line",
        [
            b'{"type": "ADDED", "object": {}}\n',
            b'{"type": "MODIFIED", "object": {"metadata": {"namespace": "demo"}}}\n',
            b'{"type": "DELETED", "object": {"metadata": {}}}\n',
            b'{"type": "BOOKMARK", "object": {}}\n',
            b'{"type": "UNHEARD-OF", "object": {"metadata": {}}}\n',
            b"\n",
        ],
    )
    async def test_events_about_nothing(self, line: bytes) -> None:
        async with api_server() as server, follow(server) as follower:
            await follower.has()
            await until(lambda: server.watching("services") == 1)
            server.send("services", line)
            server.put("services", service("a"))
            await follower.has("Service/a")
            assert server.requests["watch", "services"] == 1

    async def test_a_list_that_is_none(self, caplog: Any) -> None:
        async with api_server() as server:
            server.refuse("list", "services", 200, "OK", times=3)
            async with follow(server) as follower:
                server.put("services", service("a"))
                await follower.has("Service/a")
        assert "not a list" in caplog.text


class TestDiscovery:
    async def test_crds_that_come_later(self, caplog: Any) -> None:
        async with api_server() as server:
            server.served = {}
            server.put("services", service("a"))
            async with follow(server) as follower:
                await follower.has("Service/a")
                server.served = {"v1": {"gateways"}}
                server.put("tcproutes", route("r"))
                await until(lambda: server.watching("gateways") == 1)
                server.served = {"v1": {"gateways"}, "v1alpha2": {"tcproutes", "gateways"}}
                await follower.has("Service/a", "TCPRoute/r")
                server.put("tcproutes", route("r2"))
                await follower.has("Service/a", "TCPRoute/r", "TCPRoute/r2")
        assert "TCPRoute, UDPRoute, HTTPRoute, TLSRoute, ReferenceGrant not served" in caplog.text

    async def test_nothing_is_complete_before_it_is_known_what_is_served(self) -> None:
        async with api_server() as server:
            server.put("services", service("a"))
            server.put("tcproutes", route("r"))
            server.refuse("get", "/apis/gateway.networking.k8s.io", 503, "Unavailable", times=20)
            server.refuse("list", "tcproutes", 500, "Trouble", times=3)
            async with follow(server) as follower:
                await follower.until(lambda: follower.names == {"Service/a"})
                await follower.has("Service/a", "TCPRoute/r")
                assert not any(batch.complete for batch in follower.batches[:-1])

    async def test_a_better_version_takes_over_without_a_gap(self) -> None:
        async with api_server(v1alpha2={"tcproutes", "udproutes"}) as server:
            server.put("tcproutes", route("r"))
            async with follow(server) as follower:
                await follower.has("TCPRoute/r")
                server.served = {"v1": {"tcproutes"}, "v1alpha2": {"tcproutes", "udproutes"}}
                await until(lambda: server.requests["watch", "tcproutes"] == 2)
                server.put("tcproutes", route("r2"))
                await follower.has("TCPRoute/r", "TCPRoute/r2")
                assert not any(batch.deletions for batch in follower.batches)

    async def test_crds_that_go_and_come_back(self, caplog: Any) -> None:
        async with api_server() as server:
            server.put("tcproutes", route("r"))
            server.put("gateways", {"metadata": {"name": "g"}, "spec": {"gatewayClassName": "blixt"}})
            async with follow(server) as follower:
                await follower.has("TCPRoute/r", "Gateway/g")
                server.served = {"v1": {"gateways"}}
                server.end_watches()
                await follower.has("Gateway/g")
                server.served = {"v1": {"gateways", "tcproutes"}}
                await follower.has("TCPRoute/r", "Gateway/g")
        assert "TCPRoute is not served any more" in caplog.text

    async def test_a_group_that_is_missing_for_a_moment_takes_nothing_away(self) -> None:
        async with api_server() as server:
            server.put("tcproutes", route("r"))
            async with follow(server) as follower:
                await follower.has("TCPRoute/r")
                server.refuse("get", "/apis/gateway.networking.k8s.io", 404, "NotFound")
                looks = server.requests["get", "/apis/gateway.networking.k8s.io"]
                await until(lambda: server.requests["get", "/apis/gateway.networking.k8s.io"] > looks + 2)
                server.put("tcproutes", route("r2"))
                await follower.has("TCPRoute/r", "TCPRoute/r2")
                assert not any(batch.deletions for batch in follower.batches)


async def test_ending_it_lets_go_of_every_connection() -> None:
    async with api_server() as server, ApiClient(Plain(server.url)) as client:
        async with following(KubernetesSource(client, FAST)) as follower:
            await follower.has()
            await until(lambda: len(server.watchers) == len((*CORE, *GATEWAY)))
        await until(lambda: not server.watchers)


async def test_events_can_be_asked_for_again() -> None:
    async with api_server() as server:
        server.put("services", service("a"))
        async with ApiClient(Plain(server.url)) as client:
            source = KubernetesSource(client, FAST)
            for _ in range(2):
                async with following(source) as follower:
                    await follower.has("Service/a")


class TestObserving:
    """What makes no difference to what is served."""

    async def test_versions_of_objects_of_the_gateway_api(self) -> None:
        async with api_server() as server:
            server.put("tcproutes", route("listed"))
            server.put("services", service("a"))
            async with observed(server) as (follower, observer):
                await follower.has("TCPRoute/listed", "Service/a")
                server.put("tcproutes", {**route("listed"), "status": {"parents": []}})
                server.put("services", service("a"))
                server.put("tcproutes", {**route("odd"), "spec": {"rules": "x"}})
                await until(lambda: len(observer.versions) == 3)
        assert [name for name, _ in observer.versions] == ["listed", "listed", "odd"]
        versions = [int(version) for _, version in observer.versions]
        assert versions == sorted(set(versions))

    async def test_of_what_was_missed_as_well(self) -> None:
        async with api_server() as server:
            server.put("tcproutes", route("r"))
            async with observed(server) as (follower, observer):
                await follower.has("TCPRoute/r")
                server.hang_watches()
                server.put("tcproutes", {**route("r"), "status": {"parents": []}})
                server.compact()
                server.end_watches(reset=True)
                await until(lambda: len(observer.versions) > 1)

    async def test_kinds_that_come_and_go(self) -> None:
        async with api_server() as server:
            server.served = {}
            server.put("services", service("a"))
            async with observed(server) as (follower, observer):
                await follower.has("Service/a")
                assert observer.definitions == 0
                server.served = {"v1": {"gateways"}}
                await until(lambda: observer.definitions == 1)
                server.served = {"v1": {"gateways", "tcproutes"}}
                await until(lambda: observer.definitions == 2)


class Told:
    def __init__(self) -> None:
        self.versions: list[tuple[str, str]] = []
        self.definitions = 0

    def seen(self, key: ObjectKey, resource_version: str) -> None:
        self.versions.append((key.name, resource_version))

    def definitions_changed(self) -> None:
        self.definitions += 1


@asynccontextmanager
async def observed(server: FakeApiServer) -> AsyncIterator[tuple[Follower, Told]]:
    async with ApiClient(Plain(server.url)) as client:
        source = KubernetesSource(client, FAST)
        source.observer = told = Told()
        async with following(source) as follower:
            yield follower, told
