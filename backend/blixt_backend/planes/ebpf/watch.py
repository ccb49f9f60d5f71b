"""Connections as they come and go: differences between one look at the map and the next. Pure.

What is drawn is bounded: as many rows as a terminal has, or so many lines a look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from heapq import nsmallest

from blixt_backend.planes.ebpf.connections import Flow, FlowKey

#: Lines a look, where there is no terminal.
MOST_LINES = 200
#: Of what ends, so many are drawn at most, so that what goes on has its place.
_MOST_ENDED_SHARE = 4


class Mark(Enum):
    """What sets a connection apart from the last look."""

    NEW = "+"
    ENDED = "-"
    GOES_ON = " "


@dataclass(frozen=True, slots=True)
class Line:
    """One connection in one look. `packets`: since the last one, both directions."""

    mark: Mark
    flow: Flow
    packets: int = 0


@dataclass(frozen=True, slots=True)
class Look:
    """What is there, and what has changed. `packets` and `octets`: since the last look, of what is there."""

    new: Sequence[Line]
    ended: Sequence[Line]
    going_on: Sequence[Line]
    packets: int = 0
    octets: int = 0

    @property
    def live(self) -> int:
        """Connections that are open, as far as packets have told."""
        return len(self.going_on) + sum(line.flow.state != "closed" for line in self.new)


class Watch:
    """Remembers the last look.

    A connection that is closed stays in the map until its place is needed: it ends when it is closed, or when
    it is gone.
    """

    def __init__(self) -> None:
        self._known: dict[FlowKey, Flow] = {}
        self._first = True

    def look(self, flows: Iterable[Flow]) -> Look:
        """Take in all that is there now. What is closed at the first look is none of its business."""
        new: list[Line] = []
        ended: list[Line] = []
        going_on: list[Line] = []
        packets = octets = 0
        now: dict[FlowKey, Flow] = {}
        for flow in flows:
            now[flow.key] = flow
            before = self._known.pop(flow.key, None)
            closed = flow.state == "closed"
            if before is None or _is_another(before, flow):
                if before is not None and before.state != "closed":
                    ended.append(Line(Mark.ENDED, before))
                if not (closed and self._first):
                    new.append(Line(Mark.NEW, flow, flow.packets))
            elif not closed:
                going_on.append(Line(Mark.GOES_ON, flow, flow.packets - before.packets))
                packets += flow.packets - before.packets
                octets += flow.octets - before.octets
            elif before.state != "closed":
                ended.append(Line(Mark.ENDED, flow, flow.packets - before.packets))
        ended += [Line(Mark.ENDED, flow) for flow in self._known.values() if flow.state != "closed"]
        if self._first:
            going_on, new = [Line(Mark.GOES_ON, line.flow) for line in new], []
        self._known, self._first = now, False
        return Look(new, ended, going_on, packets, octets)


def _is_another(before: Flow, now: Flow) -> bool:
    """Whether a connection has the addresses and ports of one that was there before."""
    return now.packets < before.packets or (before.state == "closed" and now.state != "closed")


def chosen(look: Look, most: int) -> list[Line]:
    """The lines that a screen has room for: what ended, what is new, then what had most packets."""
    ended = look.ended[: max(most // _MOST_ENDED_SHARE, most - len(look.new) - len(look.going_on))]
    shown = [*ended, *look.new][:most]
    busy = nsmallest(most - len(shown), look.going_on, key=lambda line: (-line.packets, line.flow.key))
    return [*shown, *busy]


def changes(look: Look, first: bool) -> tuple[list[Line], int]:
    """The lines that tell of a look without a screen, and how many more there would be."""
    every = [*(look.going_on if first else ()), *look.new, *look.ended]
    return every[:MOST_LINES], max(len(every) - MOST_LINES, 0)


def heading(look: Look, clock: str, size: Callable[[int], str]) -> str:
    """What a screen begins with."""
    return (
        f"{clock}  {look.live} connections, {len(look.new)} new, {len(look.ended)} ended; "
        f"{look.packets} packets {size(look.octets)}B since the last look"
    )
