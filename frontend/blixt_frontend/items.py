"""What translation makes and the store keeps: model items, encoded once, with small variants by node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

import msgspec

#: A serialized localv1 Service, Endpoint or Node; None: the item is not there for whose variant this is.
Encoded = bytes | None


class ItemKind(IntEnum):
    """What an item is. KPNG's order within a round depends on it."""

    SERVICE = 1
    POD_ENDPOINT = 2
    ENDPOINT = 3
    #: Of one node, and for it alone.
    NODE = 4


@dataclass(frozen=True, slots=True)
class Topology:
    """Where a watching node stands. An unknown node has no zone."""

    node: str
    zone: str = ""


#: Most items have no variants; a shared mapping spares each its own.
NO_VARIANTS: Mapping[str, Encoded] = MappingProxyType({})


# A struct is made in a tenth of a dataclass's time, and there are as many items as endpoints in the cluster.
# gc=False: it holds only strings and bytes, never a cycle.
class Item(msgspec.Struct, frozen=True, gc=False):
    """One Service, Endpoint or Node of the model, for every node at once.

    The variant for a node is `nodes[node]`, else `zones[zone]`, else `default`. An item costs one encoding
    and one more for each node or zone that sees it differently, whatever the number of nodes that watch.
    """

    kind: ItemKind
    #: `namespace/name` of a service, `namespace/name/key` of an endpoint (the key without a slash), a node's
    #: name.
    path: str
    default: Encoded
    zones: Mapping[str, Encoded] = NO_VARIANTS
    nodes: Mapping[str, Encoded] = NO_VARIANTS
    #: KPNG's readers would misuse it (a reject share, an endpoint that only drains): not on localv1's stream.
    blixt_only: bool = False

    def variant(self, topology: Topology) -> Encoded:
        """The item's bytes for one node, or None where that node must not have it."""
        if topology.node in self.nodes:
            return self.nodes[topology.node]
        return self.zones.get(topology.zone, self.default)
