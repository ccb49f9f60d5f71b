"""The Kubernetes source and a real API server: what kubectl does is told, whatever happens to the server."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from blixt_control_plane import OLDER, STANDARD, ApiError, Bundle, ControlPlane
from blixt_fakes.follower import Follower, following
from blixt_frontend.decode import decode_json
from blixt_frontend.kubernetes import ApiClient, Kubeconfig, KubernetesSource
from blixt_frontend.kubernetes.kinds import CORE, GATEWAY, Kind
from blixt_frontend.kubernetes.pace import Pace

PATIENCE = 60
BIN = Path(sys.executable).parent
GROUP = "gateway.networking.k8s.io"

SERVICE = """\
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: {space}}}
spec: {{ports: [{{name: http, port: 80}}]}}
"""
SLICE = """\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-x, namespace: {space}, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
endpoints: [{{addresses: [10.1.0.1]}}]
ports: [{{name: http, port: 8080, protocol: TCP}}]
"""
CLASS = """\
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: blixt}
spec: {controllerName: gateway.networking.k8s.io/blixt}
"""
ROUTE = """\
apiVersion: gateway.networking.k8s.io/{version}
kind: TCPRoute
metadata: {{name: {name}, namespace: {space}}}
spec:
  parentRefs: [{{name: gate}}]
  rules: [{{backendRefs: [{{name: web, port: 80}}]}}]
"""


def truth(plane: ControlPlane, kinds: tuple[Kind, ...]) -> dict[Any, Any]:
    """All objects as the API server lists them."""
    api = plane.api()
    objects: dict[Any, Any] = {}
    for kind in kinds:
        for version in kind.versions:
            try:
                items = api.get(kind.path(version))["items"]
            except ApiError:
                continue  # this version, or the kind, is not served
            for item in items or ():
                one = decode_json(json.dumps(item).encode(), kind.type)
                objects[one.key] = one
            break
    return objects


async def agrees(plane: ControlPlane, follower: Follower, condition: Callable[[], bool]) -> None:
    """Until the condition holds, and all that was told is all that there is."""
    await follower.until(lambda: follower.complete and condition())
    for _ in range(100):
        if follower.objects == await asyncio.to_thread(truth, plane, (*CORE, *GATEWAY)):
            return
        await asyncio.sleep(0.2)
    raise AssertionError("what was told is not what there is")


@asynccontextmanager
async def follow(plane: ControlPlane, kubeconfig: Path | None = None, **pace: Any) -> AsyncIterator[Follower]:
    pace.setdefault("discovery", 1.0)
    async with (
        ApiClient(Kubeconfig(kubeconfig or plane.kubeconfig)) as client,
        following(KubernetesSource(client, Pace(**pace))) as follower,
    ):
        yield follower


def has(follower: Follower, *names: str) -> Callable[[], bool]:
    return lambda: set(names) <= follower.names


def lacks(follower: Follower, *names: str) -> Callable[[], bool]:
    return lambda: not set(names) & follower.names


async def apply(plane: ControlPlane, text: str) -> None:
    await asyncio.to_thread(plane.apply, text)


async def kubectl(plane: ControlPlane, *arguments: str) -> str:
    return await asyncio.to_thread(plane.kubectl, *arguments)


async def test_what_kubectl_does_is_told(shared_control_plane: ControlPlane) -> None:
    plane = shared_control_plane
    space = plane.namespace("source-edits")
    async with follow(plane) as follower:
        await agrees(plane, follower, has(follower, "Service/kubernetes", f"Namespace/{space}"))
        await apply(plane, SERVICE.format(space=space) + "---\n" + SLICE.format(space=space))
        await apply(plane, ROUTE.format(space=space, version="v1", name="r"))
        await agrees(plane, follower, has(follower, "Service/web", "EndpointSlice/web-x", "TCPRoute/r"))
        patch = '{"endpoints": [{"addresses": ["10.1.0.2"]}]}'
        await kubectl(plane, "patch", "endpointslice", "web-x", "-n", space, "--type=merge", "-p", patch)

        def patched() -> bool:
            told: list[Any] = [one for key, one in follower.objects.items() if key.name == "web-x"]
            return [one.endpoints[0].addresses for one in told] == [("10.1.0.2",)]

        await agrees(plane, follower, patched)
        await kubectl(plane, "delete", "tcproute", "r", "-n", space)
        await agrees(plane, follower, lacks(follower, "TCPRoute/r"))
        await asyncio.to_thread(plane.delete_namespace, space)
        await agrees(plane, follower, lacks(follower, "Service/web", f"Namespace/{space}"))


async def test_pages_bookmarks_and_watches_that_end(shared_control_plane: ControlPlane, caplog: Any) -> None:
    """Everything is so small and so short that a list has many pages and a watch ends every second."""
    plane = shared_control_plane
    space = plane.namespace("source-pages")
    api = plane.api()
    services = f"/api/v1/namespaces/{space}/services"

    def create(number: int) -> None:
        ports = [{"port": 80, "name": "http"}]
        api.post(services, {"metadata": {"name": f"s{number}"}, "spec": {"ports": ports}})

    for number in range(20):
        create(number)
    async with follow(plane, page=3, watch=(1, 2)) as follower:
        await agrees(plane, follower, has(follower, *(f"Service/s{number}" for number in range(20))))
        for number in range(20, 40):
            await asyncio.to_thread(create, number)
            await asyncio.to_thread(api.delete, f"{services}/s{number - 20}")
            await asyncio.sleep(0.1)
        await agrees(plane, follower, has(follower, *(f"Service/s{number}" for number in range(20, 40))))
    assert not [one for one in caplog.records if one.levelname == "WARNING"]
    plane.delete_namespace(space)


async def test_a_kind_without_rights_is_named_and_followed_once_it_is_granted(
    shared_control_plane: ControlPlane, caplog: Any
) -> None:
    plane = shared_control_plane
    space = plane.namespace("source-rights")
    rights = """\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: source-{name}}}
rules: [{{apiGroups: [{group}], resources: [{resources}], verbs: [get, list, watch]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: source-{name}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: source-{name}}}
subjects: [{{kind: ServiceAccount, name: default, namespace: source-rights}}]
---
"""
    core = rights.format(name="core", group='""', resources="services, nodes, namespaces, secrets")
    gateway = rights.format(name="gateway", group=GROUP, resources="'*'")
    slices = rights.format(name="slices", group="discovery.k8s.io", resources="endpointslices")
    plane.apply(core + gateway + SLICE.format(space=space))
    kubeconfig = plane.service_account_kubeconfig(space, "default")
    async with follow(plane, kubeconfig, forbidden=0.5) as follower:
        await follower.until(has(follower, "Service/kubernetes", f"Namespace/{space}"))
        await asyncio.sleep(1)
        assert not follower.complete
        await apply(plane, slices)
        await agrees(plane, follower, has(follower, "EndpointSlice/web-x"))
    [line] = [one.getMessage() for one in caplog.records if "orbidden" in one.getMessage()]
    assert "cannot list resource" in line
    assert "grant it get, list and watch of endpointslices.discovery.k8s.io" in line
    plane.kubectl(
        "delete", "clusterrole,clusterrolebinding", "source-core", "source-gateway", "source-slices"
    )
    plane.delete_namespace(space)


async def test_the_api_server_dies_and_comes_back(own_control_plane: ControlPlane) -> None:
    plane = own_control_plane
    plane.install(STANDARD)
    plane.apply(SERVICE.format(space="default") + "---\n" + CLASS)
    async with follow(plane) as follower:
        await agrees(plane, follower, has(follower, "Service/web", "GatewayClass/blixt"))
        for name in ("one", "two"):
            batches = len(follower.batches)
            await asyncio.to_thread(plane.api_server.kill9)
            await asyncio.sleep(1)
            assert len(follower.batches) == batches
            await asyncio.to_thread(plane.api_server.start)
            await apply(plane, SERVICE.format(space="default").replace("web", name))
            await agrees(plane, follower, has(follower, f"Service/{name}"))
        assert not any(batch.deletions for batch in follower.batches)


async def test_an_api_server_that_hangs(own_control_plane: ControlPlane) -> None:
    """Its connections stay open and say nothing: they are given up, and taken up again once it answers."""
    plane = own_control_plane
    async with follow(plane, silence=2.0, most=1.0) as follower:
        await agrees(plane, follower, has(follower, "Service/kubernetes"))
        plane.api_server.pause()
        await asyncio.sleep(5)
        plane.api_server.resume()
        await apply(plane, SERVICE.format(space="default"))
        await agrees(plane, follower, has(follower, "Service/web"))
        assert not any(batch.deletions for batch in follower.batches)


async def test_compaction_leads_to_a_list_that_finds_everything(
    own_control_plane: ControlPlane, caplog: Any
) -> None:
    """While the source is cut off, objects come and go, and the history that would tell is dropped."""
    plane = own_control_plane
    for name in ("one", "two"):
        plane.apply(SERVICE.format(space="default").replace("web", name))
    caplog.set_level("INFO")
    async with follow(plane, first=20, most=20) as follower:
        await agrees(plane, follower, has(follower, "Service/one", "Service/two"))
        await asyncio.to_thread(plane.api_server.kill9)
        await asyncio.to_thread(plane.api_server.start)
        await apply(plane, SERVICE.format(space="default").replace("web", "three"))
        await kubectl(plane, "delete", "service", "one")
        await asyncio.to_thread(plane.expire_resource_versions)
        await agrees(plane, follower, has(follower, "Service/three"))
        assert "Service/one" not in follower.names
    assert "listing anew" in caplog.text


async def crds(plane: ControlPlane, action: Callable[[Bundle], None], bundle: Bundle) -> None:
    await asyncio.to_thread(action, bundle)


async def test_crds_come_go_and_come_back_in_another_version(own_control_plane: ControlPlane) -> None:
    plane = own_control_plane
    plane.apply(SERVICE.format(space="default"))
    async with follow(plane) as follower:
        await agrees(plane, follower, has(follower, "Service/web"))
        await crds(plane, plane.install, OLDER)
        await apply(plane, ROUTE.format(space="default", version="v1alpha2", name="older"))
        await agrees(plane, follower, has(follower, "TCPRoute/older"))
        await crds(plane, plane.uninstall, OLDER)
        await agrees(plane, follower, lacks(follower, "TCPRoute/older"))
        await crds(plane, plane.install, STANDARD)
        await apply(plane, CLASS + "---\n" + ROUTE.format(space="default", version="v1", name="newer"))
        await agrees(plane, follower, has(follower, "TCPRoute/newer", "GatewayClass/blixt", "Service/web"))


async def test_from_kubectl_to_a_backend(shared_control_plane: ControlPlane, tmp_path: Path) -> None:
    """Both programs as users run them; the print plane shows the change sets that a node gets."""
    plane = shared_control_plane
    space = plane.namespace("source-backend")
    plane.apply(SERVICE.format(space=space) + "---\n" + SLICE.format(space=space))
    address = f"unix:{tmp_path}/s"
    frontend = await asyncio.create_subprocess_exec(
        BIN / "blixt-frontend", "--kubeconfig", plane.kubeconfig, "--listen", address
    )
    options = ["--plane", "print", "--print", "json", "--api", address, "--node-name", "n"]
    backend = await asyncio.create_subprocess_exec(BIN / "blixt-backend", *options, stdout=PIPE)
    try:
        await line_with(backend.stdout, f"{space}/web", "10.1.0.1")
        patch = '{"endpoints": [{"addresses": ["10.1.0.2"]}]}'
        await kubectl(plane, "patch", "endpointslice", "web-x", "-n", space, "--type=merge", "-p", patch)
        await line_with(backend.stdout, f"{space}/web", "10.1.0.2")
        frontend.terminate()
        assert await asyncio.wait_for(frontend.wait(), PATIENCE) == 0
    finally:
        for process in (frontend, backend):
            if process.returncode is None:
                process.kill()
                await process.wait()
    plane.delete_namespace(space)


async def line_with(stream: asyncio.StreamReader | None, *texts: str) -> None:
    assert stream is not None
    async with asyncio.timeout(PATIENCE):
        while line := (await stream.readline()).decode():
            if all(text in line for text in texts):
                return
    raise AssertionError(f"{texts} never came")
