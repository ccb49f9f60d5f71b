"""The control plane itself: what the other tests of this folder rely on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blixt_control_plane import (
    OLDER,
    STANDARD,
    Api,
    ApiError,
    ControlPlane,
    KubectlError,
    Place,
    control_plane,
    homes,
    user_name,
    workloads,
)
from blixt_control_plane.build import BuildError, build
from blixt_control_plane.processes import processes_of
from blixt_control_plane.programs import ASSETS, ROOT, MissingError, find_programs, kubernetes_version
from blixt_lab import Host, open_lab, wait_for

SERVERS = ["etcd", "kube-apiserver", "kube-controller-manager"]
GATEWAY_API = "gateway.networking.k8s.io"


@pytest.fixture(scope="module")
def plane(shared_control_plane: ControlPlane) -> ControlPlane:
    return shared_control_plane


@pytest.fixture
def space(plane: ControlPlane, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own."""
    name = "cp-" + "".join(c if c.isalnum() else "-" for c in request.node.name.lower())[-40:].strip("-")
    yield plane.namespace(name)
    plane.delete_namespace(name)


def test_it_is_the_pinned_release(plane: ControlPlane) -> None:
    version = plane.api().get("/version")
    assert version["gitVersion"] == kubernetes_version()


def test_its_openapi_document_is_whole(plane: ControlPlane) -> None:
    """A broken one makes server-side apply and kubectl's validation fail in strange ways."""
    api = plane.api()
    document = api.get("/openapi/v2")
    service = document["definitions"]["io.k8s.api.core.v1.Service"]
    assert service["properties"]["spec"]["$ref"] == "#/definitions/io.k8s.api.core.v1.ServiceSpec"
    spec = document["definitions"]["io.k8s.api.core.v1.ServiceSpec"]
    assert spec["properties"]["ports"]["x-kubernetes-list-map-keys"] == ["port", "protocol"]


def test_nobody_gets_in_without_credentials(plane: ControlPlane) -> None:
    with pytest.raises(ApiError) as refused:
        plane.api("no-such-token").get("/api/v1/services")
    assert refused.value.status == 401


def test_a_service_account_may_do_what_rbac_gives_it_and_no_more(plane: ControlPlane, space: str) -> None:
    plane.kubectl("create", "serviceaccount", "reader", "-n", space)
    config = plane.service_account_kubeconfig(space, "reader")
    with pytest.raises(KubectlError, match="forbidden"):
        plane.kubectl("get", "services", "-n", space, kubeconfig=config)

    plane.kubectl("create", "role", "reader", "-n", space, "--verb=get,list,watch", "--resource=services")
    plane.kubectl(
        "create", "rolebinding", "reader", "-n", space, "--role=reader", f"--serviceaccount={space}:reader"
    )  # fmt: skip
    told = f"auth can-i list services -n {space}".split()
    wait_for(lambda: _succeeds(plane, told, config), "the role to be in force")
    plane.kubectl("get", "services", "-n", space, kubeconfig=config)
    with pytest.raises(KubectlError, match="forbidden"):
        plane.kubectl("create", "service", "clusterip", "s", "--tcp=80", "-n", space, kubeconfig=config)
    with pytest.raises(KubectlError, match="forbidden"):
        plane.kubectl("get", "secrets", "-n", space, kubeconfig=config)


def test_controllers_make_endpoint_slices_of_pods_with_a_patched_status(
    plane: ControlPlane, space: str
) -> None:
    api = plane.api()
    node = f"node-of-{space}"[:63].rstrip("-")
    workloads.add_node(api, node, ["192.0.2.1"], zone="east")
    plane.apply(_service(space, "web", ipFamilyPolicy="PreferDualStack"))
    workloads.run_pod(api, space, "web-0", node, ["10.1.0.5", "fd00:1::5"], {"app": "web"})

    def endpoints(family: str) -> list[dict[str, Any]]:
        query = "labelSelector=kubernetes.io%2Fservice-name%3Dweb"
        slices = api.get(f"/apis/discovery.k8s.io/v1/namespaces/{space}/endpointslices?{query}")["items"]
        return [endpoint for s in slices if s["addressType"] == family for endpoint in s["endpoints"] or []]

    def conditions() -> list[tuple[bool, ...]]:
        names = ("ready", "serving", "terminating")
        return [tuple(endpoint["conditions"][name] for name in names) for endpoint in endpoints("IPv4")]

    wait_for(lambda: conditions() == [(True, True, False)], "the pod to be a ready endpoint")
    assert [(e["addresses"], e["nodeName"], e["zone"]) for e in endpoints("IPv4")] == [
        (["10.1.0.5"], node, "east")
    ]
    wait_for(lambda: [e["addresses"] for e in endpoints("IPv6")] == [["fd00:1::5"]], "its IPv6 address")

    workloads.set_ready(api, space, "web-0", False)
    wait_for(lambda: conditions() == [(False, False, False)], "the pod to be an endpoint that is not ready")
    workloads.set_ready(api, space, "web-0", True)
    workloads.terminate_pod(api, space, "web-0")
    wait_for(lambda: conditions() == [(False, True, True)], "the pod to be terminating, and serving")
    workloads.remove_pod(api, space, "web-0")
    wait_for(lambda: conditions() == [], "the endpoint to go with its pod")
    api.delete(f"/api/v1/nodes/{node}")


def test_deployments_are_made_into_pods_and_collected_with_them(plane: ControlPlane, space: str) -> None:
    plane.kubectl("create", "deployment", "app", "--image=app", "--replicas=2", "-n", space)
    pods = f"/api/v1/namespaces/{space}/pods"
    api = plane.api()
    wait_for(lambda: len(api.get(pods)["items"]) == 2, "two pods of the deployment")
    plane.kubectl("delete", "deployment", "app", "-n", space)
    wait_for(lambda: not api.get(pods)["items"], "the pods to go with their owner", timeout=60)


def test_deleting_a_namespace_empties_it(plane: ControlPlane) -> None:
    name = plane.namespace("cp-emptied")
    plane.apply(_service(name, "web"))
    plane.delete_namespace(name)
    api = plane.api()
    wait_for(
        lambda: _status(api, f"/api/v1/namespaces/{name}") == 404, "the namespace to be gone", timeout=60
    )


def test_the_audit_log_names_who_wrote_what(plane: ControlPlane, space: str) -> None:
    plane.kubectl("create", "serviceaccount", "writer", "-n", space)
    before = plane.audit.mark()
    writer = plane.api(plane.token(space, "writer"))
    with pytest.raises(ApiError):
        writer.patch(f"/api/v1/namespaces/{space}/services/web/status", {"status": {}})
    with pytest.raises(ApiError):
        writer.get(f"/api/v1/namespaces/{space}/services")
    user = user_name(space, "writer")
    writes = wait_for(lambda: plane.audit.writes(before, user), "the write to be in the log")
    told = [(w.verb, w.resource, w.subresource, w.namespace, w.name, w.status) for w in writes]
    assert told == [("patch", "services", "status", space, "web", 403)]
    assert not plane.audit.writes(plane.audit.mark(), user)


def test_both_releases_of_the_gateway_api_are_served_one_after_the_other(
    own_control_plane: ControlPlane,
) -> None:
    plane = own_control_plane
    assert _route_versions(plane) == set()
    plane.install(STANDARD)
    assert _route_versions(plane) == {("tcproutes", "v1"), ("udproutes", "v1")}
    gateway = {"gatewayClassName": "x", "listeners": [{"name": "l", "port": 1, "protocol": "TCP"}]}
    plane.apply(_gateway_object("v1", "Gateway", "g", gateway))
    plane.apply(
        _gateway_object("v1", "TCPRoute", "t", {"rules": [{"backendRefs": [{"name": "s", "port": 1}]}]})
    )
    condition = {
        "type": "Accepted",
        "status": "True",
        "reason": "Accepted",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    plane.patch_status("gateway", "g", {"conditions": [condition]})
    stored = plane.api().get(f"/apis/{GATEWAY_API}/v1/namespaces/default/gateways/g")
    assert [found["type"] for found in stored["status"]["conditions"]] == ["Accepted"]

    plane.uninstall(STANDARD)
    assert _route_versions(plane) == set()
    plane.install(OLDER)
    assert _route_versions(plane) == {("tcproutes", "v1alpha2"), ("udproutes", "v1alpha2")}
    plane.apply(_gateway_object("v1", "Gateway", "g", gateway))
    plane.apply(
        _gateway_object("v1alpha2", "UDPRoute", "u", {"rules": [{"backendRefs": [{"name": "s", "port": 1}]}]})
    )
    plane.uninstall(OLDER)
    plane.install(STANDARD)
    assert _route_versions(plane) == {("tcproutes", "v1"), ("udproutes", "v1")}


def test_servers_come_back_at_their_places_with_their_data(own_control_plane: ControlPlane) -> None:
    plane = own_control_plane
    plane.namespace("kept")
    api = plane.api()
    for component in plane.components:
        before = component.pid
        component.restart()
        assert component.pid != before
        assert api.get("/api/v1/namespaces/kept")["metadata"]["name"] == "kept"
    plane.namespace("afterwards")

    plane.api_server.pause()
    with pytest.raises(OSError, match="timed out"):
        plane.api(timeout=0.5).get("/version")
    plane.api_server.resume()
    plane.api_server.wait_ready()


def test_old_resource_versions_can_be_made_to_expire(own_control_plane: ControlPlane) -> None:
    plane = own_control_plane
    api = plane.api()
    plane.apply(_service("default", "web"))
    services = "/api/v1/namespaces/default/services"
    version = api.get(services)["metadata"]["resourceVersion"]
    plane.apply(_service("default", "other"))
    watch = f"{services}?watch=1&timeoutSeconds=5&resourceVersion={version}"
    assert [event["type"] for event in api.watch(watch, 1)] == ["ADDED"]

    plane.expire_resource_versions()
    assert _watch_status(api, watch) == 410
    now = api.get(services)["metadata"]["resourceVersion"]
    plane.apply(_service("default", "third"))
    events = api.watch(f"{services}?watch=1&timeoutSeconds=20&resourceVersion={now}", 1)
    assert [event["object"]["metadata"]["name"] for event in events] == ["third"]


@pytest.mark.lab
def test_it_can_live_in_a_network_namespace() -> None:
    with open_lab() as lab:
        host = Host("control", lab.namespace("control"))
        lab.add(host)
        with control_plane(Place(host.namespace)) as plane:
            plane.apply(_service("default", "web"))
            asked = ("get", "service", "web", "-o", "jsonpath={.metadata.name}")
            assert plane.kubectl(*asked) == "web"
            kubectl = str(plane.programs.path("kubectl"))
            assert host.run(kubectl, f"--kubeconfig={plane.kubeconfig}", *asked).stdout == "web"
            with pytest.raises(ConnectionRefusedError):
                Place().connect(plane.layout.ports.api, timeout=5)


def test_nothing_is_left_of_a_run_that_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Where no other run on this machine sweeps.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = (
        "from blixt_control_plane import control_plane\n"
        "with control_plane() as plane:\n"
        "    print(plane.home, flush=True)\n"
        "    input()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests"), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    ) as run:
        assert run.stdout
        home = Path(run.stdout.readline().strip())
        assert sorted(processes_of(home).values()) == SERVERS
        assert homes.sweep() == []
        run.send_signal(signal.SIGKILL)
        run.wait()
    assert sorted(processes_of(home).values()) == SERVERS
    assert homes.sweep() == [home]
    assert not processes_of(home)
    assert not home.exists()


def test_by_hand_up_status_and_down(tmp_path: Path) -> None:
    home = tmp_path / "plane"

    def script(*arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [str(ROOT / "hack" / "control-plane.sh"), *arguments, "--dir", str(home)]
        return subprocess.run(argv, capture_output=True, text=True, check=False)

    assert script("status").returncode == 1
    up = script("up")
    try:
        assert up.returncode == 0, up.stderr
        assert script("status").returncode == 0
        processes = processes_of(home)
        assert sorted(processes.values()) == SERVERS
        commands = f"{up.stdout}\nkubectl get crd tcproutes.{GATEWAY_API} -o name"
        done = subprocess.run(["bash", "-c", commands], capture_output=True, text=True, check=False)
        assert done.stdout == f"customresourcedefinition.apiextensions.k8s.io/tcproutes.{GATEWAY_API}\n"
        asked = f"{up.stdout}\nKUBECONFIG={home}/frontend.kubeconfig kubectl auth whoami -o yaml"
        done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=False)
        assert user_name("blixt-system", "blixt-frontend") in done.stdout, done.stderr
        assert script("up").returncode == 0
        assert processes_of(home) == processes, "a second `up` starts nothing"
    finally:
        down = script("down")
    assert down.returncode == 0, down.stderr
    assert not processes_of(home)
    assert not home.exists()
    assert "there is no control plane" in script("down").stdout


def test_up_touches_no_folder_that_is_something_else(tmp_path: Path) -> None:
    (tmp_path / "pki").mkdir()
    (tmp_path / "pki" / "precious").write_text("data")
    for command, code in (("up", 1), ("down", 0)):
        argv = [str(ROOT / "hack" / "control-plane.sh"), command, "--dir", str(tmp_path)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == code
        assert "name another folder" in done.stderr or "there is no control plane" in done.stdout
        assert (tmp_path / "pki" / "precious").read_text() == "data"


def test_missing_programs_are_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etcd").write_text("")
    (tmp_path / "etcd").chmod(0o755)
    monkeypatch.setenv(ASSETS, str(tmp_path))
    with pytest.raises(
        MissingError, match=r"lacks kube-apiserver, kube-controller-manager, kubectl: add them"
    ):
        find_programs()
    monkeypatch.delenv(ASSETS)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(MissingError, match="make test-e2e"):
        find_programs()


def test_a_build_without_a_fitting_go_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match=r"there is no Go: install Go 1\.21 or newer"):
        build(print)
    (tmp_path / "go").write_text("#!/bin/sh\necho go1.19.8\n")
    (tmp_path / "go").chmod(0o755)
    with pytest.raises(BuildError, match=r"go is go1\.19\.8: install Go 1\.21 or newer"):
        build(print)


def test_a_module_with_another_checksum_is_not_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    forged = replace(STANDARD, checksum="h1:forged")
    monkeypatch.setattr("blixt_control_plane.build.BUNDLES", {"standard": forged})
    with pytest.raises(BuildError, match="h1:forged is expected"):
        build(print)
    assert not forged.folder.exists()


def _service(namespace: str, name: str, **spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": name}, "ports": ports, **spec},
    }


def _gateway_object(version: str, kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": f"{GATEWAY_API}/{version}",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


def _route_versions(plane: ControlPlane) -> set[tuple[str, str]]:
    """Which TCP and UDP routes can be listed, and at which version."""
    api = plane.api()
    served = set()
    for resource in ("tcproutes", "udproutes"):
        for version in ("v1", "v1alpha2"):
            if _status(api, f"/apis/{GATEWAY_API}/{version}/{resource}") == 200:
                served.add((resource, version))
    return served


def _status(api: Api, path: str) -> int:
    try:
        api.get(path)
    except ApiError as error:
        return error.status
    return 200


def _watch_status(api: Api, path: str) -> int:
    try:
        events = api.watch(path, 1)
    except ApiError as error:
        return error.status
    return int(events[0]["object"]["code"]) if events and events[0]["type"] == "ERROR" else 200


def _succeeds(plane: ControlPlane, arguments: list[str], config: Path) -> bool:
    try:
        plane.kubectl(*arguments, kubeconfig=config)
    except KubectlError:
        return False
    return True
