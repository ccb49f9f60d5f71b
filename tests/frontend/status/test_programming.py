"""From when on nodes are known to have what a Gateway asks for."""

from __future__ import annotations

import pytest

from blixt_frontend.status.programming import Configuration, Programming
from blixt_frontend.status.wanted import Reach
from blixt_frontend.translation.addresses import Addresses
from blixt_frontend.translation.cluster import NamespacedName

GW, OTHER = NamespacedName("default", "gw"), NamespacedName("default", "other")
ONE = Configuration("uid-1", 1, Addresses(("192.0.2.1",)), ("tcp",))
TWO = ONE._replace(generation=2)
OTHER_DIGEST = ONE.digest(OTHER)


def hear(programming: Programming, **applied: int | None) -> list[NamespacedName]:
    """Nodes that watch, with what they have applied; None: they said nothing."""
    acknowledged = {node: revision for node, revision in applied.items() if revision is not None}
    changed = list(programming.heard(dict.fromkeys(applied, 1), acknowledged))
    return changed + [one for one in programming.told(()) if one not in changed]


@pytest.fixture
def programming() -> Programming:
    """The Gateway is waiting for revision 5."""
    made = Programming()
    made.changed(GW, 5)
    made.configured(GW, ONE)
    assert made.lagging
    assert made.waiting
    assert made.unasked
    assert list(made.told(())) == [GW]
    assert not made.unasked
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
    assert hear(programming, a=5) == [GW]
    assert programming.reach(GW) is Reach.ALL
    assert programming.reach(OTHER) is Reach.SOME


def test_one_that_is_gone_is_forgotten(programming: Programming) -> None:
    programming.forget(GW)
    assert not programming.waiting
    assert hear(programming, a=9) == []


class TestOtherFrontends:
    """Their nodes count as well; `told` is what each of them says."""

    HAS_IT = frozenset({ONE.digest(GW), OTHER_DIGEST})
    LACKS_IT = frozenset({OTHER_DIGEST})

    def test_all_nodes_of_all_frontends_must_have_it(self, programming: Programming) -> None:
        hear(programming, a=5)
        programming.configured(GW, TWO)
        assert list(programming.heard({"a": 1}, {"a": 5})) == []
        assert list(programming.told([self.HAS_IT, frozenset({TWO.digest(GW)})])) == []
        assert programming.reach(GW) is Reach.SOME
        assert list(programming.told([frozenset({TWO.digest(GW)})] * 2)) == [GW]
        assert programming.reach(GW) is Reach.ALL
        assert not programming.waiting

    def test_their_nodes_are_enough(self, programming: Programming) -> None:
        assert list(programming.told([self.LACKS_IT])) == [GW]
        assert programming.reach(GW) is Reach.SOME
        assert list(programming.told([self.HAS_IT])) == [GW]
        assert programming.reach(GW) is Reach.ALL

    def test_ours_must_have_it_all_the_same(self, programming: Programming) -> None:
        assert list(programming.heard({"a": 1}, {"a": 4})) == [GW]
        assert list(programming.told([self.HAS_IT])) == []
        assert programming.reach(GW) is Reach.SOME
        assert list(programming.heard({"a": 1}, {"a": 5})) == [GW]

    def test_what_was_told_before_a_change_says_nothing(self, programming: Programming) -> None:
        """Another frontend may have got its first node since."""
        hear(programming, a=5)
        programming.configured(GW, TWO)
        assert programming.unasked
        assert list(programming.heard({"a": 1}, {"a": 5})) == []
        assert list(programming.told(())) == [GW]

    def test_nobody_knows_for_a_while(self, programming: Programming) -> None:
        assert list(programming.told(None)) == [GW]
        assert programming.reach(GW) is Reach.SOME
        assert programming.unasked


class TestWhatIsTold:
    def test_of_what_all_of_ours_have(self, programming: Programming) -> None:
        assert programming.applied == set()
        hear(programming, a=5, b=4)
        assert programming.applied == set()
        hear(programming, a=5, b=5)
        assert programming.applied == {ONE.digest(GW)}
        hear(programming, a=5, b=5, late=None)
        assert programming.applied == {ONE.digest(GW)}

    def test_of_the_present_configuration_only(self, programming: Programming) -> None:
        hear(programming, a=5)
        programming.changed(GW, 8)
        programming.configured(GW, TWO)
        assert programming.applied == set()
        hear(programming, a=8)
        assert programming.applied == {TWO.digest(GW)}
        programming.forget(GW)
        assert programming.applied == set()

    @pytest.mark.parametrize(
        "other",
        [
            ONE._replace(uid="uid-2"),
            ONE._replace(generation=2),
            ONE._replace(addresses=Addresses((), ("2001:db8::1",))),
            ONE._replace(listeners=("tcp", "udp")),
        ],
    )
    def test_each_by_its_own_digest(self, other: Configuration) -> None:
        assert other.digest(GW) != ONE.digest(GW) != ONE.digest(OTHER)
        assert not set(ONE.digest(GW)) & set(" \n")
