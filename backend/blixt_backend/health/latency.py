"""Network programming latency, the cluster's own service level indicator: the time from when something became
known of a Service's endpoints until the plane has it in force. Pure.

It begins with the annotation endpoints.kubernetes.io/last-change-trigger-time of an EndpointSlice, by its
writer's clock, and is measured once for each service and trigger. What only takes endpoints away has no
trigger that is told. What is there at the start, or comes whole with a service that was not known, says
nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from blixt_backend.endpoints import latest_trigger_ns
from blixt_backend.model import ChangeSet, ServiceView

NAME = "blixt_network_programming_duration_seconds"
#: Upper bounds, in seconds; kube-proxy's.
BOUNDS = (0.25, 0.5, *map(float, (*range(1, 60), *range(60, 120, 5), *range(120, 301, 30))))
_HELP = (
    "Seconds from an EndpointSlice's last change trigger time until its endpoints were in force on this node."
)


class Latency:
    """A histogram of what was applied. A change costs what it changed."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self._sum = 0.0
        #: By service path, the newest trigger that was met, in nanoseconds since 1970.
        self._newest: dict[str, int] = {}

    def applied(self, change: ChangeSet, now_ns: int) -> None:
        """A change is in force at this time, in nanoseconds since 1970."""
        for path in change.removed:
            self._newest.pop(path, None)
        for path, view in change.changed.items():
            newest, before = _trigger_of(view), self._newest.get(path)
            if newest <= (before or 0):
                continue
            self._newest[path] = newest
            if before is not None or not change.resync:
                self._observe(max(now_ns - newest, 0) / 1e9)

    def _observe(self, seconds: float) -> None:
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self._sum += seconds

    def lines(self) -> Iterator[str]:
        """As Prometheus reads them (text format 0.0.4)."""
        yield f"# HELP {NAME} {_HELP}"
        yield f"# TYPE {NAME} histogram"
        total = 0
        for bound, total in zip((*map(_number, BOUNDS), "+Inf"), accumulate(self._counts), strict=True):
            yield f'{NAME}_bucket{{le="{bound}"}} {total}'
        yield f"{NAME}_sum {self._sum:.9g}"
        yield f"{NAME}_count {total}"


def _trigger_of(view: ServiceView) -> int:
    return latest_trigger_ns(view.endpoints)


def _number(bound: float) -> str:
    return f"{bound:g}"
