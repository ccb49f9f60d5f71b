"""How the demos show things: headings, tables, verdicts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click


class DemoError(Exception):
    """What the demo wanted to show, and what it saw instead."""


def heading(text: str) -> None:
    click.echo()
    click.secho(text, bold=True)


def table(rows: Sequence[Sequence[str]], right: str = "") -> None:
    """Aligned columns; a column whose letter in `right` is `r` is aligned to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        cells = [
            cell.rjust(width) if right[column : column + 1] == "r" else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        click.secho("  " + "  ".join(cells).rstrip(), dim=number == 0)


def verdict(good: bool, text: str) -> None:
    """A line that the demo stands or falls with. Raises DemoError when it is not good."""
    click.echo(
        "  " + click.style("ok  " if good else "BAD ", fg="green" if good else "red", bold=True) + text
    )
    if not good:
        raise DemoError(text)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Say what is done, and how long it took."""
    started = time.monotonic()
    yield
    click.echo(f"  {text} ({time.monotonic() - started:.1f} s)")


def finished(started: float) -> None:
    """The last lines; `started` is of time.monotonic."""
    click.echo(f"\n{time.monotonic() - started:.0f} s")
    click.secho("demo: ok", fg="green", bold=True)
