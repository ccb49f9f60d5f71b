"""`make bench`: all of the dataplane's figures in one run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import click

from bench import apply, flood, goals, loads, programs, report, rounds
from bench.candidates import IPTABLES, NFTABLES, PLAIN, SOCKETS, TC, XDP, Field, Way
from bench.goals import MANY
from bench.report import Row
from blixt_backend.planes.ebpf.libbpf import BpfError
from blixt_control_plane.programs import MissingError
from blixt_lab import Lab, open_lab

FAILURES = (loads.LoadError, flood.FloodError, MissingError, BpfError, OSError, RuntimeError, AssertionError)
#: Connections that go on beside floods.
_TALKING = 1_000
_LOADS = {load.name: load for load in loads.LOADS}
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Options:
    rounds: int
    seconds: float
    services: tuple[int, ...]
    only: tuple[str, ...]
    candidates: tuple[str, ...]
    family: int
    flood: int


@dataclass(frozen=True, slots=True)
class Found:
    """What a section brings to the results."""

    rows: Sequence[Row]
    samples: rounds.Samples | None = None
    origins: dict[str, str] | None = None


#: Sections of a run besides the loads, by what the command line calls them.
SECTIONS: dict[str, Callable[[Lab, Options, Say], Sequence[Row]]] = {
    "programs": lambda lab, options, say: programs.measure(lab, options.services, options.rounds, say),
    "apply": lambda lab, options, say: apply.measure(lab, options.services, say),
    "flood": lambda lab, options, say: measure_floods(lab, options, say),
}


def subjects(options: Options) -> list[tuple[Way, str, int]]:
    """What is measured on which way: all candidates from outside, where it matters most, and some of them
    at the largest number of services elsewhere.
    """
    most = max(options.services)
    listed = [(Way.IN, PLAIN, 0)]
    listed += [(Way.IN, who, services) for who in (TC, NFTABLES, IPTABLES) for services in options.services]
    listed += [(Way.IN, XDP, most)]
    for way, candidates in (
        (Way.POD, (TC, SOCKETS, NFTABLES)),
        (Way.NODE, (TC, SOCKETS, NFTABLES)),
        (Way.THROUGH, (TC, XDP, NFTABLES)),
    ):
        listed += [(way, PLAIN, 0), *((way, who, most) for who in candidates)]
    chosen = {PLAIN, *options.candidates} if options.candidates else {who for _, who, _ in listed}
    return [each for each in listed if each[1] in chosen]


def measure_loads(lab: Lab, options: Options, say: Say) -> Found:
    wanted = [load for load in loads.LOADS if not options.only or load.name in options.only]
    if not wanted:
        return Found(())
    generator = loads.Generator(loads.compile_generator(report.RESULTS.absolute()))
    field = Field(lab, options.family)
    standing = field.stand_up(subjects(options))
    for name, origin in field.origins.items():
        say(f"{name}: {origin}")
    say(f"{len(standing)} subjects are up")
    samples = rounds.measure(generator, standing, wanted, options.rounds, options.seconds, say)
    return Found(list(samples.rows()), samples, field.origins)


def measure_floods(lab: Lab, options: Options, say: Say) -> list[Row]:
    """Raises FloodError."""
    services = max(options.services)
    found = []
    with flood.serving(lab, flood.compile_flood(report.RESULTS.absolute()), services) as node:
        for version in (4, 6):
            found += flood.measure(node, version, options.flood, _TALKING)
            say(f"floods of {options.flood:,} packets over IPv{version}")
    return [
        report.summarise(f"blixt, {one.subject}", services, one.what, one.unit, [one.value]) for one in found
    ]


def run(options: Options, say: Say) -> bool:
    """Whether all of it could be measured: a part that can't leaves the others' results as they are."""
    rows: list[Row] = []
    found, failed = Found(()), False
    for name in ("loads", *SECTIONS):
        if name in SECTIONS and options.only and name not in options.only:
            continue
        say(f"{name} ...")
        try:
            with open_lab() as lab:
                if name in SECTIONS:
                    rows += SECTIONS[name](lab, options, say)
                else:
                    found = measure_loads(lab, options, say)
                    rows += found.rows
        except FAILURES as error:
            failed = True
            say(f"bench: {name}: {error}")
    verdicts = list(goals.verdicts(found.samples, rows))
    how = {**asdict(options), "kube_proxy": found.origins or {}}
    path = report.write(rows, verdicts, how)
    for text in (report.ways_table(rows), report.plain_table(rows), report.verdicts_table(verdicts)):
        click.echo(f"{text}\n")
    for name, origin in (found.origins or {}).items():
        click.echo(f"{name}: {origin}")
    click.echo(f"written to {path}")
    return not failed


def _say(text: str) -> None:
    click.echo(text, err=True)


@click.command(context_settings={"show_default": True})
@click.option("--rounds", type=click.IntRange(1), default=5, help="Rounds that are counted.")
@click.option("--seconds", type=click.FloatRange(0.05, 60), default=0.5, help="Length of one measurement.")
@click.option(
    "--services",
    type=click.IntRange(1, 50_000),
    multiple=True,
    default=(1, 1000, MANY),
    help="Services that nodes serve. Repeatable: a candidate each.",
)
@click.option(
    "--only",
    type=click.Choice([*_LOADS, *SECTIONS]),
    multiple=True,
    help="Measure this, and no more. Repeatable.",
)
@click.option(
    "--candidates",
    type=click.Choice([TC, XDP, SOCKETS, NFTABLES, IPTABLES]),
    multiple=True,
    help="Compare with plain routing only these. Repeatable.",
)
@click.option("--flood", type=click.IntRange(64), default=5_000_000, help="Packets of each flood.")
@click.option("--family", type=click.Choice(["4", "6"]), default="4", help="IP version of the loads.")
def main(family: str, **values: object) -> None:
    """What Blixt's dataplane costs, beside plain routing and kube-proxy, all in turn in one run.

    Needs root. Writes build/bench/results.json; the ratios mean something, the absolute figures hardly. A
    goal that is missed is shown as such, and is no failure.
    """
    if not run(Options(family=int(family), **values), _say):  # type: ignore[arg-type]
        sys.exit(1)


if __name__ == "__main__":
    main()
