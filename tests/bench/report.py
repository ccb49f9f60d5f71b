"""Results: rows of medians, as a table for people and JSON for programs."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path("build/bench")


@dataclass(frozen=True, slots=True)
class Row:
    """One metric of one candidate. `ratio`: to the same metric of the candidate named `ratio_to`."""

    candidate: str
    services: int
    metric: str
    unit: str
    median: float
    min: float
    max: float
    ratio: float | None = None
    ratio_to: str = ""
    delivered: float | None = None


def summarise(
    candidate: str,
    services: int,
    metric: str,
    unit: str,
    values: Sequence[float],
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
        delivered=delivered,
    )


def table(rows: Iterable[Row]) -> str:
    """Aligned columns, a line a row."""
    lines = [("metric", "candidate", "services", "median", "min", "max", "unit", "ratio", "delivered")]
    lines += [
        (
            row.metric,
            row.candidate,
            str(row.services),
            _figure(row.median),
            _figure(row.min),
            _figure(row.max),
            row.unit,
            "" if row.ratio is None else f"{row.ratio:.2f} of {row.ratio_to}",
            "" if row.delivered is None else f"{row.delivered:.1%}",
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def write(name: str, rows: Iterable[Row]) -> Path:
    """Put rows under `name` into results.json, beside what other benchmarks left there."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    results[name] = [asdict(row) for row in rows]
    path.write_text(json.dumps(results, indent=2) + "\n")
    return path


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
