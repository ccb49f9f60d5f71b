"""Which ports are asked about whom, and what counts as a local endpoint."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt_backend.health.checks import Checks, check
from blixt_backend.model import ChangeSet, Endpoint, Scope, ServiceView
from blixt_fakes.health import here, watched
from blixt_fakes.segment import change


@pytest.mark.parametrize(
    ("endpoints", "counts"),
    [
        ([], (0, 0)),
        ([here("a")], (1, 0)),
        ([here("a", "10.0.0.1", "fd00::1"), here("b", "fd00::2")], (1, 2)),
        ([here("a", local=False)], (0, 0)),
        ([here("a", terminating=True)], (0, 0)),
        ([here("a", scopes=Scope.NONE)], (0, 0)),
        ([here("a", scopes=Scope.CLUSTER | Scope.INTERNAL)], (0, 0)),
        ([here("a"), here("b")], (1, 0)),  # one pod, whose ports stand in two slices
        ([Endpoint("r", local=True, reject=True)], (0, 0)),
    ],
)
def test_ready_endpoints_on_this_node_count(endpoints: list[Endpoint], counts: tuple[int, int]) -> None:
    found = check(watched("a", 30100, *endpoints))
    assert found
    assert (found.local[4], found.local[6]) == counts


def test_none_without_a_port_or_without_the_policy() -> None:
    assert check(watched("a", 0, here("a"))) is None
    assert check(watched("a", 30100, here("a"), local=False)) is None


def test_only_ports_that_somebody_else_asks_for_are_touched() -> None:
    checks = Checks()
    assert checks.apply(change(watched("a", 1), watched("b", 2), watched("c", 0))) == {1, 2}
    assert checks.apply(change(watched("a", 1, here("x")))) == set()
    held = checks.holder(1)
    assert held
    assert held.local[4] == 1
    assert checks.apply(change(watched("a", 3))) == {1, 3}
    assert checks.holder(1) is None
    assert checks.apply(change(watched("b", 2, local=False))) == {2}
    assert checks.apply(change(removed=["ns/a", "ns/never"])) == {3}
    assert list(checks.ports) == []


def test_the_first_keeps_a_port_until_it_is_gone() -> None:
    checks = Checks()
    checks.apply(change(watched("b", 1)))
    assert checks.apply(change(watched("a", 1))) == {1}
    checks.apply(change(watched("b", 1, here("x"))))
    assert (checks.holder(1), checks.losers(1)) == (check(watched("b", 1, here("x"))), ["ns/a"])
    checks.apply(change(watched("a", 1), watched("b", 1), resync=True))
    assert checks.losers(1) == ["ns/a"]
    assert checks.apply(change(watched("a", 1), resync=True)) == {1}
    assert (checks.holder(1), checks.losers(1)) == (check(watched("a", 1)), [])


VIEWS = st.builds(
    lambda name, port, local, count: watched(
        name, port, *(here(str(n), f"10.0.0.{n}") for n in range(count)), local=local
    ),
    st.sampled_from("abc"),
    st.sampled_from([0, 1, 2]),
    st.booleans(),
    st.integers(0, 2),
)


@given(
    st.lists(
        st.tuples(st.lists(VIEWS, max_size=2), st.sets(st.sampled_from(["ns/a", "ns/b"])), st.booleans())
    )
)
def test_however_it_came_about_every_port_is_held_by_one_that_asks_for_it(
    steps: list[tuple[list[ServiceView], set[str], bool]],
) -> None:
    checks, state = Checks(), dict[str, ServiceView]()
    for views, removed, resync in steps:
        before = {port: checks.holder(port) for port in (1, 2)}
        changed = {view.service.path: view for view in views}
        state = {path: view for path, view in state.items() if path not in removed} | changed
        told = state if resync else changed
        checks.apply(ChangeSet(told, frozenset(removed - changed.keys()), state, resync=resync))
        asking = {path: found for path, view in state.items() if (found := check(view))}
        assert set(checks.ports) == {found.port for found in asking.values()}
        for port in (1, 2):
            held = checks.holder(port)
            paths = {path for path, found in asking.items() if found.port == port}
            assert {*checks.losers(port), *([held.path] if held else [])} == paths
            if held:
                assert held == asking[held.path]
            was = before[port]
            if was and was.path in paths and was.path not in removed:
                assert held
                assert held.path == was.path
