"""Datagrams longer than any packet, through services: fragments of both directions find their way."""

from __future__ import annotations

import pytest

from blixt_lab import Host
from blixt_lab.traffic import converse
from blixt_lab.world import Space, World

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("checksums")]

#: Bytes of payload; the fabric takes 1500 in a packet.
_LONG = 8000


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("client", "endpoint", "seen"),
    [
        pytest.param("client1", "1-1", "client1", id="outside-local"),
        pytest.param("client1", "2-1", "node1", id="outside-masqueraded"),
        pytest.param("pod-1-2", "1-1", "pod-1-2", id="pod-same-node"),
        pytest.param("pod-2-2", "1-1", "pod-2-2", id="pod-other-node"),
        pytest.param("pod-1-1", "1-1", "node1", id="pod-itself"),
        pytest.param("node1", "1-1", "node1", id="node-own-pod"),
        pytest.param("node1", "2-1", "node1", id="node-other-nodes-pod"),
    ],
)
def test_a_long_datagram_and_its_answer_arrive_whole(
    world: World, space: Space, client: str, endpoint: str, seen: str, version: int
) -> None:
    space.serve(world.pod(endpoint))
    host, inside = world.cluster[client], client != "client1"

    async def exchange() -> set[str]:
        async with converse(space.target(("udp", version), inside)) as conversation:
            answers = [await conversation.ask(f"{turn}-" + "x" * _LONG, 3) for turn in range(5)]
        assert all(answer.server == f"pod-{endpoint}" for answer in answers)
        return {answer.client for answer in answers}

    before = _fragments_made(host, version)
    assert host.do(exchange()) == {_address(world.cluster[seen], version)}
    assert _fragments_made(host, version) >= before + 5 * 2, "the client's datagrams were not fragmented"


def _address(host: Host, version: int) -> str:
    return host.address4 if version == 4 else host.address6


def _fragments_made(host: Host, version: int) -> int:
    """The kernel's count of fragments that this host has sent."""
    return host.counters()["Ip:FragCreates" if version == 4 else "Ip6FragCreates"]
