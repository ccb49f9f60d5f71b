"""Whose address an endpoint sees, and that answers find their way back."""

from __future__ import annotations

from blixt_backend.planes.capabilities import Capability
from blixt_backend.testing.kit import Kit, check
from blixt_backend.testing.services import CLUSTER, EXTERNAL, endpoint, service


@check(Capability.SOURCE_KEPT, Capability.EXTERNAL_IPS)
async def source_kept_outside(kit: Kit) -> None:
    """An endpoint of this node sees the address of a client outside."""
    await kit.apply(service(endpoint(kit.lab.pod1), external=EXTERNAL))
    client = kit.lab.client
    for kind in kit.kinds:
        address = client.address4 if kind.version == 4 else client.address6
        kit.expect(
            "the client, as pod1 sees it", {kind: await kit.seen(client, EXTERNAL.target(kind))}, address
        )


@check(Capability.SOURCE_KEPT, Capability.CLUSTER_IPS)
async def source_kept_inside(kit: Kit) -> None:
    """Every endpoint sees a pod's own address."""
    await kit.apply(service(endpoint(kit.lab.far)))
    pod = kit.lab.pod1
    for kind in kit.kinds:
        address = pod.address4 if kind.version == 4 else pod.address6
        kit.expect("pod1, as far sees it", {kind: await kit.seen(pod, CLUSTER.target(kind))}, address)


@check(Capability.MASQUERADE, Capability.EXTERNAL_IPS)
async def masquerade(kit: Kit) -> None:
    """A client outside reaches an endpoint on another node, whose answers come back through this one."""
    await kit.apply(service(endpoint(kit.lab.far), external=EXTERNAL))
    client, node = kit.lab.client, kit.lab.node
    for kind in kit.kinds:
        address = node.address4 if kind.version == 4 else node.address6
        kit.expect(
            "the client, as far sees it", {kind: await kit.seen(client, EXTERNAL.target(kind))}, address
        )


@check(Capability.HAIRPIN, Capability.CLUSTER_IPS)
async def hairpin(kit: Kit) -> None:
    """A pod reaches itself through its service."""
    await kit.apply(service(endpoint(kit.lab.pod1)))
    kit.expect("pod1 to itself", await kit.outcomes(kit.lab.pod1), "pod1")
