"""What a test saw, in numbers that can be quoted."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields


@dataclass(slots=True)
class Figures:
    """Of one test. Connections are TCP's, questions UDP's."""

    held: int = 0
    lost: int = 0
    new: int = 0
    failed: int = 0
    questions: int = 0
    unanswered: int = 0
    #: Seconds from the fault's end until a change that was made after it carried traffic; and was told of.
    traffic: float | None = None
    status: float | None = None

    @classmethod
    def titles(cls) -> list[str]:
        return [field.name for field in fields(cls)]

    def texts(self) -> list[str]:
        values = (getattr(self, field.name) for field in fields(self))
        return [f"{v:.1f} s" if isinstance(v, float) else "-" if v is None else str(v) for v in values]


class Clock:
    """Seconds since something ended."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began
