"""From when on nodes are known to have what a Gateway asks for."""

from __future__ import annotations

import pytest

from blixt_frontend.status.programming import Configuration, Programming
from blixt_frontend.status.wanted import Reach
from blixt_frontend.translation.addresses import Addresses
from blixt_frontend.translation.cluster import NamespacedName

GW, OTHER = NamespacedName("default", "gw"), NamespacedName("default", "other")
ONE = Configuration(1, Addresses(("192.0.2.1",)), ("tcp",))


def hear(programming: Programming, **applied: int | None) -> list[NamespacedName]:
    """Nodes that watch, with what they have applied; None: they said nothing."""
    acknowledged = {node: revision for node, revision in applied.items() if revision is not None}
    return list(programming.heard(dict.fromkeys(applied, 1), acknowledged))


@pytest.fixture
def programming() -> Programming:
    """The Gateway is waiting for revision 5."""
    made = Programming()
    made.changed(GW, 5)
    made.configured(GW, ONE)
    assert made.waiting
    return made


def test_every_node_must_have_it(programming: Programming) -> None:
    assert programming.reach(GW) is Reach.NO_NODES
    assert hear(programming, a=5, b=4) == [GW]
    assert programming.reach(GW) is Reach.SOME
    assert hear(programming, a=9, b=4) == []
    assert hear(programming, a=9, b=5) == [GW]
    assert programming.reach(GW) is Reach.ALL
    assert not programming.waiting


def test_a_node_that_says_nothing_has_nothing(programming: Programming) -> None:
    hear(programming, a=5, b=None)
    assert programming.reach(GW) is Reach.SOME


def test_a_node_that_goes_holds_nothing_up(programming: Programming) -> None:
    hear(programming, a=5, b=None)
    assert hear(programming, a=5) == [GW]
    assert programming.reach(GW) is Reach.ALL


def test_the_last_node_that_goes_leaves_none(programming: Programming) -> None:
    hear(programming, a=1)
    assert hear(programming) == [GW]
    assert programming.reach(GW) is Reach.NO_NODES


def test_once_reached_it_stays(programming: Programming) -> None:
    hear(programming, a=5)
    programming.changed(GW, 8)  # an endpoint, or a route
    programming.configured(GW, ONE)
    assert hear(programming, a=5, late=None) == []
    assert hear(programming) == []
    assert programming.reach(GW) is Reach.ALL


@pytest.mark.parametrize(
    "configuration",
    [ONE._replace(generation=2), ONE._replace(addresses=Addresses()), ONE._replace(listeners=("tcp", "udp"))],
)
def test_another_configuration_must_be_reached_anew(
    programming: Programming, configuration: Configuration
) -> None:
    hear(programming, a=5)
    programming.changed(GW, 8)
    programming.configured(GW, configuration)
    assert programming.reach(GW) is Reach.SOME
    assert hear(programming, a=7) == []
    assert hear(programming, a=8) == [GW]


def test_a_generation_that_changes_no_item_is_reached_with_the_items_there_are(
    programming: Programming,
) -> None:
    hear(programming, a=5)
    programming.configured(GW, ONE._replace(generation=2))
    assert hear(programming, a=5) == [GW]


def test_one_without_items_needs_only_a_node() -> None:
    programming = Programming()
    programming.configured(GW, ONE)
    assert hear(programming, a=None) == [GW]
    assert programming.reach(GW) is Reach.ALL


def test_gateways_do_not_wait_for_each_other(programming: Programming) -> None:
    programming.changed(OTHER, 6)
    programming.configured(OTHER, ONE)
    assert hear(programming, a=5) == [GW, OTHER]
    assert programming.reach(GW) is Reach.ALL
    assert programming.reach(OTHER) is Reach.SOME


def test_one_that_is_gone_is_forgotten(programming: Programming) -> None:
    programming.forget(GW)
    assert not programming.waiting
    assert hear(programming, a=9) == []
