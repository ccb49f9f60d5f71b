"""Whatever is edited, and whatever goes wrong: in the end the source has told what the server holds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blixt_fakes.api_server import CORE, CUSTOM, FakeApiServer, Plain, api_server
from blixt_fakes.follower import following
from blixt_frontend.kubernetes import ApiClient, KubernetesSource
from blixt_frontend.kubernetes.pace import Pace

PACE = Pace(
    page=2, watch=(1000, 2000), silence=0.25, first=0.002, most=0.01, forbidden=0.01, discovery=0.02,
    relook=0.01, settle=0.001,
)  # fmt: skip
KINDS = {"services": "Service", "nodes": "Node", "tcproutes": "TCPRoute"}
PLURALS = st.sampled_from(sorted(KINDS))
NAMES = st.sampled_from("abcd")

Step = Callable[[FakeApiServer], Any]


def value(plural: str, name: str, number: int) -> dict[str, Any]:
    labels = {"number": str(number)}
    return {"metadata": {"name": name, "labels": labels}, "spec": {}}


def put(plural: str, name: str, number: int) -> Step:
    return lambda server: server.put(plural, value(plural, name, number))


def malformed(plural: str, name: str, number: int) -> Step:
    """For a moment: the next version is good again, so that the end is comparable."""

    def step(server: FakeApiServer) -> None:
        server.put(plural, {**value(plural, name, number), "spec": number})
        server.put(plural, value(plural, name, number))

    return step


def delete(plural: str, name: str) -> Step:
    def step(server: FakeApiServer) -> None:
        if ("", name) in server.objects[plural]:
            server.delete(plural, name)

    return step


def refuse(verb: str, plural: str, status: int, times: int) -> Step:
    return lambda server: server.refuse(verb, plural, status, "Trouble", times=times)


def silence(plural: str, name: str) -> Step:
    """Something happens that open watches never tell."""

    def step(server: FakeApiServer) -> None:
        server.hang_watches()
        server.put(plural, value(plural, name, 77))

    return step


async def restart(server: FakeApiServer) -> None:
    await server.stop()
    await server.start()


async def restart_empty(server: FakeApiServer) -> None:
    await server.stop()
    server.lose_everything()
    await server.start()


def change_version(version: str) -> Step:
    return lambda server: setattr(server, "served", {version: set(CUSTOM)})


steps = st.one_of(
    st.builds(put, PLURALS, NAMES, st.integers(0, 2)),
    st.builds(put, PLURALS, NAMES, st.integers(0, 2)),
    st.builds(delete, PLURALS, NAMES),
    st.builds(malformed, PLURALS, NAMES, st.integers(0, 2)),
    st.builds(silence, PLURALS, NAMES),
    st.builds(
        refuse,
        st.sampled_from(("list", "watch")),
        PLURALS,
        st.sampled_from((400, 403, 410, 429, 500)),
        st.integers(1, 3),
    ),
    st.sampled_from(
        [
            lambda server: server.compact(),
            lambda server: server.end_watches(),
            lambda server: server.end_watches(reset=True),
            lambda server: server.send("services", b"garbage\n"),
            lambda server: server.send("nodes", b"{"),
            lambda server: server.bookmark("services"),
            change_version("v1"),
            change_version("v1alpha2"),
            restart,
            restart_empty,
            lambda _: asyncio.sleep(0.003),
            lambda _: asyncio.sleep(0.03),
        ]
    ),
)


def held(server: FakeApiServer) -> dict[tuple[str, str], str]:
    return {
        (kind, name): one["metadata"]["labels"]["number"]
        for plural, kind in {**CORE, **CUSTOM}.items()
        for (_, name), one in server.objects[plural].items()
    }


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, max_size=4), st.lists(steps, max_size=12))
def test_it_converges(before: list[Step], after: list[Step]) -> None:
    async def scenario() -> None:
        async with api_server() as server:
            for step in before:
                await perform(step, server)
            async with (
                ApiClient(Plain(server.url)) as client,
                following(KubernetesSource(client, PACE)) as told,
            ):
                for step in after:
                    await perform(step, server)
                await told.until(lambda: told.complete and numbers(told.objects) == held(server))

    asyncio.run(scenario())


async def perform(step: Step, server: FakeApiServer) -> None:
    outcome = step(server)
    if asyncio.iscoroutine(outcome):
        await outcome


def numbers(objects: Any) -> dict[tuple[str, str], str]:
    return {(key.kind, key.name): one.metadata.labels["number"] for key, one in objects.items()}
