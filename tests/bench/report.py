"""Results: rows of medians and what they say of the goals, as tables for people and JSON for programs."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path("build/bench")


@dataclass(frozen=True, slots=True)
class Row:
    """One metric of one candidate over all rounds. `delivered`: the least that arrived in any of them."""

    candidate: str
    services: int
    metric: str
    unit: str
    median: float
    min: float
    max: float
    #: The median of the rounds' ratios to plain routing; None: there is none, or too much was lost.
    ratio_to_plain: float | None = None
    #: Where the packets went from and to; empty: there were none.
    way: str = ""
    delivered: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was asked for, and what was found; None: it was not measured."""

    what: str
    goal: float
    found: float | None
    unit: str = ""
    less_is_better: bool = False

    @property
    def met(self) -> bool | None:
        if self.found is None:
            return None
        return self.found <= self.goal if self.less_is_better else self.found >= self.goal


def summarise(
    candidate: str,
    services: int,
    metric: str,
    unit: str,
    values: Sequence[float],
    *,
    ratio_to_plain: float | None = None,
    way: str = "",
    delivered: float | None = None,
) -> Row:
    return Row(
        candidate,
        services,
        metric,
        unit,
        statistics.median(values),
        min(values),
        max(values),
        ratio_to_plain,
        way,
        delivered,
    )


def ways_table(rows: Iterable[Row]) -> str:
    """A block for each way, a line for each candidate, a column for each metric.

    The first line has medians, the others the ratio to it, each with half the spread of its values.
    """
    listed = [row for row in rows if row.way]
    blocks = []
    for way in dict.fromkeys(row.way for row in listed):
        here = [row for row in listed if row.way == way]
        metrics = list(dict.fromkeys((row.metric, row.unit) for row in here))
        titles = [metric.rpartition(", ") for metric, _ in metrics]
        lines = [[way, "", *(upper for upper, _, _ in titles)]]
        lines.append(["", "services", *(lower for _, _, lower in titles)])
        lines.append(["", "", *(unit for _, unit in metrics)])
        for candidate, services in dict.fromkeys((row.candidate, row.services) for row in here):
            found = {
                row.metric: row for row in here if (row.candidate, row.services) == (candidate, services)
            }
            cells = [_cell(found.get(metric)) for metric, _ in metrics]
            lines.append([candidate, f"{services:,}" if services else "", *cells])
        blocks.append(aligned(lines))
    return "\n\n".join(blocks)


def _cell(row: Row | None) -> str:
    if row is None:
        return "-"
    spread = f"±{50 * (row.max - row.min) / row.median:.0f}%" if row.median else ""
    if row.delivered is not None and row.delivered < 1:
        spread += f" {row.delivered:.0%} arrived" if row.delivered < 0.995 else ""
    if row.ratio_to_plain is None or row.services == 0:
        return f"{figure(row.median)} {spread}"
    return f"{row.ratio_to_plain:.2f} {spread}"


def plain_table(rows: Iterable[Row]) -> str:
    """A line for each row that is of no way."""
    lines = [["", "services", "median", "min", "max", "unit"]]
    lines += [
        [
            f"{row.candidate}: {row.metric}",
            f"{row.services:,}" if row.services else "",
            figure(row.median),
            figure(row.min),
            figure(row.max),
            row.unit,
        ]
        for row in rows
        if not row.way
    ]
    return aligned(lines)


def verdicts_table(verdicts: Iterable[Verdict]) -> str:
    words = {True: "met", False: "MISSED", None: "not measured"}
    lines = [["goal", "", "asked for", "found", ""]]
    for one in verdicts:
        sign = "<=" if one.less_is_better else ">="
        asked = f"{sign} {figure(one.goal)} {one.unit}".rstrip()
        lines.append(
            [one.what, "", asked, "" if one.found is None else figure(one.found), words[one.met]],
        )
    return aligned(lines)


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they must be."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def write(rows: Iterable[Row], verdicts: Iterable[Verdict], how: Mapping[str, object]) -> Path:
    """All of a run into results.json; `how` it was measured is told there as well."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / "results.json"
    content = {
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {"kernel": platform.release(), "cpus": os.cpu_count(), "load_average": os.getloadavg()},
        "how": how,
        "rows": [asdict(row) for row in rows],
        "goals": [asdict(verdict) | {"met": verdict.met} for verdict in verdicts],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def read(path: Path) -> tuple[list[Row], list[Verdict], dict[str, object]]:
    """What `write` wrote: rows, verdicts, and the rest."""
    content = json.loads(path.read_text())
    rows = [Row(**row) for row in content.pop("rows")]
    verdicts = [
        Verdict(**{name: value for name, value in one.items() if name != "met"})
        for one in content.pop("goals")
    ]
    return rows, verdicts, content


def figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
