"""Long-lived conversations: opened together, each asking again and again, and none may be lost."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import dataclass, field

from blixt_backend.testing.traffic import Conversation, TalkError, Target, converse


@dataclass(frozen=True, slots=True)
class Loss:
    """A conversation that ended by itself: which server it was with, why, and the second since the start."""

    server: str
    reason: str
    second: float


@dataclass(slots=True)
class Held:
    """Held conversations. TCP ones that fail are lost; UDP ones go on, and count what went unanswered."""

    wanted: int
    #: Server by conversation number, as last answered.
    servers: dict[int, str] = field(default_factory=dict)
    lost: list[Loss] = field(default_factory=list)
    #: Conversations that could not even be opened, by reason.
    unopened: Counter[str] = field(default_factory=Counter)
    exchanges: int = 0
    #: UDP only: questions without an answer, by reason, and answers by another server than before.
    missed: Counter[str] = field(default_factory=Counter)
    moved: int = 0

    @property
    def open(self) -> int:
        return len(self.servers) - len(self.lost)

    @property
    def by_server(self) -> Counter[str]:
        """All opened conversations by the server that answered last, lost ones included."""
        return Counter(self.servers.values())


async def hold(
    target: Target,
    count: int,
    stop: asyncio.Event,
    interval: float = 0.5,
    patience: float = 15.0,
    longest: float = 120.0,
    result: Held | None = None,
    udp_patience: float = 2.5,
) -> Held:
    """Open `count` conversations; ask in each every `interval` seconds until `stop` is set, then once more.

    A TCP conversation is lost by an error, a wrong answer, another server's answer, or none within
    `patience` seconds. A datagram counts as missed after `udp_patience` seconds: well above what a busy
    machine is late by. `result` may be given to be watched meanwhile.
    """
    held = result or Held(count)
    started = time.monotonic()
    # Opened a few at a time: a full accept queue would be the lab's fault, not the balancer's.
    opening = asyncio.Semaphore(32)

    async def one(number: int) -> None:
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with opening:
                    conversation = await stack.enter_async_context(converse(target, patience))
            except TalkError as trouble:
                held.unopened[trouble.reason] += 1
                return
            await keep(conversation, number)

    async def keep(conversation: Conversation, number: int) -> None:
        turn = 0
        last = False
        while not last:
            last = stop.is_set() or time.monotonic() - started > longest
            seconds = patience if target.protocol == "tcp" else udp_patience
            trouble = await _exchange(held, conversation, number, f"{number}.{turn}", seconds)
            if trouble and target.protocol == "tcp":
                if number in held.servers:
                    held.lost.append(
                        Loss(held.servers[number], trouble, round(time.monotonic() - started, 3))
                    )
                else:
                    held.unopened[trouble] += 1
                return
            turn += 1
            if not last:
                await _sleep(stop, interval)

    await asyncio.gather(*(one(number) for number in range(count)))
    return held


async def _exchange(held: Held, conversation: Conversation, number: int, text: str, patience: float) -> str:
    """Ask once and write down what came of it; the reason if nothing did."""
    udp = conversation.target.protocol == "udp"
    try:
        answer = await conversation.ask(text, patience)
    except TalkError as trouble:
        if udp:
            held.missed[trouble.reason] += 1
        return trouble.reason
    held.exchanges += 1
    before = held.servers.setdefault(number, answer.server)
    if before != answer.server:
        if not udp:
            return f"answered by {answer.server}"
        held.moved += 1
        held.servers[number] = answer.server
    return ""


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
