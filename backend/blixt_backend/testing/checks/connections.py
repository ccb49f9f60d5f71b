"""What becomes of connections when services and endpoints change."""

from __future__ import annotations

import contextlib

from blixt_backend.model import Protocol
from blixt_backend.planes.capabilities import Capability
from blixt_backend.testing.kit import PATIENCE, Kit, answer, check
from blixt_backend.testing.services import CLUSTER, EXTERNAL, Kind, endpoint, service, terminating
from blixt_backend.testing.traffic import Conversation


async def _opened(kit: Kit, stack: contextlib.AsyncExitStack, by: str) -> dict[Kind, Conversation]:
    """A conversation of each kind that `by` has answered already."""
    opened = {
        kind: await stack.enter_async_context(kit.conversation(kit.lab.pod2, CLUSTER.target(kind)))
        for kind in kit.kinds
    }
    kit.expect("before the change", {kind: await answer(each) for kind, each in opened.items()}, by)
    return opened


@check(Capability.KEEPS_CONNECTIONS, Capability.CLUSTER_IPS)
async def keeps_connections(kit: Kit) -> None:
    """Connections go on while endpoints come and go beside theirs, and addresses and policies change."""
    pod1, pod2, far = map(endpoint, kit.lab.pods)
    await kit.apply(service(pod1))
    async with contextlib.AsyncExitStack() as stack:
        opened = await _opened(kit, stack, "pod1")
        for view in (
            service(pod1, pod2, far),
            service(pod1, far, external=EXTERNAL),
            service(pod1, far, affinity_seconds=600),
            service(pod1, far, external_traffic_local=True),
            service(pod1),
        ):
            await kit.apply(view)
            got = {kind: await answer(each) for kind, each in opened.items()}
            kit.expect("connections through a change", got, "pod1")
        await kit.resync(service(pod1))
        got = {kind: await answer(each) for kind, each in opened.items()}
        kit.expect("connections through a resync", got, "pod1")


@check(Capability.RESETS, Capability.TCP, Capability.CLUSTER_IPS)
async def resets(kit: Kit) -> None:
    """TCP to an endpoint that is gone ends at its next word, and doesn't hang."""
    await kit.apply(service(endpoint(kit.lab.pod1), endpoint(kit.lab.far)))
    for kind in [kind for kind in kit.kinds if kind.protocol is Protocol.TCP]:
        await kit.apply(service(endpoint(kit.lab.pod1)))
        async with kit.conversation(kit.lab.pod2, CLUSTER.target(kind)) as opened:
            kit.expect("before", {kind: await answer(opened)}, "pod1")
            await kit.apply(service(endpoint(kit.lab.far)))
            kit.expect("after its endpoint left", {kind: await answer(opened)}, {"reset", "closed"})
        kit.expect("a new connection", {kind: await kit.outcome(kit.lab.pod2, CLUSTER.target(kind))}, "far")


@check(Capability.DRAINING, Capability.CLUSTER_IPS)
async def draining(kit: Kit) -> None:
    """A terminating endpoint keeps its TCP connections, and gets no new ones."""
    await kit.apply(service(endpoint(kit.lab.pod1)))
    async with contextlib.AsyncExitStack() as stack:
        opened = await _opened(kit, stack, "pod1")
        await kit.apply(service(terminating(kit.lab.pod1), endpoint(kit.lab.far)))
        for _ in range(6):
            kit.expect("new connections", await kit.outcomes(kit.lab.pod2), "far")
        got = {kind: await answer(each) for kind, each in opened.items()}
        tcp = {kind: outcome for kind, outcome in got.items() if kind in _tcp(kit)}
        kit.expect("connections to a terminating endpoint", tcp, "pod1")


def _tcp(kit: Kit) -> list[Kind]:
    return [kind for kind in kit.kinds if kind.protocol is Protocol.TCP]


@check(Capability.UDP_MOVES, Capability.UDP, Capability.CLUSTER_IPS)
async def udp_moves(kit: Kit) -> None:
    """Datagrams of one socket go to another endpoint when theirs is gone."""
    for kind in [kind for kind in kit.kinds if kind.protocol is Protocol.UDP]:
        await kit.apply(service(endpoint(kit.lab.pod1)))
        async with kit.conversation(kit.lab.pod2, CLUSTER.target(kind)) as opened:
            kit.expect("before", {kind: await answer(opened)}, "pod1")
            await kit.apply(service(endpoint(kit.lab.far)))
            kit.expect("after its endpoint left", {kind: await answer(opened)}, "far")


@check(Capability.UDP_MOVES, Capability.UDP, Capability.CLUSTER_IPS)
async def udp_finds_the_first_endpoint(kit: Kit) -> None:
    """A socket that asked a service without endpoints is answered when the first one is there."""
    for kind in [kind for kind in kit.kinds if kind.protocol is Protocol.UDP]:
        await kit.apply(service())
        async with kit.conversation(kit.lab.pod2, CLUSTER.target(kind)) as opened:
            kit.expect_nobody("without endpoints", {kind: await answer(opened, 0.3)})
            await kit.apply(service(endpoint(kit.lab.pod1)))
            kit.expect("with the first one", {kind: await answer(opened, PATIENCE)}, "pod1")
