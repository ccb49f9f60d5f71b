"""A pytest plugin that ends a run with a line for each plane: what was checked, and what it doesn't claim.

In your conftest.py: `pytest_plugins = ["blixt_backend.testing.summary"]`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest

from blixt_backend.testing.suite import PLANE_PROPERTY

_COLUMNS = ("passed", "failed", "not claimed", "skipped")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Called by pytest."""
    planes: dict[str, Counter[str]] = {}
    # Other categories are setups and teardowns that went well, and warnings.
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            if isinstance(report, pytest.TestReport) and (plane := _plane(report)):
                planes.setdefault(plane, Counter())[_column(outcome, report)] += 1
    if planes:
        terminalreporter.section("planes against their contract")
        terminalreporter.line(_row("plane", _COLUMNS))
        for plane in sorted(planes):
            terminalreporter.line(_row(plane, [planes[plane][column] for column in _COLUMNS]))


def _row(name: str, cells: Iterable[object]) -> str:
    return f"{name:<16}" + "".join(f"{cell:>13}" for cell in cells)


def _plane(report: pytest.TestReport) -> str:
    return next((str(value) for name, value in report.user_properties if name == PLANE_PROPERTY), "")


def _column(outcome: str, report: pytest.TestReport) -> str:
    if outcome == "skipped":
        return "not claimed" if "not claimed: " in str(report.longrepr) else "skipped"
    return "passed" if outcome == "passed" else "failed"
