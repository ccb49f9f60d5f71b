"""Draws what the last run found, and writes its tables beside: docs/bench."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click
import matplotlib
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench import loads, report
from bench.candidates import IPTABLES, NFTABLES, PLAIN, TC, Way
from bench.report import Row

DOCS = Path("docs/bench")
PAGE = "results.md"
_COLOURS = {PLAIN: "0.6", TC: "tab:blue", NFTABLES: "tab:orange", IPTABLES: "tab:red"}
_RATIOS = (
    loads.CONNECTIONS,
    loads.TCP_RATE,
    loads.UDP_RATE,
    loads.BURSTS_RATE,
    loads.SENDS_RATE,
    loads.NEW_FLOWS,
    loads.BULK,
)  # fmt: skip
_BY_SERVICES = (loads.CONNECTIONS, loads.BURSTS_RATE, loads.NEW_FLOWS)


def ratios(rows: Sequence[Row]) -> Figure | None:
    """Candidates beside plain routing, from outside, at the most services.

    None: there is nothing to draw.
    """
    found = [
        row for row in _from_outside(rows) if row.ratio_to_plain is not None and row.candidate in _COLOURS
    ]
    if not found:
        return None
    most = max(row.services for row in found)
    listed = [name for name in _COLOURS if any(row.candidate == name for row in found)]
    metrics = [metric for metric in _RATIOS if any(row.metric == metric.name for row in found)]
    figure, axes = pyplot.subplots(figsize=(9, 4.5))
    width = 0.8 / len(listed)
    for number, name in enumerate(listed):
        services = 0 if name == PLAIN else most
        by_metric = {
            row.metric: row.ratio_to_plain
            for row in found
            if (row.candidate, row.services) == (name, services)
        }
        places = [position + (number - (len(listed) - 1) / 2) * width for position in range(len(metrics))]
        heights = [by_metric.get(metric.name) or 0 for metric in metrics]
        bars = axes.bar(places, heights, width, label=name, color=_COLOURS[name])
        axes.bar_label(bars, fmt=lambda height: f"{height:.2f}" if height else "", fontsize=7)
    axes.set_xticks(range(len(metrics)), [metric.name.replace(", ", ",\n") for metric in metrics], fontsize=8)
    axes.set_ylabel("ratio to plain routing: more is better")
    axes.set_title(f"From outside, to pods of the node, {most:,} services")
    axes.legend()
    return figure


def by_services(rows: Sequence[Row]) -> Figure | None:
    """How the ratios change with the number of services."""
    found = [row for row in _from_outside(rows) if row.services and row.ratio_to_plain is not None]
    if len({row.services for row in found}) < 2:
        return None
    figure, panels = pyplot.subplots(1, len(_BY_SERVICES), figsize=(11, 3.8), sharey=True)
    for axes, metric in zip(panels, _BY_SERVICES, strict=True):
        for name, colour in _COLOURS.items():
            points = sorted(
                (row.services, row.ratio_to_plain)
                for row in found
                if row.candidate == name and row.metric == metric.name
            )
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", label=name, color=colour)
        axes.axhline(1, color=_COLOURS[PLAIN], linestyle="--")
        axes.set_xscale("log")
        axes.set_title(metric.name, fontsize=9)
        axes.set_xlabel("services")
        axes.set_ylim(bottom=0)
    panels[0].set_ylabel("ratio to plain routing")
    panels[0].legend(fontsize=8)
    return figure


def programs(rows: Sequence[Row]) -> Figure | None:
    """Test runs of the programs."""
    found = [row for row in rows if row.unit == "ns" and not row.way]
    if not found:
        return None
    figure, axes = pyplot.subplots(figsize=(9, 4.5))
    _bars(axes, found)
    axes.set_xlabel("ns for a packet, net of an empty program")
    return figure


def changes(rows: Sequence[Row]) -> Figure | None:
    """From Sync to map."""
    found = [row for row in rows if row.unit == "ms" and row.metric.endswith("Sync to map")]
    if not found:
        return None
    most = max(row.services for row in found)
    figure, axes = pyplot.subplots(figsize=(9, 3))
    _bars(axes, [row for row in found if row.services == most])
    axes.set_xscale("log")
    axes.set_xlabel(f"ms, at {most:,} services of 10 endpoints")
    return figure


PLOTS: dict[str, tuple[Callable[[Sequence[Row]], Figure | None], str]] = {
    "ratios": (ratios, "Ratios to plain routing, from outside"),
    "services": (by_services, "Ratios to plain routing by number of services"),
    "programs": (programs, "Test runs of the programs"),
    "changes": (changes, "From Sync to map"),
}


def _from_outside(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.way == Way.IN.value]


def _bars(axes: Axes, rows: Sequence[Row]) -> None:
    """A bar for each row, from the top, with the least and the most of it."""
    medians = [row.median for row in rows]
    around = [[row.median - row.min for row in rows], [row.max - row.median for row in rows]]
    bars = axes.barh([row.metric for row in rows], medians, xerr=around, color=_COLOURS[TC], ecolor="0.4")
    axes.bar_label(bars, labels=[report.figure(median) for median in medians], fontsize=8, padding=4)
    axes.invert_yaxis()


def draw(folder: Path) -> Path:
    """Plots and tables of the last run, into a folder that is there; the page.

    Raises OSError without a run, ValueError and KeyError where its results are another version's.
    """
    rows, verdicts, run = report.read(report.RESULTS / "results.json")
    # The same results give the same bytes.
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "blixt", "svg.fonttype": "none"})
    images = []
    for name, (make, title) in PLOTS.items():
        figure = make(rows)
        if figure is not None:
            figure.tight_layout()
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
            pyplot.close(figure)
            images.append(f"![{title}]({name}.svg)")
    tables = (report.verdicts_table(verdicts), report.ways_table(rows), report.plain_table(rows))
    blocks = ["# Results of `make bench`", _how(run)]
    blocks += [*images, *(f"```\n{table}\n```" for table in tables if table)]
    page = folder / PAGE
    page.write_text("\n\n".join(blocks) + "\n")
    return page


def _how(run: Mapping[str, object]) -> str:
    """When, where and how it was measured."""
    machine, how = run["machine"], run["how"]
    assert isinstance(machine, dict)
    assert isinstance(how, dict)
    lines = [
        "Written by the run. What is measured, and how, is in [benchmarks.md](../benchmarks.md).",
        "",
        f"{run['written']}, Linux {machine['kernel']}, {machine['cpus']} CPUs, "
        f"load {machine['load_average'][0]:.1f} at the end; {how['rounds']} rounds of {how['seconds']} s, "
        f"IPv{how['family']}.",
        *(f"{name}: {origin}." for name, origin in how["kube_proxy"].items()),
    ]
    return "\n".join(lines)


@click.command()
def main() -> None:
    """Draw the last run's results (build/bench/results.json) into docs/bench, both below this folder."""
    try:
        page = draw(DOCS)
    except (OSError, ValueError, KeyError, TypeError) as error:
        click.echo(f"bench: {error}; run `make bench` first", err=True)
        sys.exit(1)
    click.echo(f"written to {page}, with its plots beside it")


if __name__ == "__main__":
    main()
