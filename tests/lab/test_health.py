"""Load balancers ask nodes, from another host and by real packets: is there an endpoint of this Service?"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from blixt_lab import Host, manifests, wait_for
from blixt_lab.manifests import Ready, terminating
from blixt_lab.web import get
from blixt_lab.world import KINDS, Space, World

pytestmark = pytest.mark.lab

_ports = itertools.count(31_000)
HEALTHZ = 10256


@dataclass(frozen=True, slots=True)
class Balanced:
    """A Service that load balancers check."""

    world: World
    space: Space
    port: int

    def put(self, *endpoints: Host | Ready, policy: str = "Local") -> None:
        """As the API server has it: the port goes with the policy."""
        check: dict[str, Any] = {"healthCheckNodePort": self.port} if policy == "Local" else {}
        made = manifests.service(
            self.space.name,
            self.space.inside,
            balancers=self.space.outside,
            externalTrafficPolicy=policy,
            **check,
        )
        self.space.apply(made, *manifests.slices(self.space.name, endpoints))

    def statuses(self, client: Host) -> dict[str, tuple[int, int]]:
        """By node: asked by IPv4, and by IPv6."""
        return {
            node.name: (
                get(client, node.address4, self.port).status,
                get(client, node.address6, self.port).status,
            )
            for node in self.world.cluster.nodes
        }

    def becomes(self, node1: int, node2: int) -> None:
        """What is applied is told; a port comes and goes a moment later."""
        expected = {"node1": (node1, node1), "node2": (node2, node2)}
        client = self.world.cluster.client
        wait_for(lambda: self.statuses(client) == expected, f"the client to be told {expected}", timeout=10)


@pytest.fixture
def balanced(world: World, space: Space) -> Balanced:
    return Balanced(world, space, next(_ports))


def test_nodes_with_an_endpoint_are_told_as_they_come_and_go(world: World, balanced: Balanced) -> None:
    balanced.put()
    balanced.becomes(503, 503)
    balanced.put(*world.pods("1-1", "1-2"))
    balanced.becomes(200, 503)
    balanced.put(*world.pods("2-1"))
    balanced.becomes(503, 200)
    balanced.put(*world.pods("1-1", "2-1"))
    balanced.becomes(200, 200)
    # One that ends serves on, and the load balancer is sent away meanwhile.
    balanced.put(terminating(world.pod("1-1")), world.pod("2-1"))
    balanced.becomes(503, 200)
    balanced.put(Ready(world.pod("2-1"), ready=False, serving=False))
    balanced.becomes(503, 503)


def test_the_answer_is_kube_proxy_s(world: World, balanced: Balanced) -> None:
    balanced.put(*world.pods("1-1", "1-2"))
    balanced.becomes(200, 503)
    node = world.cluster["node1"]
    for address in (node.address4, node.address6):
        told = get(world.cluster.client, address, balanced.port)
        assert json.loads(told.body) == {
            "service": {"namespace": "default", "name": balanced.space.name},
            "localEndpoints": 2,
            "serviceProxyHealthy": True,
        }
        assert told.headers["Content-Type"] == "application/json"
        assert told.headers["X-Content-Type-Options"] == "nosniff"
        assert told.headers["X-Load-Balancing-Endpoint-Weight"] == "2"


def test_the_port_goes_with_the_policy_and_with_the_service(world: World, balanced: Balanced) -> None:
    pods = world.pods("1-1")
    balanced.put(*pods)
    balanced.becomes(200, 503)
    balanced.put(*pods, policy="Cluster")
    balanced.becomes(0, 0)
    balanced.put(*pods)
    balanced.becomes(200, 503)
    balanced.space.close()
    balanced.becomes(0, 0)


def test_everyone_reaches_it_on_the_node_s_own_address(world: World, balanced: Balanced) -> None:
    """From another host, from pods of this node and of others, from the node itself: past our programs."""
    balanced.put(*world.pods("1-1", "2-1"))
    balanced.becomes(200, 200)
    cluster = world.cluster
    clients = (*cluster.clients, cluster.control, *cluster.nodes, *world.pods("1-1", "1-2", "2-1"))
    everywhere = {"node1": (200, 200), "node2": (200, 200)}
    assert {host.name: balanced.statuses(host) for host in clients} == {
        host.name: everywhere for host in clients
    }


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("why", ["tainted", "deleted"])
def test_load_balancers_leave_a_node_that_is_being_deleted(
    world: World, space: Space, balanced: Balanced, why: str
) -> None:
    """And nobody else notices: its services go on, and so do their health checks."""
    taint = {"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}
    leaving = manifests.node("node1", taints=[taint] if why == "tainted" else [])
    if why == "deleted":
        leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    client = world.cluster.client

    def statuses(path: str) -> dict[str, tuple[int, int]]:
        return {
            node.name: (
                get(client, node.address4, HEALTHZ, path).status,
                get(client, node.address6, HEALTHZ, path).status,
            )
            for node in world.cluster.nodes
        }

    balanced.put(*world.pods("1-1", "2-1"))
    world.blixt.apply("leaving", [leaving, manifests.node("node2")])
    try:
        assert statuses("/healthz") == {"node1": (503, 503), "node2": (200, 200)}
        assert statuses("/readyz") == statuses("/livez") == {"node1": (200, 200), "node2": (200, 200)}
        balanced.becomes(200, 200)
        assert space.outcomes(client) == dict.fromkeys(KINDS, "1-1")
    finally:
        world.blixt.apply("leaving", [manifests.node("node1"), manifests.node("node2")])
    assert statuses("/healthz") == {"node1": (200, 200), "node2": (200, 200)}
    world.blixt.remove("leaving")


def test_network_programming_latency_is_measured(world: World, space: Space) -> None:
    """From what a slice says of its change; asked for by IPv4 and by IPv6."""
    client = world.cluster.client
    name = "blixt_network_programming_duration_seconds"

    def told(address: str) -> dict[str, float]:
        answer = get(client, address, HEALTHZ, "/metrics")
        assert answer.status == 200
        lines = [line for line in answer.body.splitlines() if line.startswith(name)]
        return {key: float(value) for key, value in (line.split(" ") for line in lines)}

    def put(endpoint: str, age: float) -> None:
        changed = (datetime.now(UTC) - timedelta(seconds=age)).isoformat()
        made = manifests.service(space.name, space.inside, external=space.outside)
        space.apply(made, *manifests.slices(space.name, world.pods(endpoint), trigger=changed))

    def measured(before: dict[str, dict[str, float]], more: int) -> bool:
        """A moment after it is in force."""
        return all(
            told(address)[f"{name}_count"] == values[f"{name}_count"] + more
            for address, values in before.items()
        )

    before = {
        address: told(address) for node in world.cluster.nodes for address in (node.address4, node.address6)
    }
    for count, (endpoint, age) in enumerate((("1-1", 90), ("2-1", 30), ("2-2", 20)), 1):
        put(endpoint, age)
        wait_for(partial(measured, before, count), "the change to be measured")
    for address, earlier in before.items():
        after = told(address)
        assert after[f'{name}_bucket{{le="19"}}'] == earlier[f'{name}_bucket{{le="19"}}']
        assert after[f"{name}_sum"] >= earlier[f"{name}_sum"] + 140


def test_without_the_frontend_nodes_are_well(world: World, balanced: Balanced) -> None:
    balanced.put(world.pod("1-1"))
    with stopped(world.blixt.frontend.pid):
        for node, path in itertools.product(world.cluster.nodes, ("/healthz", "/readyz", "/livez")):
            for address in (node.address4, node.address6):
                assert get(world.cluster.client, address, HEALTHZ, path).status == 200
        balanced.becomes(200, 503)


def test_a_backend_that_is_gone_is_asked_in_vain_and_is_back_with_the_next(
    world: World, balanced: Balanced
) -> None:
    balanced.put(*world.pods("1-1", "2-1"))
    balanced.becomes(200, 200)
    backend = world.blixt.backends["node1"]
    assert backend.terminate() == 0
    try:
        balanced.becomes(0, 200)
    finally:
        backend.start()
    balanced.becomes(200, 200)
