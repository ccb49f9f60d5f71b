"""What people apply and run: config/default with the rights it gives, and hack/kind-up.sh."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
import yaml
from grpc_health.v1 import health, health_pb2

from blixt_control_plane import STANDARD, ControlPlane, control_plane, user_name, workloads
from blixt_control_plane.programs import ROOT
from blixt_frontend.kubernetes.kinds import CORE, GATEWAY
from blixt_frontend.status.bundle import NAMES as DEFINITIONS
from blixt_frontend.translation.options import CONTROLLER_NAME
from blixt_lab import wait_for

DEFAULT = ROOT / "config" / "default"
NAMESPACE, FRONTEND = "blixt-system", "blixt-frontend"
GROUP = "gateway.networking.k8s.io"


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """One of its own: Blixt is installed on it as a whole."""
    with control_plane() as plane:
        plane.install(STANDARD)
        apply_default(plane)
        yield plane


def apply_default(plane: ControlPlane) -> str:
    return plane.kubectl("apply", "--server-side", "-k", str(DEFAULT))


def rendered(plane: ControlPlane, folder: str = "default") -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(plane.kubectl("kustomize", str(ROOT / "config" / folder))))


def one(objects: list[dict[str, Any]], kind: str, name: str = "") -> dict[str, Any]:
    (found,) = (o for o in objects if o["kind"] == kind and name in ("", o["metadata"]["name"]))
    return found


# --- config/default ---


def test_it_is_applied_again_without_a_change(plane: ControlPlane) -> None:
    mark = plane.audit.mark()
    before = plane.kubectl("get", "daemonset,deployment,service", "-n", NAMESPACE, "-o", "yaml")
    assert "serverside-applied" in apply_default(plane)
    wait_for(lambda: bool(plane.audit.writes(mark)), "the audit log", 30)
    after = plane.kubectl("get", "daemonset,deployment,service", "-n", NAMESPACE, "-o", "yaml")
    versions = [
        [o["metadata"]["generation"] for o in yaml.safe_load(t)["items"][:2]] for t in (before, after)
    ]
    assert versions[0] == versions[1]


def test_all_of_it_is_in_one_namespace(plane: ControlPlane) -> None:
    objects = rendered(plane)
    cluster_wide = {"Namespace", "ClusterRole", "ClusterRoleBinding", "GatewayClass"}
    for found in objects:
        expected = None if found["kind"] in cluster_wide else NAMESPACE
        assert found["metadata"].get("namespace") == expected, found["kind"]
    assert one(objects, "GatewayClass")["spec"]["controllerName"] == CONTROLLER_NAME


def test_pods_run_what_the_images_have(plane: ControlPlane) -> None:
    """Arguments that the programs don't know would end them at once."""
    objects = rendered(plane, "kind")
    deployment, daemons = one(objects, "Deployment"), one(objects, "DaemonSet")
    for workload, side in ((deployment, "frontend"), (daemons, "backend")):
        (container,) = workload["spec"]["template"]["spec"]["containers"]
        assert container["image"] == f"blixt-{side}:kind"
        command = Path(sys.executable).parent / f"blixt-{side}"
        options = [argument.partition("=")[0] for argument in container["args"]]
        told = subprocess.run([command, "--help"], capture_output=True, text=True, check=True).stdout
        assert [option for option in options if option not in told] == []
    assert deployment["spec"]["replicas"] == 2


def test_pods_of_both_are_admitted(plane: ControlPlane) -> None:
    """By admission of the namespace's pod security, which judges pods only when they are made."""
    api = plane.api()
    for kind, name in (("deployments", "blixt-frontend"), ("daemonsets", "blixt-backend")):
        workload = api.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/{kind}/{name}")
        spec = workload["spec"]["template"]["spec"]
        pod = {"metadata": {"name": f"{name}-try"}, "spec": spec}
        made = api.post(f"/api/v1/namespaces/{NAMESPACE}/pods?dryRun=All", pod)
        assert made["spec"]["serviceAccountName"] == name
        tokens = [
            source
            for volume in made["spec"].get("volumes", [])
            for source in volume.get("projected", {}).get("sources", [])
            if "serviceAccountToken" in source
        ]
        assert bool(tokens) == (name == FRONTEND)


def test_the_samples_are_taken_as_they_are(plane: ControlPlane) -> None:
    plane.namespace("demo")
    told = plane.apply(ROOT / "config" / "samples").splitlines()
    assert all(line.endswith("serverside-applied") for line in told)
    for name in ("gateways/edge", "tcproutes/web", "udproutes/dns"):
        assert plane.api().get(f"/apis/{GROUP}/v1/namespaces/demo/{name}")["spec"]
    plane.kubectl("delete", "nodes", "node1", "node2")
    plane.delete_namespace("demo")
    wait_for(lambda: "demo" not in plane.kubectl("get", "namespaces", "-o", "name"), "demo to be gone", 60)


# --- what it may do ---


class Right(NamedTuple):
    verb: str
    group: str
    #: With its subresource, if any: `gateways/status`.
    resource: str
    namespace: str = ""
    name: str = ""


VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
WITHOUT_STATUS = ("referencegrants", "httproutes", "tlsroutes")
WITH_STATUS = tuple(kind.plural for kind in GATEWAY if kind.plural not in WITHOUT_STATUS)
LEASES = ("coordination.k8s.io", "leases")
CRDS = ("apiextensions.k8s.io", "customresourcedefinitions")

USED = {
    *(Right(verb, kind.group, kind.plural) for kind in (*CORE, *GATEWAY) for verb in ("list", "watch")),
    *(Right("get", GROUP, plural) for plural in WITH_STATUS),
    *(Right("patch", GROUP, f"{plural}/status") for plural in WITH_STATUS),
    Right("patch", GROUP, "gatewayclasses"),
    Right("patch", "", "services/status"),
    *(Right("get", *CRDS, name=name) for name in DEFINITIONS),
    *(Right(verb, *LEASES, NAMESPACE) for verb in ("list", "create", "patch", "delete")),
    Right("get", *LEASES, NAMESPACE, FRONTEND),
}
OTHERS = {
    *((kind.group, kind.plural, "", "") for kind in (*CORE, *GATEWAY)),
    *((GROUP, f"{kind.plural}/status", "", "") for kind in GATEWAY),
    ("", "services/status", "", ""),
    ("", "nodes/status", "", ""),
    ("", "configmaps", NAMESPACE, ""),
    ("", "pods", NAMESPACE, ""),
    ("", "serviceaccounts/token", NAMESPACE, ""),
    ("apps", "deployments", NAMESPACE, ""),
    ("rbac.authorization.k8s.io", "clusterroles", "", ""),
    (*CRDS, "", ""),
    (*CRDS, "", "others.example.com"),
    (*LEASES, NAMESPACE, ""),
    (*LEASES, NAMESPACE, "another"),
    (*LEASES, NAMESPACE, FRONTEND),
    (*LEASES, "kube-system", "kube-scheduler"),
}


def test_the_frontend_may_do_what_it_does_and_nothing_else(plane: ControlPlane) -> None:
    api = plane.api(plane.token(NAMESPACE, FRONTEND))

    def allowed(right: Right) -> bool:
        resource, _, subresource = right.resource.partition("/")
        attributes = {
            "verb": right.verb,
            "group": right.group,
            "resource": resource,
            "subresource": subresource,
            "namespace": right.namespace,
            "name": right.name,
        }
        review = {"spec": {"resourceAttributes": attributes}}
        answer = api.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
        return bool(answer["status"]["allowed"])

    assert {right for right in USED if not allowed(right)} == set(), "lacking"
    unused = {Right(verb, *other) for verb, other in product(VERBS, OTHERS)} - USED
    # Whoever may do something with leases of a namespace may do it with one of any name.
    of_any_name = product(("list", "create", "patch", "delete"), (FRONTEND, "another"))
    unused -= {Right(verb, *LEASES, NAMESPACE, name) for verb, name in of_any_name}
    assert {right for right in unused if allowed(right)} == set(), "too much"


async def test_a_frontend_with_just_these_rights_becomes_ready(plane: ControlPlane, tmp_path: Path) -> None:
    config = await asyncio.to_thread(plane.service_account_kubeconfig, NAMESPACE, FRONTEND)
    socket = f"unix:{tmp_path}/frontend"
    command = Path(sys.executable).parent / "blixt-frontend"
    mark = plane.audit.mark()
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        frontend = await asyncio.create_subprocess_exec(
            command, "--kubeconfig", config, "--listen", socket, stdin=DEVNULL, stderr=stderr
        )
    try:
        async with asyncio.timeout(60), grpc.aio.insecure_channel(socket) as channel:
            check = channel.unary_unary(
                f"/{health.SERVICE_NAME}/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            request = health_pb2.HealthCheckRequest()
            answer = await check(request, wait_for_ready=True)
            while answer.status != health_pb2.HealthCheckResponse.SERVING:
                await asyncio.sleep(0.05)
                answer = await check(request)
    finally:
        frontend.terminate()
        await frontend.wait()
    assert "orbidden" not in log.read_text()
    refused = [w for w in plane.audit.writes(mark, user_name(NAMESPACE, FRONTEND)) if w.status == 403]
    assert refused == []


# --- hack/kind-up.sh, from the step on that needs no Docker ---


async def test_kind_up_installs_everything_and_waits_for_the_gateway(plane: ControlPlane) -> None:
    """No kubelet runs Blixt here, so that the test says Programmed in its stead."""
    await asyncio.to_thread(workloads.add_node, plane.api(), "worker", ["192.0.2.7"])
    crds = str(STANDARD.folder)
    for attempt in ("first", "again"):
        script = await asyncio.create_subprocess_exec(
            ROOT / "hack" / "kind-up.sh",
            *("--kubeconfig", plane.kubeconfig, "--crds", crds, "--timeout", "60"),
            env={**os.environ, "PATH": f"{plane.programs.folder}:{os.environ['PATH']}"},
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
        )
        reading = asyncio.create_task(script.communicate())
        if attempt == "first":
            await asyncio.to_thread(wait_for, lambda: gateway_is_there(plane), "the demo's Gateway", 60)
            await asyncio.to_thread(say_programmed, plane)
        out, err = (text.decode() for text in await reading)
        assert script.returncode == 0, f"{attempt}: {err}"
        assert "sudo ip route replace 203.0.113.0/24 via 192.0.2.7" in out
        assert "nc 203.0.113.1 8080" in out
    deployment = plane.api().get(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/blixt-frontend")
    arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--address-pool=kind=203.0.113.1-203.0.113.50" in arguments


def gateway_is_there(plane: ControlPlane) -> bool:
    return "edge" in plane.kubectl("get", "gateway", "-A", "-o", "name")


def say_programmed(plane: ControlPlane) -> None:
    condition = {
        "type": "Programmed",
        "status": "True",
        "reason": "Programmed",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    addresses = [{"type": "IPAddress", "value": "203.0.113.1"}]
    plane.patch_status("gateway", "edge", {"conditions": [condition], "addresses": addresses}, "demo")
