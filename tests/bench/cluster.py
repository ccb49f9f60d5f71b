"""The frontend on a real control plane with many Services, endpoints and nodes, beside kube-proxy.

Everything is in one network namespace: the control plane, the frontend, the backends, and at its own time
kube-proxy. The same is measured at a small number of Services and at a large one, in one run: ratios within
it mean something, absolute figures are the machine's.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median

import click

from bench import figures
from bench.cluster_changes import Editor
from bench.cluster_frontend import Bed, Running, address_node, prepare
from bench.cluster_load import Load, LoadError
from bench.cluster_objects import SERVICES_A_GATEWAY, Cluster, node_name
from bench.figures import Figure, percentiles
from bench.kube_proxy import DEFAULT_MIN_SYNC, QUICK_MIN_SYNC, KubeProxy
from blixt_control_plane import ComponentError, KubectlError, MissingError, Place, control_plane
from blixt_lab import Host, open_lab


@dataclass(frozen=True, slots=True)
class Goals:
    latency_ms: float = 50.0
    cold_start_s: float = 5.0
    memory_mb: float = 400.0
    flat: float = 1.3
    steady_writes: float = 0.0
    steady_percent: float = 1.0


@dataclass(frozen=True, slots=True)
class Options:
    small: int
    large: int
    endpoints: int
    backends: int
    starts: int
    changes: int
    crowd_changes: int
    proxy_changes: int
    steady_seconds: int


class Bench:
    def __init__(self, bed: Bed, options: Options, goals: Goals) -> None:
        self._bed = bed
        self._options = options
        self._goals = goals
        self._cluster = Cluster(options.backends, options.endpoints)

    def run(self) -> Iterator[Figure]:
        options = self._options
        self._fill(0, options.small)
        small = list(self._alone(options.small))
        yield from small
        yield from self._kube_proxy(options.small)
        self._fill(options.small, options.large)
        large = list(self._alone(options.large))
        yield from large
        yield from self._flatness(small, large)
        yield from self._crowded(options.large)
        yield from self._kube_proxy(options.large)

    def _fill(self, first: int, end: int) -> None:
        async def fill() -> int:
            async with Load(self._bed.plane) as load:
                nodes = 0 if first else await load.create(self._cluster.node_objects())
                return nodes + await load.create(self._cluster.services(first, end))

        began = time.monotonic()
        count = self._bed.host.do(fill())
        if not first:
            address_node(self._bed.plane)
        say(f"filled up to {end:,} services: {count:,} objects in {time.monotonic() - began:.0f} s")

    def _alone(self, services: int) -> Iterator[Figure]:
        """With one backend."""
        options, goals = self._options, self._goals
        at_large = services == options.large
        subject = f"blixt, {services:,} services, 1 backend"
        cold, waited = [], []
        for number in range(options.starts):
            with self._running() as running:
                cold.append(running.wait_first_sync(services))
                waited.append(running.waited_seconds())
                say(f"{subject}: cold start {cold[-1]:.2f} s")
                if number < options.starts - 1:
                    continue
                running.wait_programmed(_gateways(services))
                idle = self._idle(running, 5)
                used, began = running.cpu_seconds(), time.monotonic()
                waits = running.waited_seconds()
                taken = running.change(services, options.changes, 0.1)
                waits = running.waited_seconds() - waits
                spent = running.cpu_seconds() - used - idle * (time.monotonic() - began)
                memory, peak = running.memory_mb()
        yield Figure(subject, COLD, "s", median(cold), goals.cold_start_s if at_large else None)
        yield Figure(subject, f"cold start: {WAITED}", "s", median(waited))
        yield from percentiles(
            subject, "write sent to apply", taken.from_sent, goals.latency_ms if at_large else None
        )
        yield from percentiles(subject, "write acknowledged to apply", taken.from_acknowledged)
        yield from percentiles(subject, "write sent to a plain watch", taken.to_watch)
        yield from percentiles(subject, OURS, taken.from_watch)
        yield Figure(subject, CPU, "ms", 1e3 * spent / options.changes)
        yield Figure(subject, f"one change: {WAITED}", "ms", 1e3 * waits / options.changes)
        yield Figure(subject, "frontend's memory", "MB", memory, goals.memory_mb if at_large else None)
        yield Figure(subject, "frontend's memory at most", "MB", peak)

    def _flatness(self, small: list[Figure], large: list[Figure]) -> Iterator[Figure]:
        """What a change costs among many, by what it costs among few."""
        subject = f"blixt, {self._options.large:,} services to {self._options.small:,}"
        for what in (CPU, f"{OURS}: p50"):
            before, after = (one(figures, what) for figures in (small, large))
            if before > 0:
                yield Figure(subject, f"ratio of {what}", "", after / before, self._goals.flat)

    def _crowded(self, services: int) -> Iterator[Figure]:
        """With all backends, the first one of which has the clock."""
        options, goals = self._options, self._goals
        subject = f"blixt, {services:,} services, {options.backends:,} backends"
        with self._running() as running:
            running.wait_first_sync(services)
            gathered = running.gather_crowd(options.backends - 1)
            say(f"{subject}: all have their first Sync after {gathered:.1f} s")
            yield Figure(subject, "all backends at once: start to first Sync", "s", gathered)
            yield Figure(subject, "frontend's memory at most, so far", "MB", running.memory_mb()[1])
            running.wait_programmed(_gateways(services))
            yield from self._steady(running, subject)
            used, began = running.cpu_seconds(), time.monotonic()
            taken = running.change(services, options.crowd_changes, 0.6)
            yield from percentiles(subject, "write sent to apply", taken.from_sent)
            yield from percentiles(subject, "write acknowledged to apply", taken.from_acknowledged)
            yield from percentiles(subject, "write sent to a plain watch", taken.to_watch)
            arrivals = running.crowd_arrivals(began)
            yield from percentiles(
                subject, "first to last backend of one change", [times[-1] - times[0] for times in arrivals]
            )
            spent = running.cpu_seconds() - used
            yield Figure(subject, CPU, "ms", 1e3 * spent / options.crowd_changes)
            yield Figure(subject, "streams that broke", "", running.broken_streams())
            memory, peak = running.memory_mb()
            yield Figure(subject, "frontend's memory", "MB", memory, goals.memory_mb)
            yield Figure(subject, "frontend's memory at most", "MB", peak)

    def _steady(self, running: Running, subject: str) -> Iterator[Figure]:
        seconds = self._options.steady_seconds
        used, began = running.cpu_seconds(), time.monotonic()
        writes, leases = running.writes_within(seconds)
        percent = 100 * (running.cpu_seconds() - used) / (time.monotonic() - began)
        what = f"nothing changes for {seconds} s"
        yield Figure(subject, f"{what}: API writes but for leases", "", writes, self._goals.steady_writes)
        yield Figure(subject, f"{what}: writes of leases", "", leases)
        yield Figure(subject, f"{what}: frontend's CPU", "%", percent, self._goals.steady_percent)

    def _kube_proxy(self, services: int) -> Iterator[Figure]:
        if self._options.proxy_changes:
            yield from self._kube_proxy_with(services, DEFAULT_MIN_SYNC)
            yield from self._kube_proxy_with(services, QUICK_MIN_SYNC)

    def _kube_proxy_with(self, services: int, min_sync: str) -> Iterator[Figure]:
        bed, times = self._bed, self._options.proxy_changes
        subject = f"kube-proxy (nftables, minSyncPeriod {min_sync}), {services:,} services, 1 node"
        proxy = KubeProxy(bed.lab, bed.host, bed.plane, node_name(0), min_sync)
        try:
            yield Figure(subject, COLD, "s", proxy.wait_first_sync())
            time.sleep(3)  # its IPv6 half
            used = proxy.cpu_seconds()
            taken = []
            for _ in range(times):
                before, sent_at = proxy.last_sync(), time.time()
                clock = sent_at - time.monotonic()
                (change,) = bed.change(services, 1, 0)
                sent = change.sent + clock
                taken.append(proxy.wait_applied(before, sent) - sent)
            spent = proxy.cpu_seconds() - used
            yield from percentiles(subject, "write sent to ruleset", taken)
            yield Figure(subject, "kube-proxy's CPU for a change, with nft", "ms", 1e3 * spent / times)
            memory, peak = proxy.memory_mb()
            yield Figure(subject, "kube-proxy's memory", "MB", memory)
            yield Figure(subject, "kube-proxy's memory at most", "MB", peak)
        finally:
            proxy.end()

    @contextmanager
    def _running(self) -> Iterator[Running]:
        running = Running(self._bed)
        try:
            yield running
        finally:
            running.end()

    def _idle(self, running: Running, seconds: float) -> float:
        """CPU seconds a second while nothing changes."""
        used = running.cpu_seconds()
        time.sleep(seconds)
        return (running.cpu_seconds() - used) / seconds


FAILURES = (
    AssertionError, ComponentError, KubectlError, LoadError, MissingError, OSError, RuntimeError,
)  # fmt: skip
COLD = "cold start: process start to first Sync"
CPU = "frontend's CPU for a change"
#: What else the machine did meanwhile shows in it.
WAITED = "frontend and backend had no CPU for"
OURS = "plain watch to apply"


def one(listed: list[Figure], what: str) -> float:
    return next(figure.value for figure in listed if figure.what == what)


def _gateways(services: int) -> int:
    return -(-services // SERVICES_A_GATEWAY)


def measure(options: Options, goals: Goals) -> Iterator[Figure]:
    """Raises one of FAILURES."""
    with open_lab() as lab:
        host = Host("cluster", lab.namespace("cluster"))
        lab.add(host)
        with control_plane(Place(host.namespace)) as plane:
            prepare(plane, host)
            bed = Bed(lab, host, plane, Editor(options.endpoints))
            yield from Bench(bed, options, goals).run()


def say(text: str) -> None:
    click.echo(text, err=True)


@click.command(context_settings={"show_default": True})
@click.option("--small", type=click.IntRange(1), default=1_000, help="Services at first.")
@click.option("--large", type=click.IntRange(1), default=10_000, help="Services then.")
@click.option("--endpoints", type=click.IntRange(1, 100), default=10, help="Endpoints of each Service.")
@click.option("--backends", type=click.IntRange(2), default=1_000, help="Nodes, each with a backend at last.")
@click.option("--starts", type=click.IntRange(1), default=3, help="Cold starts, of which the median counts.")
@click.option("--changes", type=click.IntRange(1), default=400, help="Changes with one backend.")
@click.option("--crowd-changes", type=click.IntRange(1), default=100, help="Changes with all backends.")
@click.option(
    "--proxy-changes", type=click.IntRange(0), default=8, help="Changes with kube-proxy; 0: without it."
)
@click.option("--steady-seconds", type=click.IntRange(1), default=60, help="Length of the look at nothing.")
def main(**options: int) -> None:
    """What the frontend costs on a large cluster, and how long a change takes to a backend.

    Needs root, and the control plane's programs (hack/control-plane.sh build). Writes
    build/bench/cluster.json. A goal that is missed is shown as such, and is no failure.
    """
    chosen, found = Options(**options), []
    if chosen.large <= chosen.small:
        raise click.UsageError("--large must be larger than --small.")
    try:
        for figure in measure(chosen, Goals()):
            say(f"{figure.subject}: {figure.what}: {figures.number(figure.value)} {figure.unit}")
            found.append(figure)
    except FAILURES as error:
        click.echo(f"bench: {error}", err=True)
        sys.exit(1)
    click.echo(figures.table(found))
    click.echo(f"written to {figures.write('cluster', found, asdict(chosen))}")


if __name__ == "__main__":
    main()
