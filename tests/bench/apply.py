"""How long changes take from a round's Sync to the kernel's maps, and how much memory the backend needs.

A backend (bench.follow: the daemon's client, driver and plane) follows the frontend's own server, which is
given the services directly (bench.feed). All of it is one node's part: what manifests or an API server cost
is bench.cluster's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from bench import daemons, follow, topology
from bench.feed import Cluster, Feed, feed
from bench.follow import Applied
from bench.processes import peak_mb, resident_mb
from bench.report import Row, summarise
from blixt_backend.memory import CLEAR_UP_SECONDS
from blixt_lab import Lab
from blixt_lab.daemon import Daemon

_ENDPOINTS = 10
_SUBJECT = "blixt"
_CLEARED_UP_SECONDS = CLEAR_UP_SECONDS + 1


@dataclass(frozen=True, slots=True)
class Extent:
    """How often each is done: starts, changes of one service, of 100 and of all, edits of one endpoint."""

    starts: int
    one: int
    hundred: int
    whole: int
    edits: int


FULL, QUICK = Extent(5, 20, 10, 5, 40), Extent(1, 3, 3, 1, 4)


def measure(lab: Lab, services: Sequence[int], extent: Extent, say: Callable[[str], None]) -> list[Row]:
    """Rows for the smallest of several numbers of services, and for the largest."""
    rows = []
    for count in sorted({min(services), max(services)}):
        rows += _measure(lab, Cluster(count, _ENDPOINTS), extent)
        say(f"{count:,} services of {_ENDPOINTS} endpoints: applied, changed")
    return rows


def _measure(lab: Lab, cluster: Cluster, extent: Extent) -> list[Row]:
    count = cluster.services
    firsts: list[Applied] = []
    memory: list[float] = []
    with feed(cluster, lab.folder / f"feed-{count}.sock") as source:
        source.fill()
        for start in range(extent.starts):
            follower = Follower(lab, f"apply{count}-{start}", source)
            firsts.append(follower.next())
            time.sleep(_CLEARED_UP_SECONDS)
            memory.append(resident_mb(follower.daemon.pid))
            if start < extent.starts - 1:
                follower.daemon.kill9()
        rows = [
            _row(count, "all services from empty: Sync to map", "s", _seconds(firsts)),
            _row(count, "all services from empty: asked to map", "s", _from_asked(firsts)),
            _row(count, "backend's memory with all services", "MB", memory),
            _row(count, "backend's memory at most", "MB", [peak_mb(follower.daemon.pid)]),
        ]
        for size, times in {1: extent.one, 100: extent.hundred, count: extent.whole}.items():
            if size <= count:
                taken = [follower.after(partial(source.move, size)) for _ in range(times)]
                rows.append(_row(count, f"{size:,} changed: Sync to map", "ms", _milliseconds(taken)))
        edits = [follower.after(partial(source.resize, 0, 1 - n % 2)) for n in range(extent.edits)]
        rows.append(_row(count, "one endpoint: Sync to map", "ms", _milliseconds(edits)))
        rows.append(
            _row(count, "backend's memory after the changes", "MB", [resident_mb(follower.daemon.pid)])
        )
        follower.daemon.kill9()
    return rows


class Follower:
    """A backend on a node of its own, whose rounds are told one by one."""

    def __init__(self, lab: Lab, name: str, source: Feed) -> None:
        built = topology.build(lab, name, 1)
        root = lab.bpffs / name
        root.mkdir()
        flags = daemons.ebpf_flags(root, topology.UPLINK, topology.POD_DEVICES)
        self.daemon: Daemon = daemons.follower(lab, built.node, source.address, "node-0000", "ebpf", *flags)
        self._seen = 0

    def next(self) -> Applied:
        """The next round that the plane has applied."""
        told = daemons.wait_while_running(
            (self.daemon,),
            lambda: next(iter(follow.read(self.daemon.log)[self._seen :]), None),
            "a round to be applied",
            interval=0.01,
        )
        self._seen += 1
        return told

    def after(self, change: Callable[[], None]) -> Applied:
        change()
        return self.next()


def _row(services: int, metric: str, unit: str, values: Sequence[float]) -> Row:
    return summarise(_SUBJECT, services, metric, unit, values)


def _seconds(applied: Sequence[Applied]) -> list[float]:
    return [one.applied - one.synced for one in applied]


def _milliseconds(applied: Sequence[Applied]) -> list[float]:
    return [1e3 * seconds for seconds in _seconds(applied)]


def _from_asked(applied: Sequence[Applied]) -> list[float]:
    return [one.applied - one.asked for one in applied]
