"""The shortest sequence that still fails: whoever reads the report reads few steps.

Hypothesis can shrink too, but it needs minutes for what a look at the structure does in seconds.
"""

from __future__ import annotations

from collections.abc import Callable


def reduced(steps: list[bytes], fails: Callable[[list[bytes]], bool]) -> list[bytes]:
    """Without the steps that `fails` doesn't need, and with as many zeros at the ends of the others."""
    size = max(len(steps) // 2, 1)
    while True:
        at = 0
        while at < len(steps):
            fewer = steps[:at] + steps[at + size :]
            if fewer and fails(fewer):
                steps = fewer
            else:
                at += size
        if size == 1:
            break
        size //= 2
    return _simplified(steps, fails)


def _simplified(steps: list[bytes], fails: Callable[[list[bytes]], bool]) -> list[bytes]:
    for index, step in enumerate(steps):
        for kept in range(len(step)):
            simpler = [*steps[:index], step[:kept], *steps[index + 1 :]]
            if fails(simpler):
                steps = simpler
                break
    return steps
