"""Starting, stopping, crashing and cleaning up."""

from __future__ import annotations

import contextlib

from blixt_backend.planes.capabilities import Capability
from blixt_backend.testing.kit import IMPATIENCE, Kit, answer, check
from blixt_backend.testing.services import CLUSTER, CLUSTER_OTHER, endpoint, service


@check(Capability.CLUSTER_IPS)
async def a_resync_sweeps(kit: Kit) -> None:
    """What a resync doesn't name goes, and what it names is there, whatever was there before."""
    stays = service(endpoint(kit.lab.pod1), name="stays", cluster=CLUSTER_OTHER)
    await kit.apply(stays, service(endpoint(kit.lab.pod1)))
    await kit.resync(stays)
    kit.expect("the one it names", await kit.outcomes(kit.lab.pod2, CLUSTER_OTHER), "pod1")
    kit.expect_nobody("the other one", await kit.outcomes(kit.lab.pod2, CLUSTER, IMPATIENCE))


@check(Capability.CLUSTER_IPS)
async def a_new_process_sweeps(kit: Kit) -> None:
    """What a killed process left, and nobody wants any more, goes with the first resync of the next one."""
    stays = service(endpoint(kit.lab.pod1), name="stays", cluster=CLUSTER_OTHER)
    await kit.apply(stays, service(endpoint(kit.lab.pod1)))
    kit.kill()
    await kit.start()
    await kit.resync(stays)
    kit.expect("the one it names", await kit.outcomes(kit.lab.pod2, CLUSTER_OTHER), "pod1")
    kit.expect_nobody("the other one", await kit.outcomes(kit.lab.pod2, CLUSTER, IMPATIENCE))


@check(Capability.OUTLIVES_PROCESS, Capability.CLUSTER_IPS)
async def outlives_a_crash(kit: Kit) -> None:
    """Connections go on, and new ones are served, after SIGKILL and over the next start and resync."""
    view = service(endpoint(kit.lab.pod1))
    await kit.apply(view)
    async with contextlib.AsyncExitStack() as stack:
        opened = {
            kind: await stack.enter_async_context(kit.conversation(kit.lab.pod2, CLUSTER.target(kind)))
            for kind in kit.kinds
        }

        async def all_is_well(when: str) -> None:
            got = {kind: await answer(each) for kind, each in opened.items()}
            kit.expect(f"open connections {when}", got, "pod1")
            kit.expect(f"new connections {when}", await kit.outcomes(kit.lab.pod2), "pod1")

        await all_is_well("before")
        kit.kill()
        await all_is_well("without a process")
        await kit.start()
        await all_is_well("after the next start")
        await kit.resync(view)
        await all_is_well("after its resync")


@check(Capability.OUTLIVES_PROCESS, Capability.CLUSTER_IPS)
async def outlives_a_stop(kit: Kit) -> None:
    """What was applied stays in force after stop."""
    await kit.apply(service(endpoint(kit.lab.pod1)))
    await kit.stop()
    kit.expect("after stop", await kit.outcomes(kit.lab.pod2), "pod1")


@check(Capability.CLUSTER_IPS)
async def cleanup_removes(kit: Kit) -> None:
    """A plane that was only made, not started, takes away all that its kind left; twice is no error."""
    await kit.apply(service(endpoint(kit.lab.pod1)))
    await kit.stop()
    for _ in range(2):
        await kit.cleanup()
        kit.expect_nobody("after a cleanup", await kit.outcomes(kit.lab.pod2, CLUSTER, IMPATIENCE))
