"""The nftables plane beside kube-proxy's nftables mode, on one real control plane, by turns.

Both are given the same changes by the same API server, kube-proxy by its watch, our backend by our frontend,
which is up all the time; and both are watched alike, by what the kernel tells of nftables' transactions. One
of them runs at a time, and its rules are gone before the next one begins.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median

import click

from bench import daemons, figures, follow
from bench.cluster import FAILURES
from bench.cluster_changes import Editor
from bench.cluster_frontend import Bed, address_node, prepare
from bench.cluster_load import JSON_PATCH, Load
from bench.cluster_objects import (
    ADDRESS_POOL,
    NAMESPACE,
    Cluster,
    moved_address,
    node_name,
    service_name,
    slice_name,
    slices_path,
)
from bench.figures import Figure
from bench.kube_proxy import DEFAULT_MIN_SYNC, QUICK_MIN_SYNC, KubeProxy
from bench.nft_commits import Commits, MissedError
from bench.plain_watch import PlainWatch
from bench.processes import cpu_seconds
from blixt_control_plane import Place, control_plane
from blixt_control_plane.place import LOOPBACK
from blixt_lab import Host, open_lab
from blixt_lab.daemon import Daemon, script

OURS = "blixt"
CANDIDATES = (DEFAULT_MIN_SYNC, QUICK_MIN_SYNC, OURS)
#: Where a node hears of it: kube-proxy by a watch, our backend by our frontend's stream.
CHANGE = "one changed endpoint, from the item in its stream"
SEEN, SENT = "one changed endpoint, from a watch's event", "one changed endpoint, from its write"
COLD, AGAIN = "cold start", "started again, one endpoint changed meanwhile"
#: What else the machine does stretches the times, and this hardly.
COLD_CPU = "cold start: CPU time until 3 s later"
MEASURED = (CHANGE, SEEN, SENT, COLD, COLD_CPU, AGAIN)
#: The most of kube-proxy's time that we want to take.
GOALS = {CHANGE: 1 / 20, COLD: 1 / 2}

_NODES = 3
_PODS = "10.0.0.0/8"
_PATIENCE = 180.0
#: kube-proxy syncs at most once in its minSyncPeriod: no change meets the end of the one before.
_QUIET_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class Options:
    small: int
    large: int
    endpoints: int
    rounds: int
    changes: int


class Backend:
    """Ours."""

    def __init__(self, bed: Bed, api: str) -> None:
        self._bed = bed
        arguments = ["--api", api, "--node-name", node_name(0), "--plane", "nftables"]
        command = [*_as_installed(bed), script("blixt-backend"), *arguments, "--cluster-cidr", _PODS]
        self.daemon: Daemon = daemons.started(bed.lab, bed.host, bed.name("backend"), command)

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.daemon.pid)

    def end(self) -> None:
        self.daemon.kill9()
        self._bed.host.run("nft", "flush", "ruleset", timeout=_PATIENCE)


def _as_installed(bed: Bed) -> list[str]:
    """Run a Python program with its bytecode, which pip makes as it installs, and a clone may not have."""
    return ["env", "-u", "PYTHONDONTWRITEBYTECODE", f"PYTHONPYCACHEPREFIX={bed.lab.folder / 'bytecode'}"]


class Bench:
    def __init__(self, bed: Bed, commits: Commits, watch: PlainWatch, options: Options) -> None:
        self._bed = bed
        self._commits = commits
        self._watch = watch
        self._options = options
        self._cluster = Cluster(_NODES, options.endpoints)
        #: Where each service's first endpoint is now.
        self._first: dict[int, str] = {}
        self._others: list[str] = []
        self._moves = 0
        self._api = bed.plane.api()
        self._listen = f"{LOOPBACK}:{bed.plane.place.free_ports(1)[0]}"

    def run(self) -> Iterator[Figure]:
        modules = "blixt_backend.cli, blixt_backend.app, blixt_backend.planes.nftables.plane"
        self._bed.host.run(*_as_installed(self._bed), sys.executable, "-c", f"import {modules}")
        filled = 0
        for services in (self._options.small, self._options.large):
            self._fill(filled, services)
            filled = services
            with self._frontend() as self._follower:
                taken = self._rounds(services)
            yield from _figures(services, taken)

    def _fill(self, first: int, end: int) -> None:
        async def fill() -> None:
            async with Load(self._bed.plane) as load:
                if not first:
                    await load.create(self._cluster.node_objects())
                created = self._cluster.services(first, end)
                await load.create(one for one in created if "gateway" not in one.path)

        self._bed.host.do(fill())
        if not first:
            address_node(self._bed.plane)
        for number in range(first, end):
            addresses = [one["addresses"][0] for one in self._cluster.slice(number)["endpoints"]]
            self._first[number] = addresses[0]
            self._others += addresses[1:]
        say(f"filled up to {end:,} services")

    @contextmanager
    def _frontend(self) -> Iterator[Daemon]:
        """Our frontend, and a follower of its stream."""
        bed = self._bed
        command = [script("blixt-frontend"), "--kubeconfig", str(bed.kubeconfig)]
        command += ["--listen", self._listen, "--address-pool", ADDRESS_POOL]
        frontend = daemons.started(bed.lab, bed.host, bed.name("frontend"), command)
        name = bed.name("follower")
        # It does nothing else, so it tells when the frontend's stream has an item.
        follower = daemons.module(bed.lab, bed.host, name, "bench.follow", "none", self._listen, node_name(1))
        daemons.wait_while_running(
            [frontend, follower], lambda: follow.read(follower.log) or None, "the frontend to be in step"
        )
        try:
            yield follower
        finally:
            follower.kill9()
            frontend.terminate()

    def _rounds(self, services: int) -> dict[tuple[str, str], list[float]]:
        """Seconds, by candidate and by what was measured."""
        taken: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        for _ in range(self._options.rounds):
            for candidate in CANDIDATES:
                for what, seconds in self._one_round(candidate, services):
                    taken[candidate, what].append(seconds)
                    say(f"{services:,} services: {_name(candidate)}: {what}: {seconds:.4f} s")
        return taken

    def _one_round(self, candidate: str, services: int) -> Iterator[tuple[str, float]]:
        time.sleep(2 * _QUIET_SECONDS)  # the kernel still takes away what the one before has left
        self._commits.forget()
        began = time.monotonic()
        runner = self._start(candidate)
        try:
            yield COLD, self._commits.wait([*self._first.values(), *self._others], _PATIENCE) - began
            time.sleep(2 * _QUIET_SECONDS)  # kube-proxy's IPv6 half, and the end of its `nft`
            yield COLD_CPU, runner.cpu_seconds()
            for number in range(self._options.changes):
                yield from self._change(candidate, (number * 7919 + self._moves) % services)
                time.sleep(_QUIET_SECONDS)
            runner.daemon.kill9()
            self._commits.forget()
            address = self._move(0)
            time.sleep(_QUIET_SECONDS)
            began = time.monotonic()
            runner = self._start(candidate)
            yield AGAIN, self._commits.wait([address], _PATIENCE) - began
        finally:
            runner.end()

    def _start(self, candidate: str) -> Backend | KubeProxy:
        if candidate == OURS:
            return Backend(self._bed, self._listen)
        return KubeProxy(self._bed.lab, self._bed.host, self._bed.plane, node_name(0), candidate)

    def _change(self, candidate: str, service: int) -> Iterator[tuple[str, float]]:
        """How long a change takes to be in force."""
        self._commits.forget()
        self._watch.forget()
        began = time.monotonic()
        address = self._move(service)
        done = self._commits.wait([address], _PATIENCE)
        seen = self._watch.wait(f'"{address}"')
        yield SENT, done - began
        yield SEEN, done - seen
        yield CHANGE, done - (self._streamed(service, began) if candidate == OURS else seen)

    def _streamed(self, service: int, since: float) -> float:
        """When our frontend's stream had told of a change of that service."""
        path = f"{NAMESPACE}/{service_name(service)}"

        def look() -> float | None:
            told = (each for each in follow.read(self._follower.log) if path in each.names)
            return next((each.synced for each in told if each.synced > since), None)

        return daemons.wait_while_running([self._follower], look, f"the stream to tell of {path}")

    def _move(self, service: int) -> str:
        """Give a service's first endpoint an address that none has had; that address."""
        self._moves += 1
        address = self._first[service] = moved_address(self._moves)
        patch = [{"op": "replace", "path": "/endpoints/0/addresses/0", "value": address}]
        self._api.patch(f"{slices_path()}/{slice_name(service)}", patch, JSON_PATCH)
        return address


def _figures(services: int, taken: dict[tuple[str, str], list[float]]) -> Iterator[Figure]:
    for candidate in CANDIDATES:
        subject = f"{_name(candidate)}, {services:,} services"
        for what in MEASURED:
            yield from _summary(subject, what, taken[candidate, what])
    for candidate in CANDIDATES:
        if candidate != OURS:
            subject = f"{OURS} to {_name(candidate)}, {services:,} services: ratio of medians"
            for what in MEASURED:
                ours, theirs = median(taken[OURS, what]), median(taken[candidate, what])
                yield Figure(subject, what, "", ours / theirs, GOALS.get(what))


def _summary(subject: str, what: str, seconds: Sequence[float]) -> Iterator[Figure]:
    yield Figure(subject, f"{what}: median of {len(seconds)}", "ms", 1e3 * median(seconds))
    yield Figure(subject, f"{what}: least", "ms", 1e3 * min(seconds))
    yield Figure(subject, f"{what}: most", "ms", 1e3 * max(seconds))


def _name(candidate: str) -> str:
    return OURS if candidate == OURS else f"kube-proxy (minSyncPeriod {candidate})"


def measure(options: Options) -> Iterator[Figure]:
    """Raises one of FAILURES, or MissedError."""
    with open_lab() as lab:
        host = Host("cluster", lab.namespace("cluster"))
        lab.add(host)
        with control_plane(Place(host.namespace)) as plane:
            prepare(plane, host)
            commits = Commits(host)
            lab.stack.callback(commits.close)
            watch = PlainWatch(host, plane, slices_path())
            lab.stack.callback(watch.close)
            bed = Bed(lab, host, plane, Editor(options.endpoints))
            yield from Bench(bed, commits, watch, options).run()


def say(text: str) -> None:
    click.echo(text, err=True)


@click.command(context_settings={"show_default": True})
@click.option("--small", type=click.IntRange(1), default=1_000, help="Services at first.")
@click.option("--large", type=click.IntRange(1), default=5_000, help="Services then.")
@click.option("--endpoints", type=click.IntRange(2, 100), default=3, help="Endpoints of each Service.")
@click.option("--rounds", type=click.IntRange(1), default=3, help="Turns of each candidate.")
@click.option("--changes", type=click.IntRange(1), default=8, help="Changes of one endpoint, each turn.")
def main(**options: int) -> None:
    """How soon the nftables plane, and kube-proxy's nftables mode, bring a change and all services in force.

    Needs root, and the control plane's programs (hack/control-plane.sh build). Writes
    build/bench/nftables.json. A goal that is missed is shown as such, and is no failure.
    """
    chosen = Options(**options)
    if chosen.large <= chosen.small:
        raise click.UsageError("--large must be larger than --small.")
    try:
        found = list(measure(chosen))
    except (*FAILURES, MissedError) as error:
        click.echo(f"bench: {error}", err=True)
        sys.exit(1)
    click.echo(figures.table(found))
    click.echo(f"written to {figures.write('nftables', found, asdict(chosen))}")


if __name__ == "__main__":
    main()
