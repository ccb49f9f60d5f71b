"""Which addresses and ports a service answers on, and whom."""

from __future__ import annotations

import ipaddress

from blixt_backend.model import Endpoint, PackedAddress, Protocol, SourceFilter
from blixt_backend.planes.capabilities import Capability
from blixt_backend.testing.kit import IMPATIENCE, PATIENCE, Kit, check
from blixt_backend.testing.services import (
    BALANCER,
    CLUSTER,
    EXTERNAL,
    NODE_DNS,
    NODE_HTTP,
    UNDEFINED,
    Kind,
    Pair,
    endpoint,
    packed,
    service,
)


@check(Capability.CLUSTER_IPS)
async def cluster_ips(kit: Kit) -> None:
    """A pod reaches an endpoint by the cluster IP, and nobody when the service is gone."""
    await kit.apply(service(endpoint(kit.lab.pod1)))
    kit.expect("pod2 to the cluster IP", await kit.outcomes(kit.lab.pod2), "pod1")
    await kit.apply()
    kit.expect_nobody("a removed service", await kit.outcomes(kit.lab.pod2, patience=IMPATIENCE))


@check(Capability.NODE_CLIENTS, Capability.CLUSTER_IPS)
async def node_clients(kit: Kit) -> None:
    """A program of the node reaches endpoints by the cluster IP."""
    await kit.apply(service(endpoint(kit.lab.pod1)))
    kit.expect("the node to the cluster IP", await kit.outcomes(kit.lab.node), "pod1")


@check(Capability.EXTERNAL_IPS)
async def external_ips(kit: Kit) -> None:
    """A client outside reaches an endpoint by the external IP."""
    await kit.apply(service(endpoint(kit.lab.pod1), external=EXTERNAL))
    kit.expect("the client to the external IP", await kit.outcomes(kit.lab.client, EXTERNAL), "pod1")


@check(Capability.LOAD_BALANCER_IPS)
async def load_balancer_ips(kit: Kit) -> None:
    """A client outside reaches an endpoint by the load balancer IP."""
    await kit.apply(service(endpoint(kit.lab.pod1), balancer=BALANCER, type="LoadBalancer"))
    kit.expect("the client to the load balancer IP", await kit.outcomes(kit.lab.client, BALANCER), "pod1")


@check(Capability.NODE_PORTS)
async def node_ports(kit: Kit) -> None:
    """A client outside reaches an endpoint by the node's address and the node port, until that is gone."""
    node = Pair(kit.lab.node.address4, kit.lab.node.address6)

    async def outcomes() -> dict[Kind, str]:
        targets = {kind: node.target(kind, NODE_HTTP, NODE_DNS) for kind in kit.kinds}
        return {kind: await kit.outcome(kit.lab.client, target) for kind, target in targets.items()}

    await kit.apply(service(endpoint(kit.lab.pod1), type="NodePort", node_ports=True))
    kit.expect("the client to the node port", await outcomes(), "pod1")
    await kit.apply(service(endpoint(kit.lab.pod1)))
    kit.expect("the client to a node port that is gone", await outcomes(), "refused")


@check(Capability.UNDEFINED_PORTS, Capability.CLUSTER_IPS)
async def undefined_ports(kit: Kit) -> None:
    """A port that the service doesn't have is refused at its cluster IP."""
    await kit.apply(service(endpoint(kit.lab.pod1)))
    targets = {kind: CLUSTER.target(kind, UNDEFINED, UNDEFINED) for kind in kit.kinds}
    got = {kind: await kit.outcome(kit.lab.pod2, target) for kind, target in targets.items()}
    kit.expect("pod2 to an undefined port", got, "refused")


@check(Capability.SOURCE_RANGES, Capability.LOAD_BALANCER_IPS)
async def source_ranges(kit: Kit) -> None:
    """Only clients in the ranges get in, by the addresses that the ranges are for."""
    ours = tuple(
        (PackedAddress(network.network_address.packed), network.prefixlen)
        for network in map(ipaddress.ip_network, (kit.lab.client.address4, kit.lab.client.address6))
    )
    filters = (SourceFilter(packed(BALANCER), ours),)
    await kit.apply(
        service(
            endpoint(kit.lab.pod1),
            balancer=BALANCER,
            external=EXTERNAL,
            type="LoadBalancer",
            source_filters=filters,
        )
    )
    kit.expect("a client in the range", await kit.outcomes(kit.lab.client, BALANCER), "pod1")
    stranger = kit.lab.stranger
    kit.expect_nobody("a client in no range", await kit.outcomes(stranger, BALANCER, IMPATIENCE))
    if kit.claims(Capability.EXTERNAL_IPS):
        kit.expect("an address without ranges", await kit.outcomes(stranger, EXTERNAL), "pod1")


@check(Capability.TCP, Capability.CLUSTER_IPS)
async def tcp_half_closed(kit: Kit) -> None:
    """A client that has said all it had to say still gets every answer, and then the end."""
    await kit.apply(service(endpoint(kit.lab.pod1)))
    for kind in kit.kinds:
        if kind.protocol is Protocol.TCP:
            async with kit.conversation(kit.lab.pod2, CLUSTER.target(kind)) as conversation:
                lines = [f"line-{number}" for number in range(2000)]
                got = await conversation.ask_all(lines, PATIENCE)
                texts = [each.text for each in got]
                kit.expect("answers to a client that half-closed", {kind: str(texts == lines)}, "True")


@check(Capability.UDP, Capability.CLUSTER_IPS)
async def udp_flows_stay(kit: Kit) -> None:
    """Datagrams of one socket keep their endpoint, though others are there."""
    await kit.apply(service(*map(endpoint, kit.lab.pods)))
    for kind in kit.kinds:
        if kind.protocol is Protocol.UDP:
            async with kit.conversation(kit.lab.pod2, CLUSTER.target(kind)) as conversation:
                servers = {(await conversation.ask(f"datagram-{n}", PATIENCE)).server for n in range(10)}
                kit.expect("endpoints of one flow", {kind: str(len(servers))}, "1")


async def _one_family(kit: Kit, version: int) -> None:
    pod = kit.lab.pod1
    address = pod.address4 if version == 4 else pod.address6
    await kit.apply(service(Endpoint("pod1", packed((address,)), local=True)))
    got = await kit.outcomes(kit.lab.pod2, patience=IMPATIENCE)
    own = {kind: outcome for kind, outcome in got.items() if kind.version == version}
    kit.expect("the family that has an endpoint", own, "pod1")
    kit.expect_nobody("the family that has none", {kind: got[kind] for kind in got.keys() - own.keys()})


@check(Capability.IPV4, Capability.CLUSTER_IPS)
async def ipv4_by_itself(kit: Kit) -> None:
    """A service whose endpoints have IPv4 addresses only answers by IPv4 only."""
    await _one_family(kit, 4)


@check(Capability.IPV6, Capability.CLUSTER_IPS)
async def ipv6_by_itself(kit: Kit) -> None:
    """A service whose endpoints have IPv6 addresses only answers by IPv6 only."""
    await _one_family(kit, 6)
