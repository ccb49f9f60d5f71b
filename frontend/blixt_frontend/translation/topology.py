"""Which endpoints get new connections on which node: readiness, traffic policies, topology hints.

The rules are kube-proxy's. For each node there are two sets of endpoints:

- the *Cluster* set: all ready endpoints, or those that topology hints leave of them; if none is ready
  anywhere, those that still serve while they terminate (KEP-1669), without hints;
- the *Local* set: the same of the endpoints on the node itself, without hints.

A traffic policy chooses between the two. Hints count only if every ready endpoint has them and, for the node
in question, at least one matches: node hints before zone hints (KEP-2433, KEP-3015).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import IntFlag
from functools import lru_cache
from typing import NamedTuple

import msgspec


class Scope(IntFlag):
    """localv1.EndpointScopes as flags."""

    NONE = 0
    INTERNAL = 1
    EXTERNAL = 2
    CLUSTER = 4
    ALL = 7


class Policies(NamedTuple):
    """Which traffic stays on its node."""

    internal_local: bool = False
    external_local: bool = False

    @property
    def by_cluster_set(self) -> Scope:
        return Scope.ALL & ~self.by_local_set

    @property
    def by_local_set(self) -> Scope:
        internal = Scope.INTERNAL if self.internal_local else Scope.NONE
        return internal | (Scope.EXTERNAL if self.external_local else Scope.NONE)


class Standing(msgspec.Struct, frozen=True, gc=False):
    """What of an endpoint decides on where it is used."""

    node: str = ""
    ready: bool = True
    #: Serves while it terminates: used where nothing is ready.
    spare: bool = False
    hinted_nodes: frozenset[str] = frozenset()
    hinted_zones: frozenset[str] = frozenset()


class Reach(msgspec.Struct, frozen=True, gc=False):
    """An endpoint's scopes by watching node: in `nodes`, else in `zones`, else `default`."""

    default: Scope
    zones: tuple[tuple[str, Scope], ...] = ()
    nodes: tuple[tuple[str, Scope], ...] = ()

    @property
    def anywhere(self) -> bool:
        """Whether any node sends it new connections."""
        return bool(
            self.default or any(scope for _, scope in self.zones) or any(scope for _, scope in self.nodes)
        )


#: For an endpoint that only keeps the connections it has.
NOWHERE = Reach(Scope.NONE)

ZoneOf = Callable[[str], str]


def reaches(standings: Sequence[Standing], policies: Policies, zone_of: ZoneOf) -> list[Reach]:
    """Each endpoint's reach among those of one family and port. `zone_of` tells a node's zone, or ""."""
    wide, narrow = policies.by_cluster_set, policies.by_local_set
    ready = [standing for standing in standings if standing.ready]
    hints = Hints.of(ready)
    if not hints.nodes and not hints.zones and not narrow and len(ready) == len(standings):
        return [_everywhere(wide, standing.node) for standing in standings]
    local_ready = {standing.node for standing in ready}
    result = []
    for standing in standings:
        in_cluster = standing.ready if ready else standing.spare
        in_local = standing.ready or (standing.spare and standing.node not in local_ready)
        cluster = hints.reach(standing, wide if in_cluster else Scope.NONE)
        here = hints.on_own_node(standing, cluster, zone_of) | (narrow if in_local else Scope.NONE)
        others = tuple(pair for pair in cluster.nodes if pair[0] != standing.node)
        result.append(Reach(cluster.default, cluster.zones, others + _own(standing.node, here)))
    return result


@dataclass(frozen=True, slots=True)
class Hints:
    """The nodes and zones that have hinted endpoints; empty where hints are to be ignored."""

    nodes: Set[str]
    zones: Set[str]

    @classmethod
    def of(cls, ready: Sequence[Standing]) -> Hints:
        nodes, zones = set[str](), set[str]()
        if all(standing.hinted_nodes for standing in ready):
            nodes.update(*(standing.hinted_nodes for standing in ready))
        if all(standing.hinted_zones for standing in ready):
            zones.update(*(standing.hinted_zones for standing in ready))
        return cls(nodes, zones)

    def reach(self, standing: Standing, scope: Scope) -> Reach:
        """Where the endpoint is in the Cluster set, if it is there without hints by `scope`."""
        if not scope:
            return NOWHERE
        return Reach(
            scope,
            tuple((zone, Scope.NONE) for zone in sorted(self.zones - standing.hinted_zones)),
            # Also where they equal the default: a node's variant goes before its zone's.
            tuple((n, scope if n in standing.hinted_nodes else Scope.NONE) for n in sorted(self.nodes)),
        )

    def on_own_node(self, standing: Standing, cluster: Reach, zone_of: ZoneOf) -> Scope:
        node = standing.node
        if node in self.nodes:
            return cluster.default if node in standing.hinted_nodes else Scope.NONE
        if cluster.zones and node:
            return dict(cluster.zones).get(zone_of(node), cluster.default)
        return cluster.default


@lru_cache(maxsize=8192)  # all endpoints of a node share it
def _everywhere(scope: Scope, node: str) -> Reach:
    return Reach(scope, nodes=_own(node, scope))


def _own(node: str, scope: Scope) -> tuple[tuple[str, Scope], ...]:
    return ((node, scope),) if node else ()


class ZoneReader:
    """A `ZoneOf` over a mapping that remembers which nodes it was asked for."""

    def __init__(self, zones: Mapping[str, str]) -> None:
        self._zones = zones
        self.asked: set[str] = set()

    def __call__(self, node: str) -> str:
        self.asked.add(node)
        return self._zones.get(node, "")
