"""`connections --watch`: one look a second, drawn on a terminal, told in lines elsewhere."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime

import click

from blixt_backend.planes.ebpf.connections import ConnectionFilter, Names, flows, names, tick
from blixt_backend.planes.ebpf.inspect import Row
from blixt_backend.planes.ebpf.pins import Pins
from blixt_backend.planes.ebpf.tables import CONNECTION_HEADING, connection, endpoint, size, table
from blixt_backend.planes.ebpf.watch import Line, Look, Mark, Watch, changes, chosen, heading

_SECONDS = 1.0
_EVENTS = {Mark.NEW: "new", Mark.ENDED: "ended", Mark.GOES_ON: "there"}
#: The screen beside the usual one, and without a cursor; and back (xterm's control sequences).
_ENTER, _LEAVE = "\033[?1049h\033[?25l", "\033[?25h\033[?1049l"
_HOME, _REST_OF_LINE, _REST = "\033[H", "\033[K", "\033[J"


def watch(pins: Pins, wanted: ConnectionFilter, output: str) -> None:
    """Until SIGINT or SIGTERM. Raises BpfError, and NothingPinnedError."""
    drawn = output == "table" and sys.stdout.isatty()
    watched = Watch()
    first = True
    try:
        with _ended_by_sigterm(), _screen() if drawn else nullcontext():
            while True:
                began = time.monotonic()
                known, look = names(pins), watched.look(flows(pins, wanted))
                if drawn:
                    _draw(look, known)
                else:
                    _tell(look, known, output, first)
                first = False
                took = time.monotonic() - began
                # A large map takes its time: no more than half of a processor goes into it.
                time.sleep(max(_SECONDS - took, took))
    except KeyboardInterrupt:
        return


def screen(look: Look, known: Names, now: int, clock: str, width: int, height: int) -> list[str]:
    """As many lines as the terminal has, each as wide at most."""
    lines = chosen(look, max(height - 3, 0))
    rows = [(line.mark.value, *connection(line.flow.row(known, now))) for line in lines]
    text = [heading(look, clock, size), "", *table((" ", *CONNECTION_HEADING), rows)]
    return [line[:width] for line in text[:height]]


def told(look: Look, known: Names, now: int, clock: str, first: bool) -> list[str]:
    """What has changed, in lines; at first, what is there."""
    lines, more = changes(look, first)
    text = [_sentence(clock, line, line.flow.row(known, now)) for line in lines]
    return [*text, f"{clock} and {more} more"] if more else text


def told_as_json(look: Look, known: Names, now: int, clock: str, first: bool) -> list[str]:
    """The same as objects, one a line."""
    lines, more = changes(look, first)
    rows: list[Row] = [
        {"time": clock, "event": _EVENTS[line.mark], **line.flow.row(known, now)} for line in lines
    ]
    if more:
        rows.append({"time": clock, "event": "more", "count": more})
    return [json.dumps(row) for row in rows]


def _sentence(clock: str, line: Line, row: Row) -> str:
    path = " -> ".join(endpoint(row[end], row[f"{end}_port"]) for end in ("client", "service", "endpoint"))
    inward, outward = (f"{row[f'packets_{way}']}/{size(row[f'bytes_{way}'])}B {way}" for way in ("in", "out"))
    name = f" {row['service_name']}" if row["service_name"] else ""
    return f"{clock} {line.mark.value} {row['protocol']} {path} {row['state']} {inward} {outward}{name}"


def _draw(look: Look, known: Names) -> None:
    width, height = shutil.get_terminal_size()
    lines = screen(look, known, tick(), f"{datetime.now():%H:%M:%S}", width, height)
    click.echo(_HOME + "\n".join(line + _REST_OF_LINE for line in lines) + _REST, nl=False)


def _tell(look: Look, known: Names, output: str, first: bool) -> None:
    now = datetime.now().astimezone()
    if output == "json":
        lines = told_as_json(look, known, tick(), now.isoformat(timespec="milliseconds"), first)
    else:
        lines = told(look, known, tick(), f"{now:%H:%M:%S}", first)
    if lines:
        click.echo("\n".join(lines))


@contextmanager
def _screen() -> Iterator[None]:
    """The usual screen is as it was afterwards."""
    click.echo(_ENTER, nl=False)
    try:
        yield
    finally:
        click.echo(_LEAVE, nl=False)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the body as Ctrl-C does, so that the screen is put right."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
