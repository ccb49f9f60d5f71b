"""SCTP associations through services, of raw sockets: no kernel here needs to know SCTP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from blixt_backend.testing.traffic import TalkError, Target, sctp
from blixt_lab import Host, manifests
from blixt_lab.world import Space, World

pytestmark = pytest.mark.lab

PORT, SERVER_PORT, CLIENT_PORT = 2905, 9000, 40000
PATIENCE = 5.0
Result = TypeVar("Result")


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("port", [PORT, SERVER_PORT], ids=["other-port", "same-port"])
@pytest.mark.parametrize(
    ("client", "endpoint", "seen"),
    [
        pytest.param("client1", "1-1", "client1", id="outside-local"),
        pytest.param("client1", "2-1", "node1", id="outside-masqueraded"),
        pytest.param("pod-1-2", "1-1", "pod-1-2", id="pod-same-node"),
        pytest.param("pod-2-2", "1-1", "pod-2-2", id="pod-other-node"),
        pytest.param("node1", "1-1", "node1", id="node-own-pod"),
        pytest.param("node1", "2-1", "node1", id="node-other-nodes-pod"),
    ],
)
def test_an_association_begins_talks_and_ends(
    world: World, space: Space, client: str, endpoint: str, seen: str, port: int, version: int
) -> None:
    serve(space, world.pod(endpoint), port=port)
    host = world.cluster[client]
    link = host.call(lambda: sctp.open_socket(version))
    target = target_of(space, version, inside=client != "client1", port=port)

    async def exchange() -> tuple[str, str]:
        with contextlib.closing(link):
            answer = await sctp.ask(target, CLIENT_PORT, link, PATIENCE)
        return answer.server, answer.client

    served = serving([world.pod(endpoint)], version, exchange())
    assert served == (f"pod-{endpoint}", address_of(world.cluster[seen], version))
    states = list(space.known_flows("node2" if client == "pod-2-2" else "node1"))
    assert {row["protocol"] for row in states} == {"SCTP"}


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("client", ["client1", "pod-1-2", "node1"])
def test_without_an_endpoint_it_is_refused(world: World, space: Space, client: str, version: int) -> None:
    serve(space)
    link = world.cluster[client].call(lambda: sctp.open_socket(version))
    target = target_of(space, version, inside=client != "client1")

    async def refused() -> str:
        with contextlib.closing(link), pytest.raises(TalkError) as caught:
            await sctp.ask(target, CLIENT_PORT, link, PATIENCE)
        return caught.value.reason

    assert asyncio.run(refused()) == "refused"


@pytest.mark.parametrize("version", [4, 6])
def test_it_keeps_its_endpoint_until_that_goes(world: World, space: Space, version: int) -> None:
    first, *others = world.pods("1-1", "1-2", "2-1")
    serve(space, first)
    link = world.cluster.client.call(lambda: sctp.open_socket(version))

    async def life() -> list[str]:
        answers = []
        with contextlib.closing(link):
            association = sctp.Association(target_of(space, version), CLIENT_PORT, link)
            await association.open(PATIENCE)
            answers.append((await association.ask("one", PATIENCE)).server)
            await asyncio.to_thread(serve, space, first, *others)
            answers += [(await association.ask(f"turn-{turn}", PATIENCE)).server for turn in range(8)]
            await asyncio.to_thread(serve, space, others[0])
            with pytest.raises(TalkError, match="refused"):
                await association.ask("gone", PATIENCE)
            await association.open(PATIENCE)
            answers.append((await association.ask("again", PATIENCE)).server)
        return answers

    answers = serving([first, *others], version, life())
    assert answers == [first.name] * 9 + [others[0].name]


def serving(pods: list[Host], version: int, client: Coroutine[Any, Any, Result]) -> Result:
    """What becomes of a client while all these pods answer."""

    async def both() -> Result:
        async with contextlib.AsyncExitStack() as stack:
            for pod, link in links:
                await stack.enter_async_context(sctp.serving(pod.name, SERVER_PORT, link))
            return await client

    links = [(pod, pod.call(lambda: sctp.open_socket(version))) for pod in pods]
    return asyncio.run(both())


def serve(space: Space, *pods: Host, port: int = PORT) -> None:
    """A Service on all addresses of the space, its one port SCTP."""
    ports = [{"name": "sig", "protocol": "SCTP", "port": port, "targetPort": SERVER_PORT}]
    made = manifests.service(space.name, space.inside, external=space.outside, ports=ports)
    slices = [dict(each) for each in manifests.slices(space.name, pods)]
    for each in slices:
        each["ports"] = [{"name": "sig", "protocol": "SCTP", "port": SERVER_PORT}]
    space.apply(made, *slices)


def target_of(space: Space, version: int, *, inside: bool = False, port: int = PORT) -> Target:
    addresses = space.inside if inside else space.outside
    return Target("sctp", addresses[version == 6], port)


def address_of(host: Host, version: int) -> str:
    return host.address4 if version == 4 else host.address6
