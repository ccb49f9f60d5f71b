"""A world and a row of steps, played on both sides."""

from __future__ import annotations

import random
from collections.abc import Callable

from blixt_model.comparison import Comparison, Mismatch
from blixt_model.reduction import reduced
from blixt_model.steps import STEP_BYTES, Sent, make_step
from blixt_model.ways import Outcome
from blixt_model.worlds import WORLD_BYTES, make_world

OnOutcome = Callable[[Sent, Outcome], None]


def play(comparison: Comparison, world: bytes, steps: list[bytes], on_outcome: OnOutcome) -> None:
    """Raises Mismatch, with as few steps as lead to one. `on_outcome` hears of every packet."""
    try:
        _play(comparison, world, steps, on_outcome, [])
    except Mismatch as found:
        raise Mismatch(_shortest(comparison, world, steps, str(found))) from None


def hunt(comparison: Comparison, seed: int, packets: int) -> Mismatch | None:
    """The first difference among so many random packets, as it was found."""
    source = random.Random(seed)
    enough = comparison.packets + packets
    while comparison.packets < enough:
        steps = [source.randbytes(STEP_BYTES) for _ in range(100)]
        try:
            _play(comparison, source.randbytes(WORLD_BYTES), steps, _ignore, [])
        except Mismatch as found:
            return found
    return None


def _play(
    comparison: Comparison, world_bytes: bytes, steps: list[bytes], on_outcome: OnOutcome, played: list[str]
) -> None:
    world = make_world(world_bytes, comparison.kernel.family, comparison.network)
    comparison.begin(world.tables)
    for step_bytes in steps:
        step = make_step(step_bytes, world, comparison.tables)
        played.append(str(step))
        outcome = comparison.take(step)
        if isinstance(step, Sent) and outcome is not None:
            on_outcome(step, outcome)


def _shortest(comparison: Comparison, world: bytes, steps: list[bytes], first_report: str) -> str:
    def fails(fewer: list[bytes]) -> bool:
        played.clear()
        try:
            _play(comparison, world, fewer, _ignore, played)
        except Mismatch as found:
            report[:] = [str(found)]
            return True
        return False

    played: list[str] = []
    report = [first_report]
    few = reduced(steps, fails)
    if not fails(few):
        return f"{first_report}\n(not found again: it depends on time)"
    history = "\n".join(f"  {number}. {step}" for number, step in enumerate(played, 1))
    return f"{report[0]}\nafter\n{history}"


def _ignore(_sent: Sent, _outcome: Outcome) -> None:
    return None
