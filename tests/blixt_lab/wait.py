"""Waiting for conditions, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


class WaitTimeoutError(AssertionError):
    """A condition did not come true in time."""


def wait_for(
    condition: Callable[[], Result], what: str, timeout: float = 20.0, interval: float = 0.05
) -> Result:
    """Call `condition` until its result is true, and return it. Raises WaitTimeoutError with the last one."""
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() >= deadline:
            raise WaitTimeoutError(f"waited {timeout:g} s for {what}; the last look gave {result!r}")
        time.sleep(interval)
