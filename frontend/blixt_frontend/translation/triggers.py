"""When a change of endpoints became known to the cluster (the endpoints controller's annotation)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from blixt_frontend.objects import EndpointSlice

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def newest_trigger_time(slices: Iterable[EndpointSlice]) -> int:
    """Nanoseconds since 1970; 0 if no slice has a time that can be read."""
    return max((trigger_time_ns(piece.trigger_time) for piece in slices), default=0)


def trigger_time_ns(text: str) -> int:
    """An RFC 3339 time as nanoseconds since 1970, to the microsecond; 0 if it is none."""
    if not text:
        return 0
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return 0
    if moment.tzinfo is None:
        return 0
    return max(0, (moment - _EPOCH) // timedelta(microseconds=1) * 1000)
