"""New connections at a steady rate until told to stop."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

from blixt_backend.testing.traffic import TalkError, Target, ask


@dataclass(slots=True)
class Hammered:
    """How many conversations there were, who answered, and each failure with its second since the start."""

    tried: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[float, str]] = field(default_factory=list)
    seconds: float = 0.0


async def hammer(
    target: Target,
    stop: asyncio.Event,
    rate: float = 200.0,
    patience: float = 5.0,
    longest: float = 120.0,
    result: Hammered | None = None,
) -> Hammered:
    """Start `rate` conversations a second until `stop` is set or `longest` seconds went by; then finish all.

    `result` may be given to be watched meanwhile.
    """
    hammered = result or Hammered()
    started = time.monotonic()

    async def once(number: int) -> None:
        try:
            answer = await ask(target, str(number), patience)
        except TalkError as trouble:
            hammered.failures.append((round(time.monotonic() - started, 3), trouble.reason))
        else:
            hammered.answers[answer.server] += 1

    async with asyncio.TaskGroup() as tasks:
        due = started
        while not stop.is_set() and due - started < longest:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            tasks.create_task(once(hammered.tried))
            hammered.tried += 1
            # What a busy machine was late for is not made up for: that would be a burst.
            due = max(due + 1 / rate, time.monotonic() - 0.1)
    hammered.seconds = time.monotonic() - started
    return hammered
