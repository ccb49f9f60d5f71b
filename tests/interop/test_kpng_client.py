"""KPNG's Go client under our frontend sees exactly what we serve, over changes and a frontend that dies."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from google.protobuf.json_format import MessageToJson

from blixt_api import localv1_pb2 as local
from blixt_lab import wait_for
from blixt_lab.daemon import script
from blixt_programs import Program, free_port
from blixt_watcher import Watcher

pytestmark = pytest.mark.interop

SAMPLES = Path(__file__).parents[2] / "config" / "samples"
NODE = "node1"


class Frontend(Program):
    """Over a folder with the samples in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "manifests"
        shutil.copytree(SAMPLES, self.folder)
        self.address = f"127.0.0.1:{free_port()}"
        command = (script("blixt-frontend"), "--manifests", self.folder, "--listen", self.address)
        super().__init__(folder / "frontend", *command)

    def state(self) -> list[Any]:
        """What it serves, as `state` prints it: services by path, each with its endpoints."""
        held = asyncio.run(_held(self.address))
        services = {path: found for path, found in held.items() if path.count("/") == 1}
        return [
            {"Service": _plain(local.Service, services[path]), "Endpoints": _endpoints(held, path)}
            for path in sorted(services, key=lambda path: path.replace("/", "\0"))
        ]


async def _held(address: str) -> dict[str, bytes]:
    async with grpc.aio.insecure_channel(address) as channel:
        watcher = Watcher(channel, NODE, kpng=True)
        await asyncio.wait_for(watcher.pull(), 20)
        watcher.call.cancel()
        return watcher.held


def _endpoints(held: dict[str, bytes], path: str) -> list[Any]:
    paths = sorted(found for found in held if found.startswith(f"{path}/"))
    return [_plain(local.Endpoint, held[found]) for found in paths]


def _plain(kind: type[local.Service] | type[local.Endpoint], encoded: bytes) -> Any:
    """As JSON, without the fields that KPNG doesn't know."""
    message = kind.FromString(encoded)
    for field in kind.DESCRIPTOR.fields:
        if field.number >= 100:
            message.ClearField(field.name)
    if isinstance(message, local.Service):
        message.ClearField("HealthCheckNodePort")  # KPNG has it since October 2022
    else:
        for field in local.EndpointScopes.DESCRIPTOR.fields:
            if field.number >= 100:
                message.Scopes.ClearField(field.name)
    return json.loads(MessageToJson(message))


@pytest.fixture
def frontend(tmp_path: Path) -> Iterator[Frontend]:
    with Frontend(tmp_path) as running:
        wait_for(lambda: _answers(running), "the frontend")
        yield running


def _answers(frontend: Frontend) -> bool:
    try:
        return bool(frontend.state())
    except (grpc.aio.AioRpcError, TimeoutError):
        return False


def client(kpng_client: Path, frontend: Frontend, folder: Path, decoder: str) -> Program:
    options = ("--api", frontend.address, "--node-name", NODE, "--decoder", decoder, "--error-delay", "200ms")
    return Program(folder / decoder, kpng_client / "state", *options)


def sees(reader: Program, expected: list[Any]) -> bool:
    return bool(reader.lines()) and reader.lines()[-1] == expected


def change(frontend: Frontend, number: int) -> None:
    """One more Service with endpoints that come, go and differ; every third time one goes again."""
    path = frontend.folder / f"churn-{number % 5}.yaml"
    if number % 3 == 2:
        path.unlink(missing_ok=True)
        return
    name = f"churn-{number % 5}"
    ports = [{"name": "web", "port": 80 + number, "targetPort": 8080, "protocol": "TCP"}]
    spec = {"clusterIPs": [f"10.96.77.{number + 1}"], "clusterIP": f"10.96.77.{number + 1}", "ports": ports}
    meta = {"name": name, "namespace": "default"}
    labels = {"kubernetes.io/service-name": name}
    endpoints = [
        {"addresses": [f"10.1.0.{index + 1}"], "conditions": {"ready": True}, "nodeName": f"node{index % 2}"}
        for index in range(number % 4)
    ]
    slices = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**meta, "name": f"{name}-1", "labels": labels},
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "web", "port": 8080, "protocol": "TCP"}],
    }
    objects = [{"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}, slices]
    path.write_text(yaml.safe_dump_all(objects))


def test_the_whole_state_over_churn_and_reconnects(
    kpng_client: Path, frontend: Frontend, tmp_path: Path
) -> None:
    with client(kpng_client, frontend, tmp_path, "fullstate") as reader:
        wait_for(partial(_in_step, reader, frontend), "the same state")
        assert any("." in item["Service"]["Name"] for item in reader.lines()[-1]), "no Gateway's listener"
        for number in range(12):
            change(frontend, number)
            wait_for(partial(_in_step, reader, frontend), f"change {number}")
        frontend.kill()
        change(frontend, 12)
        frontend.start()
        wait_for(lambda: _answers(frontend), "the frontend again")
        wait_for(partial(_in_step, reader, frontend), "the same state again")


def _in_step(reader: Program, frontend: Frontend) -> bool:
    """Both settle on what the manifests say: a file that was just written may not have been read yet."""
    expected = frontend.state()
    names = {item["Service"]["Name"] for item in expected}
    written = {path.stem for path in frontend.folder.glob("churn-*.yaml")}
    return {name for name in names if name.startswith("churn-")} == written and sees(reader, expected)


def test_events_of_services_add_up_to_what_there_is(
    kpng_client: Path, frontend: Frontend, tmp_path: Path
) -> None:
    with client(kpng_client, frontend, tmp_path, "serviceevents") as reader:
        for number in range(6):
            change(frontend, number)
        frontend.kill()
        frontend.start()
        wait_for(lambda: _answers(frontend), "the frontend again")
        wait_for(lambda: _added_up(reader) == _ports_of(frontend.state()), "the same addresses and ports")


def _added_up(reader: Program) -> set[str]:
    there: set[str] = set()
    for told in reader.lines():
        for event in told:
            what, _, rest = event.partition(" ")
            (there.add if what == "add" else there.discard)(rest)
    return there


def _ports_of(state: list[Any]) -> set[str]:
    return {
        f"{service['Namespace']}/{service['Name']} {ip} {port['Port']}/{port['Protocol']}"
        for service in (item["Service"] for item in state)
        for ips in service.get("IPs", {}).values()
        if isinstance(ips, dict)
        for family in ips.values()
        for ip in family
        for port in service.get("Ports", [])
    }
