"""Traffic policies, and services without a usable endpoint."""

from __future__ import annotations

from blixt_backend.model import Scope
from blixt_backend.planes.capabilities import Capability
from blixt_backend.testing.kit import IMPATIENCE, Kit, check
from blixt_backend.testing.services import CLUSTER, EXTERNAL, endpoint, service, terminating

#: What the frontend says of an endpoint on another node under policy Local.
_NOT_EXTERNAL = Scope.INTERNAL | Scope.CLUSTER
_NOT_INTERNAL = Scope.EXTERNAL | Scope.CLUSTER


@check(Capability.EXTERNAL_LOCAL, Capability.EXTERNAL_IPS)
async def external_local(kit: Kit) -> None:
    """Clients outside get this node's endpoints only, and nobody where it has none."""
    local, far = kit.lab.pod1, endpoint(kit.lab.far, _NOT_EXTERNAL)
    await kit.apply(service(endpoint(local), far, external=EXTERNAL, external_traffic_local=True))
    for _ in range(6):
        kit.expect("the client", await kit.outcomes(kit.lab.client, EXTERNAL), "pod1")
    await kit.apply(service(far, external=EXTERNAL, external_traffic_local=True))
    got = await kit.outcomes(kit.lab.client, EXTERNAL, IMPATIENCE)
    kit.expect_nobody("without an endpoint on the node", got)


@check(Capability.INTERNAL_LOCAL, Capability.CLUSTER_IPS)
async def internal_local(kit: Kit) -> None:
    """Pods get this node's endpoints only by the cluster IP, and nobody where it has none."""
    far = endpoint(kit.lab.far, _NOT_INTERNAL)
    await kit.apply(service(endpoint(kit.lab.pod1), far, internal_traffic_local=True))
    for _ in range(6):
        kit.expect("pod2", await kit.outcomes(kit.lab.pod2), "pod1")
    await kit.apply(service(far, internal_traffic_local=True))
    got = await kit.outcomes(kit.lab.pod2, patience=IMPATIENCE)
    kit.expect_nobody("without an endpoint on the node", got)


@check(Capability.LOCAL_DROPS, Capability.EXTERNAL_LOCAL, Capability.EXTERNAL_IPS)
async def local_drops(kit: Kit) -> None:
    """Without an endpoint on the node, though there are others, packets from outside are dropped."""
    far = endpoint(kit.lab.far, _NOT_EXTERNAL)
    await kit.apply(service(far, external=EXTERNAL, external_traffic_local=True))
    got = await kit.outcomes(kit.lab.client, EXTERNAL, IMPATIENCE)
    kit.expect("without an endpoint on the node", got, "timeout")


@check(Capability.SHORT_CIRCUIT, Capability.EXTERNAL_IPS)
async def short_circuit(kit: Kit) -> None:
    """Pods reach endpoints on other nodes by the external IP, whatever the policy for outsiders is."""
    far = endpoint(kit.lab.far, _NOT_EXTERNAL)
    await kit.apply(service(far, external=EXTERNAL, external_traffic_local=True))
    kit.expect("pod1 to the external IP", await kit.outcomes(kit.lab.pod1, EXTERNAL), "far")


@check(Capability.REFUSES, Capability.CLUSTER_IPS)
async def refuses(kit: Kit) -> None:
    """Without any endpoint, clients are told so at once; with one again, they are served."""
    await kit.apply(service())
    kit.expect("pod2, no endpoint", await kit.outcomes(kit.lab.pod2), "refused")
    await kit.apply(service(endpoint(kit.lab.pod1)))
    kit.expect("pod2, the first endpoint", await kit.outcomes(kit.lab.pod2), "pod1")
    await kit.apply(service())
    kit.expect("pod2, the last one gone", await kit.outcomes(kit.lab.pod2), "refused")


@check(Capability.REFUSES, Capability.EXTERNAL_IPS)
async def refuses_outside(kit: Kit) -> None:
    """The same for clients outside."""
    await kit.apply(service(external=EXTERNAL))
    kit.expect("the client, no endpoint", await kit.outcomes(kit.lab.client, EXTERNAL), "refused")


@check(Capability.TERMINATING_FALLBACK, Capability.CLUSTER_IPS)
async def terminating_fallback(kit: Kit) -> None:
    """A terminating endpoint that the frontend chose, since no other is there, gets new connections."""
    chosen = terminating(kit.lab.pod1, Scope.INTERNAL | Scope.EXTERNAL | Scope.CLUSTER)
    await kit.apply(service(chosen))
    kit.expect("pod2 to the cluster IP", await kit.outcomes(kit.lab.pod2, CLUSTER), "pod1")
