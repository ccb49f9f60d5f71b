"""What translation makes and the store keeps: model items, encoded once, with small variants by node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

#: A serialized localv1 Service or Endpoint; None: the item is not there for whoever this is the variant of.
Encoded = bytes | None


class ItemKind(IntEnum):
    """What an item is. KPNG's order within a round depends on it."""

    SERVICE = 1
    POD_ENDPOINT = 2
    ENDPOINT = 3


@dataclass(frozen=True, slots=True)
class Topology:
    """Where a watching node stands. An unknown node has no zone."""

    node: str
    zone: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """One Service or Endpoint of the model, for every node at once.

    The variant for a node is `nodes[node]`, else `zones[zone]`, else `default`. An item costs one encoding
    and one more for each node or zone that sees it differently, whatever the number of nodes that watch.
    """

    kind: ItemKind
    #: `namespace/name` of a service, `namespace/name/key` of an endpoint (the key without a slash).
    path: str
    default: Encoded
    zones: Mapping[str, Encoded] = field(default_factory=dict)
    nodes: Mapping[str, Encoded] = field(default_factory=dict)
    #: KPNG's readers would misuse it (a reject share, an endpoint that only drains): not on localv1's stream.
    blixt_only: bool = False

    def variant(self, topology: Topology) -> Encoded:
        """The item's bytes for one node, or None where that node must not have it."""
        if topology.node in self.nodes:
            return self.nodes[topology.node]
        return self.zones.get(topology.zone, self.default)
