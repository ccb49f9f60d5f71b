"""Differences lead from any state to any other, and touch what differs only."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from blixt_backend.model import Endpoint, PortMapping, Protocol, Service, ServiceView
from blixt_backend.planes.nftables import adopt, elements
from blixt_backend.planes.nftables.compile import Frontend, Plan, compile_view
from blixt_backend.planes.nftables.elements import Difference, Element, Value
from blixt_backend.planes.nftables.family import FAMILIES, IPV4, Family
from blixt_backend.planes.nftables.state import State
from blixt_views import packed, views

NODE = packed("172.18.0.11", "fd00:172::11")
NAMES = ("a", "b", "c")
#: Some services are given another view, or are gone.
steps = st.dictionaries(st.sampled_from(NAMES), st.none() | st.integers(0, 2), min_size=1)


def plan_of(view: ServiceView | None, family: Family) -> Plan:
    return compile_view(view, family, NODE) if view is not None else Plan()


def patched(held: dict[Element, Value], change: Difference) -> dict[Element, Value]:
    """As the kernel does it: what goes must be there, what comes must not."""
    held = dict(held)
    for element in change.away:
        del held[element]
    for element, value in change.there.items():
        assert element not in held
        held[element] = value
    return held


@settings(deadline=None, max_examples=150)
@given(st.data(), st.sampled_from(FAMILIES))
def test_differences_add_up(data: st.DataObject, family: Family) -> None:
    pool = {name: [data.draw(views(name)) for _ in range(3)] for name in NAMES}
    state, held, plans = State(), dict[Element, Value](), dict[str, Plan]()
    for step in data.draw(st.lists(steps, max_size=6)):
        change = {
            f"ns/{name}": plan_of(None if number is None else pool[name][number], family)
            for name, number in step.items()
        }
        held = patched(held, state.change(change)[1])
        plans |= change
        assert held == state.everything()
        # Whoever begins afresh with these, and finds this in the kernel, has nothing to do.
        fresh = State()
        fresh.replace(plans, adopt.places(held))
        assert elements.difference(held, fresh.everything()) == Difference((), {})
        assert fresh.needed() == state.needed()
        # Nobody's change is anybody else's: told again, it moves nothing.
        assert state.change(change)[1] == Difference((), {})


@settings(deadline=None)
@given(st.data())
def test_parts_of_a_difference_add_up_and_leave_frontends_whole(data: st.DataObject) -> None:
    before, after = State(), State()
    before.replace({"ns/a": plan_of(data.draw(views("a")), IPV4)}, {})
    held = dict(before.everything())
    after.replace({"ns/a": plan_of(data.draw(views("a")), IPV4)}, adopt.places(held))
    whole = elements.difference(held, after.everything())
    for part in elements.batches(whole, data.draw(st.integers(1, 8))):
        held = patched(held, part)
        for frontend in {*before.entries, *after.entries}:
            found = {element: value for element, value in held.items() if element.key[:3] == frontend}
            wanted = [
                elements.of_frontend(frontend, state.entries[frontend]) if frontend in state.entries else {}
                for state in (before, after)
            ]
            assert found in wanted
    assert held == after.everything()


def service(endpoints: int, name: str = "web", address: str = "10.96.0.1") -> ServiceView:
    ports = (PortMapping("", Protocol.TCP, 80, target_port=8080),)
    pods = tuple(Endpoint(f"pod-{n:04}", packed(f"10.0.{n >> 8}.{n & 255}")) for n in range(endpoints))
    return ServiceView(Service("ns", name, cluster_ips=packed(address), ports=ports), pods)


def test_one_endpoint_is_a_handful_of_elements() -> None:
    view = service(1000)
    state = State()
    state.change({"ns/web": plan_of(view, IPV4), "ns/other": plan_of(service(9, "other", "10.96.0.2"), IPV4)})
    without = ServiceView(view.service, (*view.endpoints[:500], *view.endpoints[501:]))
    _, gone = state.change({"ns/web": plan_of(without, IPV4)})
    # Its slot goes to the last one's endpoint, whose slot goes; the frontend has another count.
    assert {element.name for element in gone.away} == {"inside_frontends", "inside_slots"}
    assert (len(gone.away), len(gone.there)) == (3, 2)
    _, back = state.change({"ns/web": plan_of(view, IPV4)})
    assert (len(back.away), len(back.there)) == (1, 2)


def test_a_contested_frontend_is_the_first_ones_as_long_as_that_is_there() -> None:
    state = State()
    frontend = Frontend("10.96.0.1", "tcp", 80)
    state.change({"ns/web": plan_of(service(1), IPV4)})
    assert state.entries[frontend].title == "ns/web:80"
    state.change({"ns/first": plan_of(service(2, "first"), IPV4)})
    assert state.entries[frontend].title == "ns/first:80"
    state.change({"ns/first": Plan()})
    assert state.entries[frontend].title == "ns/web:80"
    state.change({"ns/web": Plan()})
    assert state.entries == {}


def test_uplinks_come_and_go() -> None:
    state = State()
    assert state.set_uplinks(frozenset({"eth0"})).there.keys() == {Element("uplinks", ("eth0",))}
    change = state.set_uplinks(frozenset({"eth1"}))
    assert change.away == (Element("uplinks", ("eth0",)),)
    state.replace({}, {})
    assert state.everything().keys() == {Element("uplinks", ("eth1",))}
