"""What many services cost: to apply them all, to apply one change among them, to hold them in memory.

The manifests are two files: all services but one, and one that is edited again and again. So an edit's cost
shows whether anything in the daemons grows with the number of services, not how long YAML takes to parse.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from bench import daemons, follow, report, topology
from bench.follow import Applied
from bench.processes import cpu_seconds, resident_mb
from blixt_lab import Lab, open_lab, scale
from blixt_lab.daemon import Daemon

_NODE = "node1"


@dataclass(frozen=True, slots=True)
class Running:
    """A frontend on two files of manifests and a backend that follows it, in step."""

    scale: scale.Scale
    edited: Path
    frontend: Daemon
    backend: Daemon
    started: float
    first: Applied

    @property
    def names(self) -> tuple[str, str]:
        return "frontend", "backend"

    def pid(self, name: str) -> int:
        return self.frontend.pid if name == "frontend" else self.backend.pid

    def cpu_seconds(self) -> list[float]:
        return [cpu_seconds(self.pid(name)) for name in self.names]

    def edit(self, endpoints: int) -> tuple[float, Applied]:
        """Give the edited service that many endpoints; when the file was in place, and what came of it."""
        before = len(follow.read(self.backend.log))
        staged = self.edited.parent.with_suffix(".staged")
        scale.write(staged, [self.scale.service(0), self.scale.slice(0, endpoints)])
        written = time.monotonic()
        staged.rename(self.edited)
        return written, _wait_applied((self.frontend, self.backend), before)


def start(lab: Lab, services: int) -> Running:
    """Start both daemons in a namespace of their own, and wait until all services are applied."""
    built = topology.build(lab, f"scale{services}", 1)
    folder = lab.folder / f"scale{services}"
    folder.mkdir()
    bpffs = lab.bpffs / f"scale{services}"
    bpffs.mkdir()
    manifests = folder / "manifests"
    manifests.mkdir()
    size = scale.Scale(services)
    edited = [size.service(0), size.slice(0)]
    scale.write(manifests / "others.yaml", (one for one in size.manifests() if one not in edited))
    scale.write(manifests / "edited.yaml", edited)
    started = time.monotonic()
    address = f"unix:{folder / 'frontend.sock'}"
    frontend = daemons.frontend(lab, built.node, manifests, address)
    flags = daemons.ebpf_flags(bpffs, topology.UPLINK, topology.POD_DEVICES)
    backend = daemons.follower(lab, built.node, address, _NODE, "ebpf", *flags)
    first = _wait_applied((frontend, backend), 0)
    if first.services != services:
        raise RuntimeError(f"the first round had {first.services} services, not {services}")
    return Running(size, manifests / "edited.yaml", frontend, backend, started, first)


def edit_in_turn(clusters: Sequence[Running], edits: int) -> list[list[report.Row]]:
    """Take an endpoint away and give it back, by turns, in one cluster after the other; the rows of each."""
    before = [one.cpu_seconds() for one in clusters]
    results: list[list[tuple[float, Applied]]] = [[] for _ in clusters]
    for number in range(edits):
        for running, edited in zip(clusters, results, strict=True):
            edited.append(running.edit(running.scale.endpoints - 1 + number % 2))
    spent = [
        [after - used for after, used in zip(running.cpu_seconds(), begun, strict=True)]
        for running, begun in zip(clusters, before, strict=True)
    ]
    return [_rows(*one) for one in zip(clusters, results, spent, strict=True)]


def _rows(
    running: Running, edited: Sequence[tuple[float, Applied]], cpu: Sequence[float]
) -> list[report.Row]:
    def row(metric: str, unit: str, *values: float) -> report.Row:
        return report.summarise("blixt", running.scale.services, metric, unit, values)

    first = running.first
    return [
        row("all services: start of both daemons to applied", "s", first.applied - running.started),
        row("all services: Sync to applied", "s", first.applied - first.synced),
        row("all services: the plane's part", "s", first.plane_seconds),
        row("one change: Sync to applied", "ms", *(1e3 * (one.applied - one.synced) for _, one in edited)),
        row("one change: the plane's part", "ms", *(1e3 * one.plane_seconds for _, one in edited)),
        row("one change: file written to applied", "ms", *(1e3 * (one.applied - at) for at, one in edited)),
        *(
            row(f"one change: {name}'s CPU time", "ms", 1e3 * spent / len(edited))
            for name, spent in zip(running.names, cpu, strict=True)
        ),
        *(row(f"memory of the {name}", "MB", resident_mb(running.pid(name))) for name in running.names),
    ]


def _wait_applied(pair: tuple[Daemon, Daemon], after: int) -> Applied:
    return daemons.wait_while_running(
        pair,
        lambda: next(iter(follow.read(pair[1].log)[after:]), None),
        "a round to be applied",
        interval=0.01,
    )


@click.command(context_settings={"show_default": True})
@click.option("--small", type=click.IntRange(1), default=1_000, help="Services of one cluster.")
@click.option("--large", type=click.IntRange(1), default=10_000, help="Services of another.")
@click.option("--edits", type=click.IntRange(1), default=50, help="Changes of one endpoint in each.")
def main(small: int, large: int, edits: int) -> None:
    """Time and memory for many services of three endpoints, and whether one change costs more among more.

    Needs root. Writes build/bench/results.json.
    """
    try:
        with open_lab() as lab:
            few, many = edit_in_turn([start(lab, services) for services in (small, large)], edits)
    except (OSError, RuntimeError, AssertionError) as error:
        click.echo(f"bench: {error}", err=True)
        sys.exit(1)
    compared = few + [
        replace(row, ratio=row.median / base.median if base.median else None, ratio_to=f"{small:,} services")
        for base, row in zip(few, many, strict=True)
    ]
    click.echo(report.table(compared))
    click.echo(f"written to {report.write('scale', compared)}")


if __name__ == "__main__":
    main()
