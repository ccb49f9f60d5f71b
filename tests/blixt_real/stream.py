"""Traffic that a fault must not disturb: connections held open, and new ones at a steady rate."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from blixt_lab import Host, wait_for
from blixt_lab.load import hammering, holding
from blixt_lab.traffic import Hammered, Held, Target
from blixt_real.figures import Figures


@dataclass(frozen=True, slots=True)
class Stream:
    """Traffic of one kind: `held` conversations, and `rate` new ones a second."""

    host: Host
    target: Target
    held: int = 20
    rate: float = 15.0


class Load:
    """What became of some streams so far."""

    def __init__(self) -> None:
        self._held: list[tuple[Stream, Held]] = []
        self._hammered: list[tuple[Stream, Hammered]] = []

    def add(self, stream: Stream, held: Held, hammered: Hammered) -> None:
        self._held.append((stream, held))
        self._hammered.append((stream, hammered))

    def go_on(self, times: int = 3) -> None:
        """Wait until every held conversation was asked so often again, and a few dozen new ones were had.

        What is lost or unanswered counts as well: the verdict comes at the end.
        """
        held = {id(result): self._turns(result) for _, result in self._held}
        tried = sum(result.tried for _, result in self._hammered)

        def went_on() -> bool:
            return sum(result.tried for _, result in self._hammered) > tried + 40 and all(
                self._turns(result) >= held[id(result)] + times * result.open for _, result in self._held
            )

        wait_for(went_on, "traffic to go on", 60)

    def count(self, figures: Figures) -> None:
        for stream, held in self._held:
            if stream.target.protocol == "tcp":
                figures.held += len(held.servers)
                figures.lost += len(held.lost)
            else:
                figures.questions += self._turns(held)
                figures.unanswered += held.missed.total()
        for stream, hammered in self._hammered:
            if stream.target.protocol == "tcp":
                figures.new += hammered.tried
                figures.failed += len(hammered.failures)
            else:
                figures.questions += hammered.tried
                figures.unanswered += len(hammered.failures)

    def troubles(self) -> list[str]:
        """Everything that should not have happened, a line each."""
        return [
            *(f"{stream.target}: lost {loss}" for stream, held in self._held for loss in held.lost),
            *(
                f"{stream.target}: unanswered {dict(held.missed)}"
                for stream, held in self._held
                if held.missed
            ),
            *(f"{stream.target}: {held.moved} moved" for stream, held in self._held if held.moved),
            *(f"{stream.target}: {what}" for stream, made in self._hammered for what in made.failures),
        ]

    @staticmethod
    def _turns(held: Held) -> int:
        return held.exchanges + held.missed.total()


@contextlib.contextmanager
def undisturbed(streams: Iterable[Stream], figures: Figures) -> Iterator[Load]:
    """Traffic from the beginning to the end, of which nothing may be lost, moved, unanswered or refused."""
    load = Load()
    try:
        with contextlib.ExitStack() as running:
            for stream in streams:
                held = running.enter_context(holding(stream.host, stream.target, stream.held, interval=0.2))
                hammered = running.enter_context(hammering(stream.host, stream.target, stream.rate))
                load.add(stream, held.result, hammered.result)
            yield load
            load.go_on()
    finally:
        load.count(figures)
    troubles = load.troubles()
    assert not troubles, "\n".join(troubles)
