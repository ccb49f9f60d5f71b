"""A cluster with daemons and servers as tests use it, and each test's own space of addresses in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blixt_lab import manifests
from blixt_lab.blixt import Blixt
from blixt_lab.cluster import Cluster
from blixt_lab.host import Host
from blixt_lab.load import Server
from blixt_lab.manifests import Manifest, Ready
from blixt_lab.traffic import Answer, TalkError, Target, ask

#: The four kinds of traffic, as (protocol, IP version).
KINDS = (("tcp", 4), ("udp", 4), ("tcp", 6), ("udp", 6))


@dataclass(frozen=True, slots=True)
class World:
    """All there is in the lab."""

    cluster: Cluster
    blixt: Blixt
    servers: Mapping[str, Server]

    def pods(self, *names: str) -> list[Host]:
        """Pods by short names: 1-1 is the first pod of node1."""
        return [self.cluster[f"pod-{name}"] for name in names]

    def pod(self, name: str) -> Host:
        return self.cluster[f"pod-{name}"]


def outcome(client: Host, target: Target, patience: float = 3.0) -> str:
    """Who answered one conversation, without the prefix `pod-`, or why no one did."""
    try:
        return client.do(ask(target, patience=patience)).server.removeprefix("pod-")
    except TalkError as error:
        return error.reason


def outcomes_at(
    client: Host, addresses: tuple[str, str], *, tcp: int = 80, udp: int = 53, patience: float = 3.0
) -> dict[tuple[str, int], str]:
    """The outcome of one conversation of each kind, at an IPv4 and an IPv6 address and these ports."""
    ports = {"tcp": tcp, "udp": udp}
    return {
        (protocol, version): outcome(
            client, Target(protocol, addresses[version == 6], ports[protocol]), patience
        )
        for protocol, version in KINDS
    }


class Space:
    """One test's service addresses: cluster IPs (inside), external IPs (outside); ports 80/TCP, 53/UDP."""

    def __init__(self, world: World, number: int) -> None:
        assert 0 < number < 250 * 250
        self.world = world
        self.name = f"t{number}"
        high, low = divmod(number, 250)
        self.cluster4, self.cluster6 = f"10.96.{high}.{low + 1}", f"fd00:10:96::1:{number:x}"
        self.outside4, self.outside6 = f"198.18.{high}.{low + 1}", f"2001:db8:100::{number:x}"
        #: A second pair like `outside`.
        self.beside = (f"198.19.{high}.{low + 1}", f"2001:db8:100::8:{number:x}")
        self._number = number

    @property
    def inside(self) -> tuple[str, str]:
        return (self.cluster4, self.cluster6)

    @property
    def outside(self) -> tuple[str, str]:
        return (self.outside4, self.outside6)

    def apply(self, *objects: Manifest) -> None:
        """Replace this test's manifests, and wait until they are in force on every node."""
        self.world.blixt.apply(self.name, objects)

    def serve(
        self,
        *endpoints: Host | Ready,
        ports: Mapping[str, int] | None = None,
        algorithm: str = "",
        **spec: Any,
    ) -> None:
        """Put a Service on all of this space's addresses, with these endpoints; `algorithm` by annotation."""
        made = dict(manifests.service(self.name, self.inside, external=self.outside, **spec))
        if algorithm:
            made["metadata"] = {**made["metadata"], "annotations": {"blixt.dev/algorithm": algorithm}}
        numbers: dict[str, Any] = {**(ports or {})}
        self.apply(made, *manifests.slices(self.name, endpoints, **numbers))

    def route(self, weights: Mapping[str, int], backends: Mapping[str, Sequence[Host | Ready]]) -> None:
        """Put a Gateway on the outside addresses, with a TCPRoute and a UDPRoute to backends by weight."""
        names = {f"{self.name}-{name}": endpoints for name, endpoints in backends.items()}
        self.apply(
            *manifests.gateway(self.name, self.outside),
            *manifests.routes(self.name, {f"{self.name}-{name}": weight for name, weight in weights.items()}),
            *manifests.backend_services(names, 100 + self._number % 100),
        )

    def target(self, kind: tuple[str, int], inside: bool = False) -> Target:
        protocol, version = kind
        addresses = self.inside if inside else self.outside
        return Target(protocol, addresses[0 if version == 4 else 1], 80 if protocol == "tcp" else 53)

    def ask(self, client: Host, kind: tuple[str, int], inside: bool = False, patience: float = 3.0) -> Answer:
        """One conversation. Raises TalkError."""
        return client.do(ask(self.target(kind, inside), patience=patience))

    def outcome(
        self, client: Host, kind: tuple[str, int], inside: bool = False, patience: float = 3.0
    ) -> str:
        """Who answered one conversation, without the prefix `pod-`, or why no one did."""
        return outcome(client, self.target(kind, inside), patience)

    def outcomes(
        self,
        client: Host,
        inside: bool = False,
        patience: float = 3.0,
        kinds: Iterable[tuple[str, int]] = KINDS,
    ) -> dict[tuple[str, int], str]:
        """The outcome of one conversation of each kind."""
        return {kind: self.outcome(client, kind, inside, patience) for kind in kinds}

    def sights(self, client: Host, inside: bool = False) -> dict[tuple[str, int], tuple[str, str]]:
        """For each kind, who answered and which client's address it saw (the name of its host)."""
        return self.sights_at(client, self.inside if inside else self.outside)

    def sights_at(
        self, client: Host, addresses: tuple[str, str], tcp: int = 80, udp: int = 53
    ) -> dict[tuple[str, int], tuple[str, str]]:
        """The same at an IPv4 and an IPv6 address, and these ports."""
        seen = {}
        for protocol, version in KINDS:
            target = Target(protocol, addresses[version == 6], tcp if protocol == "tcp" else udp)
            try:
                answer = client.do(ask(target))
            except TalkError as error:
                seen[protocol, version] = (error.reason, "")
            else:
                seen[protocol, version] = (answer.server, self._owner(answer.client))
        return seen

    def known_flows(self, node: str = "node1") -> list[dict[str, Any]]:
        """What a node's packet programs know of flows to these addresses."""
        rows = self.world.blixt.inspect(self.world.cluster[node], "connections")
        return [row for row in rows if row["service"] in (*self.inside, *self.outside)]

    def close(self) -> None:
        self.world.blixt.remove(self.name)

    def _owner(self, address: str) -> str:
        for host in self.world.cluster.hosts:
            if address in (host.address4, host.address6):
                return host.name
        return address
