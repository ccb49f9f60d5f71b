"""Figures with their goals, as a table for people and JSON for programs."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import report


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of one subject. `goal`: the most that it should be, in the same unit."""

    subject: str
    what: str
    unit: str
    value: float
    goal: float | None = None

    @property
    def missed(self) -> bool:
        return self.goal is not None and self.value > self.goal


def percentiles(
    subject: str, what: str, seconds: Sequence[float], p99_goal: float | None = None
) -> list[Figure]:
    """p50, p99 and the most of durations, in ms. The goal is in ms, too."""
    ordered = sorted(1e3 * value for value in seconds)
    if not ordered:
        return []
    return [
        Figure(subject, f"{what}: p50", "ms", quantile(ordered, 0.5)),
        Figure(subject, f"{what}: p99", "ms", quantile(ordered, 0.99), p99_goal),
        Figure(subject, f"{what}: most of {len(ordered)}", "ms", ordered[-1]),
    ]


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def table(figures: Iterable[Figure]) -> str:
    """Aligned columns under a line for each subject."""
    listed = list(figures)
    wide = max(len(figure.what) for figure in listed)
    lines: list[str] = []
    subject = ""
    for figure in listed:
        if figure.subject != subject:
            subject = figure.subject
            lines += ["", subject]
        line = f"  {figure.what:{wide}}  {number(figure.value):>9} {figure.unit:5}"
        if figure.goal is not None:
            line += f"  goal {number(figure.goal):>6}  {'MISSED' if figure.missed else 'met'}"
        lines.append(line.rstrip())
    missed = [figure for figure in listed if figure.missed]
    lines += ["", f"{len(missed)} goals missed" + "".join(f"\n  {f.subject}: {f.what}" for f in missed)]
    return "\n".join(lines)


def write(name: str, figures: Iterable[Figure], options: dict[str, object]) -> Path:
    """Put them into a file of their own, with how they were measured and how busy the machine was."""
    report.RESULTS.mkdir(parents=True, exist_ok=True)
    path = report.RESULTS / f"{name}.json"
    content = {
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg(),
        "options": options,
        "figures": [asdict(figure) | {"missed": figure.missed} for figure in figures],
    }
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path


def number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value else "0"
