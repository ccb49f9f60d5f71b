"""Session affinity by client address: for whom, how long, and what ends it."""

from __future__ import annotations

import itertools
import socket
import time
from typing import Any

import pytest

from blixt_lab import Host, wait_for
from blixt_lab.manifests import terminating
from blixt_lab.traffic import Target, ask
from blixt_lab.world import KINDS, Space, World

pytestmark = pytest.mark.lab

#: Below those that sockets get by themselves.
_client_ports = itertools.count(11_000)


def sticky(seconds: int) -> dict[str, Any]:
    return {
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}},
    }


def chosen(client: Host, target: Target, count: int = 1) -> str:
    """The one endpoint that new conversations get, each by a port that no other has had: UDP has no end."""
    own = client.address4 if target.family == socket.AF_INET else client.address6
    servers = {client.do(ask(target, source=(own, next(_client_ports)))).server for _ in range(count)}
    (name,) = servers
    return name


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_client_that_stays_away_long_enough_may_get_another_endpoint(
    world: World, space: Space, kind: tuple[str, int]
) -> None:
    space.serve(*world.cluster.pods, **sticky(2))
    client, target = world.cluster.client, space.target(kind)
    first = chosen(client, target)

    def other_after_a_while() -> bool:
        time.sleep(4)
        return chosen(client, target) != first

    wait_for(other_after_a_while, "another endpoint", timeout=100)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("client", ["client1", "pod-1-2", "node1"])
def test_every_client_stays_with_its_endpoint(
    world: World, space: Space, kind: tuple[str, int], client: str
) -> None:
    space.serve(*world.cluster.pods, **sticky(3600))
    assert chosen(world.cluster[client], space.target(kind), 40)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_an_endpoint_that_terminates_is_left(world: World, space: Space, kind: tuple[str, int]) -> None:
    pods = world.cluster.pods
    space.serve(*pods, **sticky(3600))
    client, target = world.cluster.client, space.target(kind)
    first = chosen(client, target, 20)
    space.serve(*(terminating(pod) if pod.name == first else pod for pod in pods), **sticky(3600))
    second = chosen(client, target, 20)
    assert second != first
    # It is not gone back to either when it is ready again: the client has another one now.
    space.serve(*pods, **sticky(3600))
    assert chosen(client, target, 20) == second
