"""The command: drops as they happen, for a while or until Ctrl-C."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from math import inf

import click

from blixt_backend.planes.ebpf import inspect
from blixt_backend.planes.ebpf.connections import ConnectionFilter
from blixt_backend.planes.ebpf.inspect import Row
from blixt_backend.planes.ebpf.pins import Pins
from blixt_backend.planes.ebpf.trace.compiler import Tracer, load_bcc, read_btf
from blixt_backend.planes.ebpf.trace.events import Tally, differences, parse, reason_names, sentence, summary
from blixt_backend.planes.ebpf.trace.places import places

_POLL_SECONDS = 0.2


def trace(pins: Pins, wanted: ConnectionFilter, output: str, seconds: int | None) -> None:
    """Until the time is up, SIGINT or SIGTERM. Raises TraceError, BpfError and NothingPinnedError."""
    before = inspect.drops(pins)
    bcc, btf = load_bcc(), read_btf()
    chosen = places(wanted, inspect.services(pins) if wanted.service else ())
    tracer = Tracer(bcc, btf, chosen)
    tally = Tally(reason_names(btf.enumerators("skb_drop_reason")), tracer.symbol)
    own: Counter[str] = Counter()
    try:
        with _signals() as stopped:
            _follow(pins, tracer, tally, own, before, output, seconds, stopped)
    finally:
        tracer.close()
    if output != "json":
        click.echo("\n".join(["", *summary(tally, own)]))


def _follow(
    pins: Pins,
    tracer: Tracer,
    tally: Tally,
    own: Counter[str],
    before: list[Row],
    output: str,
    seconds: int | None,
    stopped: Callable[[], bool],
) -> None:
    told: list[Row] = []

    def on_event(raw: bytes) -> None:
        row = tally.take(parse(raw))
        if row is not None:
            told.append(row)

    def on_lost(count: int) -> None:
        tally.lost += count

    tracer.listen(on_event, on_lost)
    _tell([{"by": "trace", "reason": "listening"}], output)
    end, second = time.monotonic() + (inf if seconds is None else seconds), time.monotonic() + 1
    while time.monotonic() < end and not stopped():
        tracer.poll(min(_POLL_SECONDS, max(end - time.monotonic(), 0)))
        if time.monotonic() >= min(second, end):
            second = time.monotonic() + 1
            now = inspect.drops(pins)
            for row in differences(before, now):
                own[row["reason"]] += row["packets"]
                told.append(row)
            before = now
            if left := tally.next_second():
                told.append({"by": "trace", "reason": f"{left} more of the kernel's in this second"})
        _tell(told, output)
        told.clear()


@contextmanager
def _signals() -> Iterator[Callable[[], bool]]:
    """Whether SIGINT or SIGTERM came. An exception would get lost in bcc's callbacks from C."""
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda number, frame: came.append(number)) for number in numbers]
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _tell(rows: Iterable[Row], output: str) -> None:
    clock = datetime.now().astimezone()
    if output == "json":
        lines = [json.dumps({"time": clock.isoformat(timespec="milliseconds"), **row}) for row in rows]
    else:
        lines = [f"{clock:%H:%M:%S} {sentence(row)}" for row in rows]
    if lines:
        click.echo("\n".join(lines))
