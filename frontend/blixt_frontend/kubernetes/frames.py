"""The lines of a watch."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from blixt_frontend.decode import decode_json
from blixt_frontend.kubernetes.mirror import Metadata
from blixt_frontend.objects import Resource

T = TypeVar("T", bound=Resource)


class FrameError(ValueError):
    """A line that is no event."""


class Head(msgspec.Struct, frozen=True):
    """What is read of any event's object at first: which it is, or (of a metav1.Status) what went wrong."""

    metadata: Metadata = Metadata()
    code: int = 0
    reason: str = ""
    message: str = ""


class Event(msgspec.Struct, frozen=True):
    """metav1.WatchEvent. `type`: ADDED, MODIFIED, DELETED, BOOKMARK or ERROR."""

    type: str
    object: Head


class _Of(msgspec.Struct, Generic[T], frozen=True):
    object: T


class _Body(msgspec.Struct, frozen=True):
    object: msgspec.Raw


_events = msgspec.json.Decoder(Event)
_bodies = msgspec.json.Decoder(_Body)


def decode_event(line: bytes) -> Event:
    """Raises FrameError. Skims the object, at a fraction of what decoding it costs."""
    try:
        return _events.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FrameError(f"{str(error)[:200]}: {line[:80]!r}") from None


class ObjectDecoder(Generic[T]):
    """The objects of one kind's events, right out of the line."""

    def __init__(self, decoded_as: type[T]) -> None:
        self._type = decoded_as
        self._decoder = msgspec.json.Decoder(_Of[decoded_as])  # type: ignore[valid-type]  # known at run time

    def decode(self, line: bytes) -> T:
        """Of a line that is an event. Raises DecodeError."""
        try:
            decoded: T = self._decoder.decode(line).object
        except (msgspec.DecodeError, UnicodeDecodeError):
            # Rare: nulls, which need a second look, or really malformed.
            return decode_json(bytes(_bodies.decode(line).object), self._type)
        return decoded
