"""Many short conversations at once: who answers, and how often."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

from blixt_backend.testing.traffic import TalkError, Target, ask


@dataclass(slots=True)
class Spread:
    """Answers by server, clients' addresses as servers saw them, failures by reason."""

    answers: Counter[str] = field(default_factory=Counter)
    seen: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def failed(self) -> int:
        return self.failures.total()

    def share(self, server: str) -> float:
        """The server's part of all conversations, failed ones included, between 0 and 1."""
        return self.answers[server] / max(1, self.answers.total() + self.failed)


async def spread(
    target: Target,
    count: int,
    concurrency: int = 32,
    patience: float = 3.0,
    source_address: str | None = None,
) -> Spread:
    """Have `count` conversations of one question, at most `concurrency` at a time, each on its own socket."""
    result = Spread()
    numbers = iter(range(count))
    started = time.monotonic()

    async def work() -> None:
        for number in numbers:
            try:
                source = (source_address, 0) if source_address else None
                answer = await ask(target, str(number), patience, source)
            except TalkError as trouble:
                result.failures[trouble.reason] += 1
            else:
                result.answers[answer.server] += 1
                result.seen[answer.server, answer.client] += 1

    await asyncio.gather(*(work() for _ in range(min(count, concurrency))))
    result.seconds = time.monotonic() - started
    return result
