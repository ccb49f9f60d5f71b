"""Traffic that must not notice what is done meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from blixt_lab.load import hammering, holding
from blixt_lab.traffic import Hammered, Held
from blixt_lab.wait import wait_for
from blixt_lab.world import KINDS, Space, World


@contextlib.contextmanager
def undisturbed(world: World, space: Space) -> Iterator[None]:
    """Connections held open and new ones made, to endpoints of both nodes; none may be lost or fail."""
    client = world.cluster.client
    inside = (world.pod("1-2"), world.cluster["node1"])
    hosts = {host.name: count for host, count in ((client, 25), *((host, 5) for host in inside))}
    with contextlib.ExitStack() as stack:
        held: dict[str, Held] = {
            f"{kind} from {name}": stack.enter_context(
                holding(world.cluster[name], space.target(kind), count, interval=0.1)
            ).result
            for kind in KINDS
            for name, count in hosts.items()
        }
        hammered: dict[str, Hammered] = {
            str(kind): stack.enter_context(hammering(client, space.target(kind), rate=25)).result
            for kind in KINDS
        }
        yield
        tried = sum(result.tried for result in hammered.values())
        wait_for(lambda: sum(result.tried for result in hammered.values()) > tried + 50, "more connections")
    troubles = {
        name: (result.lost, result.moved, dict(result.missed))
        for name, result in held.items()
        if result.lost or result.moved or result.missed
    }
    assert troubles == {}, f"lost, moved, unanswered: {troubles}"
    failures = {name: result.failures for name, result in hammered.items() if result.failures}
    assert failures == {}, f"new connections failed: {failures}"
