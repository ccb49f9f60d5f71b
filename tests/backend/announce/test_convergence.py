"""Whatever happened on a segment: once it is quiet, each address has one holder, the same for all."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blixt_backend.announce.election import holder
from blixt_fakes.segment import Segment, balanced, change, ip

NAMES = ["node1", "node2", "node3"]
ADDRESSES = [ip("192.0.2.1"), ip("192.0.2.2"), ip("192.0.2.3"), ip("2001:db8::1")]
SERVICES = change(*(balanced(f"s{n}", [address]) for n, address in enumerate(ADDRESSES)), resync=True)

EVENTS = st.tuples(
    st.sampled_from(["start", "terminate", "kill", "crash", "split"]),
    st.sampled_from(NAMES),
    st.floats(0, 12),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(EVENTS, max_size=12), st.integers(0, 1000))
def test_it_always_comes_to_the_same(events: list[tuple[str, str, float]], seed: int) -> None:
    segment = Segment(*NAMES, seed=seed)
    for what, name, seconds in events:
        node = segment[name]
        if what == "start" and node.announcer is None:
            node.kernel = True
            node.start(SERVICES)
        elif what == "split":
            segment.split ^= {name}
        elif what != "start":
            getattr(node, what)()
        segment.run(seconds)
        for address in ADDRESSES:
            # Two halves that have met notice it by their next heartbeats.
            assert segment.split or seconds < 2 or len(segment.holders(address)) <= 1
    segment.split.clear()
    segment.run(45)
    running = [node.name for node in segment.nodes.values() if node.announcer]
    for address in ADDRESSES:
        expected = holder(address, running)
        assert segment.holders(address) == ([expected] if expected else [])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(NAMES),
            st.sampled_from(["terminate", "kill"]),
            st.floats(0, 20),  # away
            st.floats(0, 3),  # until its plane has applied
            st.floats(2, 8),  # until the next restart
        ),
        max_size=6,
    ),
    st.integers(0, 1000),
)
def test_restarts_one_after_another_move_nothing(
    restarts: list[tuple[str, str, float, float, float]], seed: int
) -> None:
    segment = Segment(*NAMES, seed=seed)
    for node in segment.nodes.values():
        node.start(SERVICES)
    segment.run(10)
    for name, how, away, loading, pause in restarts:
        node = segment[name]
        getattr(node, how)()
        segment.run(away)
        node.start()
        segment.run(loading)
        node.apply(SERVICES)
        segment.run(pause)
        for address in ADDRESSES:
            assert segment.holders(address) == [holder(address, NAMES)]
    last = {address: holder(address, NAMES) for address in ADDRESSES}
    for _, name, frame in segment.log:
        for address in ADDRESSES[:3]:
            assert frame[28:32] != address or last[address] == name
