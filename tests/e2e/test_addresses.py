"""Addresses of Services of type LoadBalancer, from the pool into the status that others read."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import replace
from typing import Any

import pytest

from blixt_control_plane import ControlPlane, user_name
from blixt_control_plane.programs import ROOT
from blixt_fakes.until import until
from blixt_frontend.addresses import LOAD_BALANCER_CLASS, AddressBook, LoadBalancerWrite, Pools, parse_pool
from blixt_frontend.addresses.service_status import ServiceStatusWriter
from blixt_frontend.kubernetes import ApiClient, KubernetesSource
from blixt_frontend.kubernetes.access import Kubeconfig
from blixt_frontend.objects import Service
from blixt_frontend.source import ObjectKey
from blixt_lab import wait_for

ACCOUNT = "blixt-system", "blixt-frontend"
POOL = "203.0.113.1-203.0.113.2"


@pytest.fixture(scope="module")
def plane(shared_control_plane: ControlPlane) -> ControlPlane:
    """With the shipped RBAC, whose rights all of this is done with."""
    shared_control_plane.kubectl("apply", "--server-side", "-k", str(ROOT / "config" / "default"))
    return shared_control_plane


@pytest.fixture
def space(plane: ControlPlane, request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"addresses-{abs(hash(request.node.name)) % 10**8}"
    yield plane.namespace(name)
    plane.delete_namespace(name)


class Term:
    valid = True


class Frontend:
    """The part of a frontend that sees to Services' addresses, in one namespace."""

    def __init__(self, client: ApiClient, writer: ServiceStatusWriter, space: str) -> None:
        self.book = AddressBook(Pools([parse_pool(f"test={POOL}")]))
        self._writer = writer
        self._source = KubernetesSource(client)
        self._space = space

    async def follow(self) -> None:
        waiting: dict[ObjectKey, Service | None] = {}
        async for batch in self._source.events():
            services = [one for one in batch.upserts if isinstance(one, Service)]
            waiting |= {one.key: one for one in services if one.metadata.namespace == self._space}
            waiting |= {key: None for key in batch.deletions if key.kind == "Service"}
            if batch.complete:
                self.book.settle(waiting.items())
                waiting.clear()
                self._writer.offer(self.book.unwritten)


@contextlib.asynccontextmanager
async def client_of(plane: ControlPlane) -> AsyncIterator[ApiClient]:
    config = await asyncio.to_thread(plane.service_account_kubeconfig, *ACCOUNT)
    async with ApiClient(Kubeconfig(config)) as client:
        yield client


@contextlib.asynccontextmanager
async def running(coroutine: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(coroutine)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()


@contextlib.asynccontextmanager
async def writer(plane: ControlPlane) -> AsyncIterator[ServiceStatusWriter]:
    async with client_of(plane) as client:
        made = ServiceStatusWriter(client)
        async with running(made.run(Term())):
            yield made


@contextlib.asynccontextmanager
async def frontend(plane: ControlPlane, space: str) -> AsyncIterator[Frontend]:
    async with writer(plane) as writing, client_of(plane) as client:
        made = Frontend(client, writing, space)
        async with running(made.follow()):
            yield made


def balanced(plane: ControlPlane, space: str, name: str, **spec: Any) -> None:
    body = {
        "metadata": {"name": name},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}], **spec},
    }
    plane.api().post(f"/api/v1/namespaces/{space}/services", body)


def ingress(plane: ControlPlane, space: str, name: str) -> list[dict[str, Any]]:
    status = plane.api().get(f"/api/v1/namespaces/{space}/services/{name}")["status"]
    return list(status["loadBalancer"].get("ingress", []))


async def shows(plane: ControlPlane, space: str, name: str, expected: list[dict[str, Any]]) -> None:
    """Wait until the Service's status has these."""

    def status_is_as_expected() -> bool:
        return ingress(plane, space, name) == expected

    await asyncio.to_thread(wait_for, status_is_as_expected, f"Service {name} to have {expected}", 60)


def vip(number: int) -> list[dict[str, Any]]:
    return [{"ip": f"203.0.113.{number}", "ipMode": "VIP"}]


async def test_services_get_addresses_keep_them_and_pass_them_on(plane: ControlPlane, space: str) -> None:
    balanced(plane, space, "a")
    balanced(plane, space, "other", loadBalancerClass="example.com/other")
    balanced(plane, space, "b", loadBalancerClass=LOAD_BALANCER_CLASS, loadBalancerIP="203.0.113.1")
    async with frontend(plane, space):
        # The one that asks for it by name has it, though the other one is older.
        await shows(plane, space, "b", vip(1))
        await shows(plane, space, "a", vip(2))
        balanced(plane, space, "c")
        await asyncio.sleep(0.3)
        assert ingress(plane, space, "c") == []
        plane.api().delete(f"/api/v1/namespaces/{space}/services/b")
        await shows(plane, space, "c", vip(1))
        assert ingress(plane, space, "other") == []

    # Another frontend, which knows only what the API server has, finds all as it should be.
    mark = plane.audit.mark()
    async with frontend(plane, space) as another:
        await until(lambda: bool(another.book.assignments))
        assert {key.name: one.addresses for key, one in another.book.assignments.items()} == {
            "a": ("203.0.113.2",),
            "c": ("203.0.113.1",),
        }
        await asyncio.sleep(0.3)
    assert plane.audit.writes(mark, user_name(*ACCOUNT)) == []


async def test_an_address_that_somebody_removes_is_written_again(plane: ControlPlane, space: str) -> None:
    balanced(plane, space, "a")
    async with frontend(plane, space):
        await shows(plane, space, "a", vip(1))
        plane.patch_status("service", "a", {"loadBalancer": {"ingress": None}}, space)
        await shows(plane, space, "a", vip(1))


async def test_a_service_of_the_same_name_is_not_taken_for_the_one_that_was_seen(
    plane: ControlPlane, space: str
) -> None:
    balanced(plane, space, "a", loadBalancerClass="example.com/other")
    key = ObjectKey("Service", space, "a")
    uid = plane.api().get(f"/api/v1/namespaces/{space}/services/a")["metadata"]["uid"]
    seen_before = LoadBalancerWrite(key, "4a7cbe5c-0000-0000-0000-000000000000", (), ("203.0.113.1",))
    async with writer(plane) as writing:
        mark = plane.audit.mark()
        writing.offer({key: seen_before})
        await until(lambda: [w.status for w in plane.audit.writes(mark, user_name(*ACCOUNT))] == [422])
        assert ingress(plane, space, "a") == []
        writing.offer({key: replace(seen_before, uid=uid)})
        await shows(plane, space, "a", vip(1))
