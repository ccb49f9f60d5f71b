"""One Node to its item, which nobody but that node gets."""

from __future__ import annotations

from blixt_api import localv1_pb2 as wire
from blixt_frontend.items import Item, ItemKind
from blixt_frontend.translation.cluster import Cluster, Translation


def translate_node(name: str, cluster: Cluster) -> Translation:
    """What the node should know of itself; nothing, if there is no such Node."""
    node = cluster.nodes.get(name)
    if node is None:
        return Translation()
    encoded = wire.Node(Leaving=node.leaving).SerializeToString()
    return Translation((Item(ItemKind.NODE, name, None, nodes={name: encoded}, blixt_only=True),))
