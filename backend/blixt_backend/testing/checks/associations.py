"""SCTP: associations by a service's address and port."""

from __future__ import annotations

import contextlib
import itertools

from blixt_backend.model import Protocol
from blixt_backend.planes.capabilities import Capability
from blixt_backend.testing.host import Host
from blixt_backend.testing.kit import PATIENCE, Kit, check
from blixt_backend.testing.lab import SCTP_PORT
from blixt_backend.testing.services import CLUSTER, SIGNALLING, Kind, endpoint, service, with_sctp
from blixt_backend.testing.traffic import TalkError, Target, sctp

#: Each has one of its own: the kernel keeps what it has of one for a while, ended or not.
_client_ports = itertools.count(40000)


@check(Capability.SCTP, Capability.CLUSTER_IPS)
async def sctp_associations(kit: Kit) -> None:
    """An association begins, talks and ends with right checksums, and is refused without an endpoint."""
    await kit.apply(with_sctp(service(endpoint(kit.lab.pod1))))
    kit.expect("pod2 to the SCTP port", await _outcomes(kit), "pod1")
    if kit.claims(Capability.REFUSES):
        await kit.apply(with_sctp(service()))
        kit.expect("pod2 to an SCTP port without endpoints", await _outcomes(kit), "refused")


async def _outcomes(kit: Kit) -> dict[Kind, str]:
    versions = {Capability.IPV4: 4, Capability.IPV6: 6}
    kinds = [Kind(Protocol.SCTP, version) for claim, version in versions.items() if kit.claims(claim)]
    return {kind: await _outcome(kit.lab.pod1, kit.lab.pod2, kind.version) for kind in kinds}


async def _outcome(server: Host, client: Host, version: int) -> str:
    target = Target("sctp", CLUSTER.of(version), SIGNALLING)
    answering = server.call(lambda: sctp.open_socket(version))
    asking = client.call(lambda: sctp.open_socket(version))
    async with sctp.serving(server.name, SCTP_PORT, answering):
        with contextlib.closing(asking):
            try:
                return (await sctp.ask(target, next(_client_ports), asking, PATIENCE)).server
            except TalkError as error:
                return error.reason
