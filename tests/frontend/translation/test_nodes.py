"""What a node is told of itself."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from blixt_api import localv1_pb2 as wire
from blixt_frontend.items import ItemKind, Topology
from blixt_frontend.objects import Node, ObjectMeta
from blixt_frontend.objects.core import DELETION_TAINT, NodeSpec, Taint
from blixt_frontend.source import Batch, ObjectKey
from blixt_frontend.translator import Translator

DELETED = datetime(2026, 1, 1, tzinfo=UTC)


def node(*taints: str, deleted: bool = False, zone: str = "", unschedulable: bool = False) -> Node:
    labels = {"topology.kubernetes.io/zone": zone} if zone else {}
    return Node(
        metadata=ObjectMeta(name="n1", labels=labels, deletion_timestamp=DELETED if deleted else None),
        spec=NodeSpec(taints=tuple(Taint(key=key) for key in taints), unschedulable=unschedulable),
    )


def told(translator: Translator, *objects: Node) -> bool | None:
    """Whether the node is told that it is leaving; None: it is told nothing."""
    units = translator.apply(Batch(objects, complete=True))
    if not units:
        return None
    (item,) = units["Node /n1"]
    assert (item.kind, item.path, item.default, item.blixt_only) == (ItemKind.NODE, "n1", None, True)
    assert item.variant(Topology("n2")) is None
    return wire.Node.FromString(item.variant(Topology("n1")) or b"").Leaving


@pytest.mark.parametrize(
    ("subject", "leaving"),
    [
        pytest.param(node(), False, id="plain"),
        pytest.param(node("node.kubernetes.io/unreachable", unschedulable=True), False, id="cordoned"),
        pytest.param(node("other", DELETION_TAINT), True, id="tainted"),
        pytest.param(node(deleted=True), True, id="deleted"),
    ],
)
def test_whether_it_is_leaving(subject: Node, leaving: bool) -> None:
    assert told(Translator(), subject) is leaving


def test_a_node_is_told_when_that_changes_and_not_otherwise() -> None:
    translator = Translator()
    assert told(translator, node()) is False
    assert told(translator, node("other", unschedulable=True)) is None
    assert told(translator, node(DELETION_TAINT)) is True
    assert told(translator, node(DELETION_TAINT, zone="a")) is None
    assert told(translator, node(zone="a")) is False
    gone = translator.apply(Batch(deletions=(ObjectKey("Node", "", "n1"),)))
    assert gone == {"Node /n1": ()}
