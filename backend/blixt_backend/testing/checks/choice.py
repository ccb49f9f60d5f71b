"""Which endpoint a new connection gets."""

from __future__ import annotations

import contextlib
import math

from blixt_backend.model import Algorithm, Origin
from blixt_backend.planes.capabilities import Capability
from blixt_backend.testing.kit import Kit, answer, check
from blixt_backend.testing.services import (
    BALANCER,
    CLUSTER,
    CLUSTER_OTHER,
    Kind,
    endpoint,
    refused_share,
    service,
)

_DRAWS = 240


def _near(kit: Kit, kind: Kind, what: str, count: int, share: float) -> None:
    """Five standard deviations of so many draws: a right plane fails once in two million runs."""
    off = abs(count - _DRAWS * share)
    most = 5 * math.sqrt(_DRAWS * share * (1 - share))
    if off > most:
        raise AssertionError(
            f"{what} got {count} of {_DRAWS} connections by {kind}; the weights say {_DRAWS * share:.0f}"
        )


@check(Capability.WEIGHTS, Capability.LOAD_BALANCER_IPS)
async def weights(kit: Kit) -> None:
    """Groups get connections by weight; the endpoints of one group share it evenly."""
    pod1, pod2, far = kit.lab.pods
    await kit.apply(
        service(
            endpoint(pod1, group=1, weight=3),
            endpoint(far, group=1, weight=3),
            endpoint(pod2, group=2, weight=1),
            balancer=BALANCER,
            cluster=None,
            origin=Origin.GATEWAY_LISTENER,
        )
    )
    for kind in kit.kinds:
        got = await kit.spread(kit.lab.client, BALANCER.target(kind), _DRAWS)
        for name, share in (("pod1", 3 / 8), ("far", 3 / 8), ("pod2", 1 / 4)):
            _near(kit, kind, name, got[name], share)


@check(Capability.REJECT_SHARES, Capability.LOAD_BALANCER_IPS)
async def reject_shares(kit: Kit) -> None:
    """A route's backend without endpoints keeps its share: those connections get no answer."""
    await kit.apply(
        service(
            endpoint(kit.lab.pod1, group=1),
            refused_share(2),
            balancer=BALANCER,
            cluster=None,
            origin=Origin.GATEWAY_LISTENER,
        )
    )
    # Refused UDP of a Gateway is dropped, which takes its time: one family will do.
    for kind in kit.kinds[:1]:
        got = await kit.spread(kit.lab.client, BALANCER.target(kind), _DRAWS)
        _near(kit, kind, "pod1", got["pod1"], 1 / 2)
    await kit.apply(
        service(refused_share(1), balancer=BALANCER, cluster=None, origin=Origin.GATEWAY_LISTENER)
    )
    kit.expect_nobody("a share that is all", await kit.outcomes(kit.lab.client, BALANCER, 0.5))


@check(Capability.AFFINITY, Capability.CLUSTER_IPS)
async def affinity(kit: Kit) -> None:
    """A client's connections go to one endpoint while it is there, then to another one."""
    pods = kit.lab.pods
    for kind in kit.kinds:
        await kit.apply()
        await kit.apply(service(*map(endpoint, pods), affinity_seconds=600))
        got = await kit.spread(kit.lab.pod2, CLUSTER.target(kind), 20)
        kit.expect("endpoints of a client with affinity", {kind: str(len(got))}, "1")
        (first,) = got
        left = [endpoint(pod) for pod in pods if pod.name != first]
        await kit.apply(service(*left, affinity_seconds=600))
        got = await kit.spread(kit.lab.pod2, CLUSTER.target(kind), 10)
        kit.expect("endpoints after the first one left", {kind: str(len(got))}, "1")
        kit.expect_nobody("the endpoint that left", {kind: "refused" if first not in got else first})


@check(Capability.LEAST_CONNECTIONS, Capability.TCP, Capability.CLUSTER_IPS)
async def least_connections(kit: Kit) -> None:
    """New connections avoid the endpoint that has many."""
    least = Algorithm.LEAST_CONNECTIONS
    for kind in [kind for kind in kit.kinds if kind.protocol.name == "TCP"]:
        target = CLUSTER.target(kind)
        await kit.apply(service(endpoint(kit.lab.pod1), algorithm=least))
        async with contextlib.AsyncExitStack() as held:
            for _ in range(12):
                opened = await held.enter_async_context(kit.conversation(kit.lab.pod2, target))
                kit.expect("the only endpoint", {kind: await answer(opened)}, "pod1")
            await kit.apply(service(endpoint(kit.lab.pod1), endpoint(kit.lab.far), algorithm=least))
            others = 0
            for _ in range(8):
                opened = await held.enter_async_context(kit.conversation(kit.lab.pod2, target))
                others += await answer(opened) == "far"
            kit.expect("most new connections avoid it", {kind: str(others >= 6)}, "True")


@check(Capability.CLUSTER_IPS)
async def every_endpoint(kit: Kit) -> None:
    """Each endpoint gets some of the connections."""
    await kit.apply(service(*map(endpoint, kit.lab.pods)))
    for kind in kit.kinds:
        got = await kit.spread(kit.lab.pod1, CLUSTER.target(kind), 60)
        kit.expect("who answered 60 connections", {kind: "+".join(sorted(got))}, "far+pod1+pod2")


@check(Capability.CLUSTER_IPS)
async def an_address_moves(kit: Kit) -> None:
    """One change takes an address from a service and gives it to another."""
    await kit.apply(service(endpoint(kit.lab.pod1)))
    await kit.apply(service(endpoint(kit.lab.pod2), name="heir"))
    kit.expect("the heir's endpoint", await kit.outcomes(kit.lab.pod1), "pod2")


@check(Capability.CLUSTER_IPS)
async def a_service_leaves_others_alone(kit: Kit) -> None:
    """A change of one service is none of another's."""
    stays = service(endpoint(kit.lab.pod1), name="stays", cluster=CLUSTER_OTHER)
    await kit.apply(stays, service(endpoint(kit.lab.pod2)))
    await kit.apply(stays)
    kit.expect("the service that stays", await kit.outcomes(kit.lab.pod2, CLUSTER_OTHER), "pod1")
    kit.expect_nobody("the one that is gone", await kit.outcomes(kit.lab.pod1, CLUSTER, 0.5))
