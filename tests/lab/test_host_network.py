"""Endpoints on a node's own network, as the API server and ingress controllers are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from blixt_lab.load import start_servers
from blixt_lab.world import KINDS, Space, World

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("checksums", "servers_on_nodes")]


@pytest.fixture(scope="module")
def servers_on_nodes(world: World) -> Iterator[None]:
    servers = start_servers(world.cluster.lab, world.cluster.nodes)
    yield
    for server in servers.values():
        server.kill()


@pytest.mark.parametrize(
    ("client", "endpoint", "seen"),
    [
        pytest.param("client1", "node1", "client1", id="outside-to-the-node-it-comes-in-by"),
        pytest.param("client1", "node2", "node1", id="outside-to-another-node"),
        pytest.param("pod-1-1", "node1", "pod-1-1", id="pod-to-its-node"),
        pytest.param("pod-1-1", "node2", "pod-1-1", id="pod-to-another-node"),
        pytest.param("node1", "node2", "node1", id="node-to-another-node"),
    ],
)
def test_who_reaches_a_node_s_own_endpoint(
    world: World, space: Space, client: str, endpoint: str, seen: str
) -> None:
    space.serve(world.cluster[endpoint])
    assert space.sights(world.cluster[client]) == dict.fromkeys(KINDS, (endpoint, seen))
