"""`make bench`: all of the dataplane's figures in one run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import click
from click.core import ParameterSource

from bench import apply, flood, goals, loads, plots, programs, report, rounds
from bench.candidates import IPTABLES, NFTABLES, PLAIN, SOCKETS, TC, XDP, Field, Way
from bench.figures import Figure
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
    warm_up: float
    services: tuple[int, ...]
    only: tuple[str, ...]
    candidates: tuple[str, ...]
    family: int
    flood: int
    quick: bool


#: What --quick changes of what isn't given.
QUICK: Mapping[str, object] = {"rounds": 3, "seconds": 0.2, "services": (1, 1000), "flood": 200_000}


@dataclass(frozen=True, slots=True)
class Found:
    """What a section brings to the results."""

    rows: Sequence[Row]
    samples: rounds.Samples | None = None
    origins: Mapping[str, str] = field(default_factory=dict)


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
    generator = loads.Generator(loads.compile_generator(report.RESULTS.absolute()))
    field = Field(lab, options.family)
    standing = field.stand_up(subjects(options))
    for name, origin in field.origins.items():
        say(f"{name}: {origin}")
    say(f"{len(standing)} subjects are up")
    samples = rounds.measure(
        generator, standing, wanted, options.rounds, options.seconds, options.warm_up, say
    )
    return Found(list(samples.rows()), samples, field.origins)


def measure_floods(lab: Lab, options: Options, say: Say) -> Found:
    """Raises FloodError."""
    services = max(options.services)
    found: list[Figure] = []
    with flood.serving(lab, flood.compile_flood(report.RESULTS.absolute()), services) as node:
        for version in (4, 6):
            found += flood.measure(node, version, options.flood, _TALKING)
            say(f"floods of {options.flood:,} packets over IPv{version}")
    return Found(
        [
            report.summarise(f"blixt, {one.subject}", services, one.what, one.unit, [one.value])
            for one in found
        ]
    )


def measure_programs(lab: Lab, options: Options, say: Say) -> Found:
    extent = programs.QUICK if options.quick else programs.FULL
    return Found(programs.measure(lab, options.services, extent, options.rounds, say))


def measure_changes(lab: Lab, options: Options, say: Say) -> Found:
    return Found(apply.measure(lab, options.services, apply.QUICK if options.quick else apply.FULL, say))


#: Parts of a run, by what the command line calls them; that of the loads is named by each of these.
PARTS: Mapping[str, Callable[[Lab, Options, Say], Found]] = {
    "loads": measure_loads,
    "programs": measure_programs,
    "apply": measure_changes,
    "flood": measure_floods,
}


def parts(options: Options) -> list[str]:
    if not options.only:
        return [name for name in PARTS if not (options.quick and name == "flood")]
    asked = {"loads" if name in _LOADS else name for name in options.only}
    return [name for name in PARTS if name in asked]


def run(options: Options, say: Say) -> bool:
    """Whether all of it could be measured: a part that can't leaves the others' results as they are."""
    rows: list[Row] = []
    samples: rounds.Samples | None = None
    origins: dict[str, str] = {}
    failed = False
    for name in parts(options):
        say(f"{name} ...")
        try:
            with open_lab() as lab:
                found = PARTS[name](lab, options, say)
        except FAILURES as error:
            failed = True
            say(f"bench: {name}: {error}")
            continue
        rows += found.rows
        samples = found.samples or samples
        origins |= found.origins
    verdicts = list(goals.verdicts(samples, rows))
    how = {**asdict(options), "kube_proxy": origins}
    path = report.write(rows, verdicts, how)
    for text in (report.ways_table(rows), report.plain_table(rows), report.verdicts_table(verdicts)):
        click.echo(f"{text}\n")
    for name, origin in origins.items():
        click.echo(f"{name}: {origin}")
    click.echo(f"written to {path}")
    if not failed and is_whole(options) and plots.DOCS.is_dir():
        click.echo(f"written to {plots.draw(plots.DOCS)}, with its plots beside it")
    return not failed


def is_whole(options: Options) -> bool:
    """What docs/bench shows is a run of all there is."""
    return not (options.quick or options.only or options.candidates) and MANY in options.services


def _quick_help() -> str:
    return (
        "A look of some minutes: 3 rounds of 0.2 s, 1 and 1,000 services, fewer test runs and changes, "
        "no floods; what is given besides holds."
    )


def _say(text: str) -> None:
    click.echo(text, err=True)


@click.command(context_settings={"show_default": True})
@click.option("--rounds", type=click.IntRange(1), default=5, help="Rounds that are counted.")
@click.option("--seconds", type=click.FloatRange(0.05, 60), default=0.5, help="Length of one measurement.")
@click.option(
    "--warm-up", type=click.FloatRange(0, 60), default=0.2, help="As --seconds, in a round before; 0: none."
)
@click.option(
    "--services",
    type=click.IntRange(1, 50_000),
    multiple=True,
    default=(1, 1000, MANY),
    help="Services that nodes serve. Repeatable: a candidate each.",
)
@click.option(
    "--only",
    type=click.Choice([*_LOADS, *(name for name in PARTS if name != "loads")]),
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
@click.option("--quick", is_flag=True, help=_quick_help())
def main(family: str, **values: object) -> None:
    """What Blixt's dataplane costs, beside plain routing and kube-proxy, all in turn in one run.

    Takes a quarter of an hour, and needs root. Writes build/bench/results.json, and, where all of it was
    measured, the figures of docs/bench. The ratios mean something, the absolute figures hardly. A goal that
    is missed is shown as such, and is no failure.
    """
    if values["quick"]:
        context = click.get_current_context()
        values |= {
            name: value
            for name, value in QUICK.items()
            if context.get_parameter_source(name) is ParameterSource.DEFAULT
        }
    if not run(Options(family=int(family), **values), _say):  # type: ignore[arg-type]
        sys.exit(1)


if __name__ == "__main__":
    main()
