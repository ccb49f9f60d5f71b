"""What the dataplane is to reach, and whether a run shows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench import loads
from bench.candidates import NFTABLES, PLAIN, TC, Way
from bench.loads import Metric
from bench.report import Row, Verdict
from bench.rounds import Key, Samples

MANY = 10_000


@dataclass(frozen=True, slots=True)
class RatioGoal:
    """At least that much of plain routing, of kube-proxy at as many services, and of itself at one."""

    metric: Metric
    to_plain: float
    to_nftables: float
    flat: float


RATIOS = (
    RatioGoal(loads.CONNECTIONS, 1.05, 1.20, 0.97),
    RatioGoal(loads.BURSTS_RATE, 1.45, 2.3, 0.97),
    RatioGoal(loads.SENDS_RATE, 1.45, 2.3, 0.97),
    RatioGoal(loads.NEW_FLOWS, 0.85, 2.2, 0.95),
    RatioGoal(loads.BULK, 1.15, 1.25, 0.97),
    RatioGoal(loads.TCP_RATE, 1.05, 1.15, 0.97),
    RatioGoal(loads.UDP_RATE, 1.05, 1.15, 0.97),
)


@dataclass(frozen=True, slots=True)
class Limit:
    """The most that a row's median should be, of several rows each one's."""

    metric: str
    most: float


LIMITS = (
    Limit("XDP, known flow, 1,024 flows", 90),
    Limit("TC, known flow, 1,024 flows", 140),
    Limit("TC, new flow", 850),
    Limit("one endpoint: Sync to map", 2.0),
    Limit("all services from empty: Sync to map", 1.5),
    Limit("backend's memory with all services", 100.0),
    Limit("SYN flood: connections lost", 0),
    Limit("UDP flood: connections lost", 0),
)


def verdicts(samples: Samples | None, rows: Sequence[Row]) -> Iterator[Verdict]:
    """One for each goal, in their order."""
    ours = Key(Way.IN, TC, MANY)
    others = {
        "plain routing": Key(Way.IN, PLAIN, 0),
        f"kube-proxy nftables, {MANY:,} services": Key(Way.IN, NFTABLES, MANY),
        "itself at 1 service": Key(Way.IN, TC, 1),
    }
    for goal in RATIOS:
        asked = (goal.to_plain, goal.to_nftables, goal.flat)
        for (name, other), least in zip(others.items(), asked, strict=True):
            found = samples.ratio(goal.metric, ours, other) if samples else None
            yield Verdict(f"{goal.metric.name}: of {name}", least, found)
    for limit in LIMITS:
        matching = [
            row for row in rows if row.metric == limit.metric and row.services == MANY and not row.way
        ]
        worst = max(matching, key=lambda row: row.median, default=None)
        found, unit = (worst.median, worst.unit) if worst else (None, "")
        yield Verdict(limit.metric, limit.most, found, unit, less_is_better=True)
