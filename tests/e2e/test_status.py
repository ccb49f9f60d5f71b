"""Status on a real API server, written with the rights that the shipped manifests give, and no more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from blixt_control_plane import OLDER, STANDARD, Bundle, ControlPlane, KubectlError, control_plane, user_name
from blixt_control_plane.programs import ROOT
from blixt_frontend.app import Translation
from blixt_frontend.kubernetes.access import Kubeconfig
from blixt_frontend.kubernetes.client import ApiClient
from blixt_frontend.kubernetes.discovery import served_kinds
from blixt_frontend.kubernetes.source import KubernetesSource
from blixt_frontend.listeners import UnixAddress
from blixt_frontend.server import Server, ServerConfig
from blixt_frontend.status import Elector, LeaseConfig, PeerConfig, StatusReporter
from blixt_frontend.store import Store
from blixt_frontend.translator import Translator
from blixt_objects import key_pair
from blixt_status import conditions
from blixt_watcher import Watcher

NAMESPACE, ACCOUNT = "blixt-system", "blixt-frontend"
ADDRESS = "192.0.2.10"
SPACE, ELSEWHERE = "tls-listeners", "tls-certificates"
EVERYTHING = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: blixt}
spec: {controllerName: gateway.networking.k8s.io/blixt}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw, namespace: default}
spec:
  gatewayClassName: blixt
  addresses: [{value: 192.0.2.10}]
  listeners:
  - {name: tcp, port: 80, protocol: TCP}
  - {name: udp, port: 53, protocol: UDP}
  - {name: web, port: 8080, protocol: HTTP}
---
apiVersion: gateway.networking.k8s.io/VERSION
kind: TCPRoute
metadata: {name: route, namespace: default}
spec:
  parentRefs: [{name: gw}]
  rules: [{backendRefs: [{name: web, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/VERSION
kind: UDPRoute
metadata: {name: route, namespace: default}
spec:
  parentRefs: [{name: gw, sectionName: udp}]
  rules: [{backendRefs: [{name: gone, port: 53}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {ports: [{port: 80}], clusterIP: None}
"""


def everything(version: str = "v1") -> str:
    return EVERYTHING.replace("VERSION", version)


class Counted:
    """The API server, and what was asked of it."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self.requests: list[str] = []

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        self.requests.append(f"{method} {path}")
        return await self._client.request(method, path, query=query, body=body, content_type=content_type)


class Frontend:
    """The parts of a frontend that status needs, in this process."""

    def __init__(self, client: ApiClient, socket: Path, name: str) -> None:
        self._client = client
        self.api = Counted(client)
        self._store = Store()
        self._translator = Translator()
        self.server = Server(self._store, ServerConfig((UnixAddress(socket),)))
        self.reporter = StatusReporter(
            self.api, partial(served_kinds, client), self.server, PeerConfig(NAMESPACE, name)
        )
        self._lease = LeaseConfig(NAMESPACE, name, duration=3, renew_within=2, renew_every=0.3)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Frontend]:
        await self.server.start()
        elector = Elector(self._client, self._lease)
        work = (self._feed(), elector.run(self.reporter.lead), self.reporter.run())
        tasks = [asyncio.ensure_future(each) for each in work]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await self.server.stop()

    async def _feed(self) -> None:
        translation: Translation = self._translator
        source = KubernetesSource(self._client)
        source.observer = self.reporter
        async for batch in source.events():
            units = await asyncio.to_thread(translation.apply, batch)
            with self._store.transaction():
                for unit, items in units.items():
                    self._store.replace(unit, items)
                if batch.complete:
                    self._store.set_ready()
            self.reporter.observe(batch, self._translator.gateways, units, self._store.revision)


@asynccontextmanager
async def node(server: Server, name: str) -> AsyncIterator[None]:
    """A node that applies everything at once."""
    async with grpc.aio.insecure_channel(server.addresses[0]) as channel:
        watcher = Watcher(channel, name)

        async def follow() -> None:
            while True:
                await watcher.pull()

        task = asyncio.ensure_future(follow())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@pytest.fixture(scope="module", params=[STANDARD, OLDER], ids=["v1", "v1alpha2"])
def installed(request: pytest.FixtureRequest) -> Iterator[tuple[ControlPlane, Bundle]]:
    """With the Gateway API in one of its releases, and the frontend's rights as they are shipped."""
    with control_plane() as plane:
        plane.install(request.param)
        for space in (NAMESPACE, SPACE, ELSEWHERE):
            plane.namespace(space)
        plane.apply(ROOT / "config" / "default" / "rbac.yaml", "-n", NAMESPACE)
        yield plane, request.param


@pytest.fixture
def plane(installed: tuple[ControlPlane, Bundle]) -> Iterator[ControlPlane]:
    """With a Gateway, its class and routes, which nobody has reported on yet."""
    plane, bundle = installed
    made = everything("v1" if bundle is STANDARD else "v1alpha2")
    plane.apply(made)
    yield plane
    for name in get(plane, "gatewayclass/blixt")["metadata"].get("finalizers", []):
        assert name.startswith("gateway-exists-finalizer.")
    plane.kubectl("patch", "gatewayclass/blixt", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    plane.kubectl("delete", "--ignore-not-found", "-f", "-", stdin=made)
    plane.kubectl("delete", "--ignore-not-found", "lease", "blixt-frontend", "-n", NAMESPACE)


@pytest.fixture
async def client(plane: ControlPlane) -> AsyncIterator[ApiClient]:
    kubeconfig = plane.service_account_kubeconfig(NAMESPACE, ACCOUNT)
    async with ApiClient(Kubeconfig(kubeconfig)) as opened:
        yield opened


def get(plane: ControlPlane, what: str) -> dict[str, Any]:
    found = json.loads(plane.kubectl("get", what, "-n", "default", "-o", "json"))
    assert isinstance(found, dict)
    return found


async def eventually(holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if await asyncio.to_thread(holds):
            return
        await asyncio.sleep(0.1)
    raise TimeoutError


async def condition(plane: ControlPlane, what: str, wanted: str) -> None:
    """As people wait for it."""
    await asyncio.to_thread(plane.kubectl, "wait", what, f"--for=condition={wanted}", "--timeout=60s")


def writes(plane: ControlPlane, since: int) -> list[str]:
    """What the frontend wrote, but for its lease."""
    found = plane.audit.writes(since, user_name(NAMESPACE, ACCOUNT))
    return [f"{one.verb} {one.resource}/{one.name} {one.status}" for one in found if one.resource != "leases"]


async def test_kubectl_shows_conditions_and_nothing_is_written_once_they_are_right(
    plane: ControlPlane, client: ApiClient, tmp_path: Path
) -> None:
    since = plane.audit.mark()
    async with Frontend(client, tmp_path / "s", "a").running() as frontend, node(frontend.server, "node-a"):
        await condition(plane, "gateway/gw", "Programmed")
        await condition(plane, "gatewayclass/blixt", "SupportedVersion")
        await eventually(lambda: bool(get(plane, "udproute/route").get("status", {}).get("parents")))
        of_gateway = get(plane, "gateway/gw")["status"]
        assert conditions(of_gateway) == {
            "Accepted": ("True", "Accepted"),
            "Programmed": ("True", "Programmed"),
        }
        assert of_gateway["addresses"] == [{"type": "IPAddress", "value": ADDRESS}]
        assert {one["name"]: one["attachedRoutes"] for one in of_gateway["listeners"]} == {
            "tcp": 1,
            "udp": 1,
            "web": 0,
        }
        for one in of_gateway["listeners"]:
            assert set(conditions(one)) == {"Accepted", "Programmed", "ResolvedRefs"}
        (parent,) = get(plane, "udproute/route")["status"]["parents"]
        assert conditions(parent) == {
            "Accepted": ("True", "Accepted"),
            "ResolvedRefs": ("False", "BackendNotFound"),
        }
        (parent,) = get(plane, "tcproute/route")["status"]["parents"]
        assert conditions(parent)["ResolvedRefs"] == ("True", "ResolvedRefs")
        of_class = get(plane, "gatewayclass/blixt")
        assert conditions(of_class["status"])["Accepted"] == ("True", "Accepted")
        assert {"name": "TCPRoute"} in of_class["status"]["supportedFeatures"]
        assert len(of_class["metadata"]["finalizers"]) == 1
        assert "True" in plane.kubectl("get", "gateway", "gw", "-n", "default")  # its column PROGRAMMED

        await asyncio.sleep(1)
        told = writes(plane, since)
        assert all(line.endswith(" 200") for line in told), told
        steady = plane.audit.mark()
        frontend.api.requests.clear()
        await asyncio.sleep(5)
        assert writes(plane, steady) == []
        assert frontend.api.requests == []  # nor anything read


async def test_programmed_waits_for_nodes(plane: ControlPlane, client: ApiClient, tmp_path: Path) -> None:
    async with Frontend(client, tmp_path / "s", "a").running() as frontend:
        await condition(plane, "gateway/gw", "Programmed=False")
        assert conditions(get(plane, "gateway/gw")["status"])["Programmed"] == ("False", "NoResources")
        async with node(frontend.server, "node-a"):
            await condition(plane, "gateway/gw", "Programmed")
        changed = '{"spec":{"listeners":[{"name":"tcp","port":81,"protocol":"TCP"}]}}'
        await asyncio.to_thread(plane.kubectl, "patch", "gateway/gw", "--type=merge", "-p", changed)
        await condition(plane, "gateway/gw", "Programmed=False")
        async with node(frontend.server, "node-a"):
            await condition(plane, "gateway/gw", "Programmed")
        status = get(plane, "gateway/gw")
        assert [one["name"] for one in status["status"]["listeners"]] == ["tcp"]
        observed = {one["observedGeneration"] for one in status["status"]["conditions"]}
        assert observed == {status["metadata"]["generation"]}


async def test_others_keep_their_conditions_and_their_parents(
    plane: ControlPlane, client: ApiClient, tmp_path: Path
) -> None:
    theirs = {
        "type": "example.org/Theirs",
        "status": "True",
        "reason": "Theirs",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    parent = {
        "controllerName": "example.org/theirs",
        "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gw"},
        "conditions": [theirs],
    }
    defaults = get(plane, "gateway/gw")["status"]["conditions"]
    plane.patch_status("gateway", "gw", {"conditions": [*defaults, theirs]})
    plane.patch_status("tcproute", "route", {"parents": [parent]})
    async with Frontend(client, tmp_path / "s", "a").running() as frontend, node(frontend.server, "node-a"):
        await condition(plane, "gateway/gw", "Programmed")
        await eventually(lambda: len(get(plane, "tcproute/route")["status"]["parents"]) == 2)
        assert theirs in get(plane, "gateway/gw")["status"]["conditions"]
        assert parent in get(plane, "tcproute/route")["status"]["parents"]
        await asyncio.to_thread(plane.kubectl, "delete", "gateway/gw", "-n", "default")
        await eventually(lambda: get(plane, "tcproute/route")["status"]["parents"] == [parent])
        await eventually(lambda: not get(plane, "gatewayclass/blixt")["metadata"].get("finalizers"))


async def test_a_class_in_use_outlives_its_deletion(
    plane: ControlPlane, client: ApiClient, tmp_path: Path
) -> None:
    async with Frontend(client, tmp_path / "s", "a").running():
        await eventually(lambda: bool(get(plane, "gatewayclass/blixt")["metadata"].get("finalizers")))
        plane.kubectl("delete", "gatewayclass/blixt", "--wait=false")
        assert get(plane, "gatewayclass/blixt")["metadata"]["deletionTimestamp"]
        plane.kubectl("delete", "gateway/gw", "-n", "default")

        def is_gone() -> bool:
            with suppress(KubectlError):
                get(plane, "gatewayclass/blixt")
                return False
            return True

        await eventually(is_gone)
    plane.apply(everything().split("---")[0])  # for the fixture to remove


async def test_one_of_two_writes_and_the_other_takes_over(
    plane: ControlPlane, client: ApiClient, tmp_path: Path
) -> None:
    def holder() -> str:
        with suppress(KubectlError):
            lease = json.loads(plane.kubectl("get", "lease/blixt-frontend", "-n", NAMESPACE, "-o", "json"))
            return str(lease["spec"]["holderIdentity"])
        return ""

    async with AsyncExitStack() as outer:
        second = await outer.enter_async_context(Frontend(client, tmp_path / "b", "b").running())
        await eventually(lambda: holder() == "b")
        await outer.enter_async_context(node(second.server, "node-b"))
        await condition(plane, "gateway/gw", "Programmed")
        first = Frontend(client, tmp_path / "a", "a")
        async with first.running():
            await asyncio.sleep(2)
            assert holder() == "b"
            since = plane.audit.mark()
            await outer.aclose()
            await eventually(lambda: holder() == "a")
            await asyncio.sleep(2)
            assert writes(plane, since) == []  # what the other one said still holds
            changed = '{"spec":{"listeners":[{"name":"new","port":82,"protocol":"TCP"}]}}'
            await asyncio.to_thread(plane.kubectl, "patch", "gateway/gw", "--type=merge", "-p", changed)
            async with node(first.server, "node-a"):
                await condition(plane, "gateway/gw", "Programmed")
            assert get(plane, "gateway/gw")["status"]["listeners"][0]["name"] == "new"


async def test_nodes_of_another_frontend_count_as_well(
    plane: ControlPlane, client: ApiClient, tmp_path: Path
) -> None:
    """Only the one that writes has none, or only the other one."""
    async with Frontend(client, tmp_path / "a", "a").running() as writer:
        await condition(plane, "gateway/gw", "Programmed=False")
        async with Frontend(client, tmp_path / "b", "b").running() as other, node(other.server, "node-b"):
            await condition(plane, "gateway/gw", "Programmed")
            changed = '{"spec":{"listeners":[{"name":"tcp","port":81,"protocol":"TCP"}]}}'
            async with node(writer.server, "node-a"):
                await asyncio.to_thread(plane.kubectl, "patch", "gateway/gw", "--type=merge", "-p", changed)
                await eventually(lambda: get(plane, "gateway/gw")["status"]["listeners"][0]["name"] == "tcp")
                await condition(plane, "gateway/gw", "Programmed")
    left = json.loads(plane.kubectl("get", "leases", "-n", NAMESPACE, "-o", "json"))["items"]
    assert [one["metadata"]["name"] for one in left] == ["blixt-frontend"]


async def test_what_somebody_else_does_to_our_conditions_is_put_right(
    plane: ControlPlane, client: ApiClient, tmp_path: Path
) -> None:
    async with Frontend(client, tmp_path / "s", "a").running() as frontend, node(frontend.server, "node-a"):
        await condition(plane, "gateway/gw", "Programmed")
        theirs = get(plane, "gateway/gw")["status"]["conditions"]
        for one in theirs:
            one.update(status="False", reason="Invalid")
        plane.patch_status("gateway", "gw", {"conditions": theirs})
        await condition(plane, "gateway/gw", "Programmed")
        plane.patch_status("tcproute", "route", {"parents": []})
        await eventually(lambda: len(get(plane, "tcproute/route")["status"]["parents"]) == 1)


async def test_status_converges_after_the_api_server_was_away(
    plane: ControlPlane, client: ApiClient, tmp_path: Path
) -> None:
    async with Frontend(client, tmp_path / "s", "a").running() as frontend, node(frontend.server, "node-a"):
        await condition(plane, "gateway/gw", "Programmed")
        await asyncio.to_thread(plane.api_server.kill9)
        await asyncio.sleep(3)  # longer than the lease
        await asyncio.to_thread(plane.api_server.start)
        changed = '{"spec":{"listeners":[{"name":"new","port":83,"protocol":"UDP"}]}}'
        await asyncio.to_thread(plane.kubectl, "patch", "gateway/gw", "--type=merge", "-p", changed)
        await eventually(lambda: get(plane, "gateway/gw")["status"]["listeners"][0]["name"] == "new")
        await condition(plane, "gateway/gw", "Programmed")


# --- TLS listeners, and the routes of others ---

TLS_GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: tls, namespace: tls-listeners}
spec:
  gatewayClassName: blixt
  addresses: [{value: 192.0.2.11}]
  listeners:
  - {name: tcp, port: 80, protocol: TCP}
  - name: own
    port: 443
    protocol: HTTPS
    hostname: "*.example.org"
    tls: {certificateRefs: [{name: cert}]}
  - name: granted
    port: 8443
    protocol: HTTPS
    tls: {certificateRefs: [{name: cert, namespace: tls-certificates}]}
"""
HTTP_ROUTES = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: a, namespace: tls-listeners}
spec: {parentRefs: [{name: tls}], hostnames: [a.example.org]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: b, namespace: tls-listeners}
spec: {parentRefs: [{name: tls}], hostnames: [b.example.net]}
"""
GRANT = """
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: grant, namespace: tls-certificates}
spec:
  from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: tls-listeners}]
  to: [{group: "", kind: Secret, name: cert}]
"""


def tls_listeners(plane: ControlPlane) -> dict[str, dict[str, Any]]:
    """Status of the Gateway's listeners by their name."""
    status = json.loads(plane.kubectl("get", "gateway/tls", "-n", SPACE, "-o", "json"))["status"]
    return {one["name"]: one for one in status.get("listeners", [])}


async def resolved(plane: ControlPlane, **reasons: str) -> None:
    """Until the listeners' ResolvedRefs have these reasons."""

    def holds() -> bool:
        found = {name: conditions(one) for name, one in tls_listeners(plane).items()}
        return {name: found[name]["ResolvedRefs"][1] for name in reasons if name in found} == reasons

    await eventually(holds)


@pytest.fixture
def tls_plane(plane: ControlPlane, tmp_path: Path) -> Iterator[ControlPlane]:
    """With a Gateway that has TLS listeners, whose certificates are not there."""
    for part, content in zip(("crt", "key"), key_pair(), strict=True):
        (tmp_path / part).write_bytes(content)
    plane.apply(TLS_GATEWAY)
    yield plane
    for what in ("httproute", "gateway"):
        plane.kubectl("delete", what, "--all", "-n", SPACE)
    for space in (SPACE, ELSEWHERE):
        plane.kubectl("delete", "secret", "--all", "-n", space)
    plane.kubectl("delete", "referencegrant", "--all", "-n", ELSEWHERE)


def create_certificate(plane: ControlPlane, space: str, folder: Path) -> None:
    plane.kubectl(
        *("create", "secret", "tls", "cert", "-n", space),
        *(f"--cert={folder / 'crt'}", f"--key={folder / 'key'}"),
    )


async def test_certificates_come_and_go_with_their_secrets_and_grants(
    tls_plane: ControlPlane, client: ApiClient, tmp_path: Path
) -> None:
    plane = tls_plane
    async with Frontend(client, tmp_path / "s", "a").running() as frontend, node(frontend.server, "node-a"):
        await resolved(plane, own="InvalidCertificateRef", granted="RefNotPermitted", tcp="ResolvedRefs")
        found = tls_listeners(plane)
        assert conditions(found["own"])["Programmed"] == ("False", "Invalid")
        await eventually(lambda: conditions(tls_listeners(plane)["tcp"])["Programmed"][0] == "True")
        create_certificate(plane, SPACE, tmp_path)
        await resolved(plane, own="ResolvedRefs", granted="RefNotPermitted")
        await eventually(lambda: conditions(tls_listeners(plane)["own"])["Programmed"][0] == "True")
        plane.apply(GRANT)
        await resolved(plane, granted="InvalidCertificateRef")
        create_certificate(plane, ELSEWHERE, tmp_path)
        await resolved(plane, own="ResolvedRefs", granted="ResolvedRefs")
        plane.kubectl("delete", "referencegrant/grant", "-n", ELSEWHERE)
        await resolved(plane, own="ResolvedRefs", granted="RefNotPermitted")
        plane.kubectl("delete", "secret/cert", "-n", SPACE)
        await resolved(plane, own="InvalidCertificateRef")


async def test_http_routes_are_counted_and_left_alone(
    tls_plane: ControlPlane, client: ApiClient, tmp_path: Path
) -> None:
    def counted() -> dict[str, int]:
        return {name: one["attachedRoutes"] for name, one in tls_listeners(tls_plane).items()}

    since = tls_plane.audit.mark()
    async with Frontend(client, tmp_path / "s", "a").running():
        await eventually(lambda: counted() == {"tcp": 0, "own": 0, "granted": 0})
        tls_plane.apply(HTTP_ROUTES)
        await eventually(lambda: counted() == {"tcp": 0, "own": 1, "granted": 2})
        tls_plane.kubectl("delete", "httproute/b", "-n", SPACE)
        await eventually(lambda: counted() == {"tcp": 0, "own": 1, "granted": 1})
    told = writes(tls_plane, since)
    assert told
    assert not [line for line in told if "httproutes" in line]


async def test_without_the_right_to_read_secrets_all_else_is_told_and_served(
    tls_plane: ControlPlane, client: ApiClient, tmp_path: Path
) -> None:
    role = yaml.safe_load(tls_plane.kubectl("get", "clusterrole/blixt-frontend", "-o", "yaml"))
    rules = role["rules"]
    role["rules"] = [
        rule for rule in rules if rule["resources"] not in (["secrets"], ["httproutes", "tlsroutes"])
    ]
    assert len(role["rules"]) == len(rules) - 2
    patch = json.dumps({"rules": role["rules"]})
    tls_plane.kubectl("patch", "clusterrole/blixt-frontend", "--type=merge", "-p", patch)
    try:
        async with Frontend(client, tmp_path / "s", "a").running() as frontend, node(frontend.server, "n"):
            await condition(tls_plane, "gateway/gw", "Programmed")
            await resolved(tls_plane, own="Pending", granted="RefNotPermitted", tcp="ResolvedRefs")
            own = conditions(tls_listeners(tls_plane)["own"])
            assert own["ResolvedRefs"] == ("Unknown", "Pending")
            assert own["Accepted"] == ("True", "Accepted")
            patch = json.dumps({"rules": rules})
            tls_plane.kubectl("patch", "clusterrole/blixt-frontend", "--type=merge", "-p", patch)
            await resolved(tls_plane, own="InvalidCertificateRef")
    finally:
        tls_plane.apply(ROOT / "config" / "default" / "rbac.yaml", "-n", NAMESPACE)
