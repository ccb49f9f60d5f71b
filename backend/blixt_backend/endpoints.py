"""A service's endpoints, packed: on a large cluster nearly all of a node's memory would be theirs.

Endpoints differ in their key, their addresses and a time; all else is the same for many of them. That is kept
once, as a `Kind`; the rest stands side by side, in a few bytes for each.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, overload

from blixt_backend.model import Endpoint, PackedAddress

#: Between keys, none of which has one: it is a part of an item's path.
_BETWEEN: Final = "/"


class Kind(NamedTuple):
    """What endpoints have in common. `like` has no key, address or time; `sizes` are of the addresses."""

    like: Endpoint
    sizes: tuple[int, ...]

    def addresses(self, joined: bytes) -> tuple[PackedAddress, ...]:
        if len(self.sizes) == 1:
            return (PackedAddress(joined),)
        ends = [sum(self.sizes[: position + 1]) for position in range(len(self.sizes))]
        return tuple(
            PackedAddress(joined[end - size : end]) for end, size in zip(ends, self.sizes, strict=True)
        )

    def endpoint(self, key: str, joined: bytes, time_ns: int) -> Endpoint:
        like = self.like
        return Endpoint(
            key, self.addresses(joined), like.hostname, like.local, like.port_overrides, like.scopes,
            like.group, like.weight, like.reject, like.serving, like.terminating, like.node, like.zone,
            time_ns,
        )  # fmt: skip


class Packed(NamedTuple):
    """One endpoint without its key. `addresses` are joined; nanoseconds since 1970, 0: unknown."""

    addresses: bytes
    kind: Kind
    trigger_time_ns: int = 0


class Endpoints(Sequence[Endpoint]):
    """In the order of their keys. An Endpoint is made whenever it is asked for; `alike` makes none."""

    __slots__ = ("_addresses", "_keys", "_kinds", "_times")

    def __init__(self, entries: Iterable[tuple[str, Packed]] = ()) -> None:
        """By key, each of them once; no key has a slash."""
        ordered = sorted(entries)
        self._keys = _BETWEEN.join([key for key, _ in ordered])
        self._kinds = tuple([packed.kind for _, packed in ordered])
        self._addresses = b"".join([packed.addresses for _, packed in ordered])
        times = [packed.trigger_time_ns for _, packed in ordered]
        self._times = array("q", times) if any(times) else None

    @property
    def trigger_times_ns(self) -> Sequence[int]:
        """Those that are known; nanoseconds since 1970."""
        return self._times if self._times is not None else ()

    def entries(self) -> Iterator[tuple[str, Packed]]:
        """What it was made from, by key."""
        times = self._times if self._times is not None else (0,) * len(self)
        parts = zip(self._keys.split(_BETWEEN), self._joined(), self._kinds, times, strict=False)
        for key, joined, kind, time_ns in parts:
            yield key, Packed(joined, kind, time_ns)

    def alike(self) -> Iterator[tuple[tuple[PackedAddress, ...], Endpoint]]:
        """Each one's addresses, with an Endpoint that is like it in all but key, addresses and time."""
        position, all_addresses = 0, self._addresses
        for kind in self._kinds:
            like, sizes = kind
            if len(sizes) == 1:
                end = position + sizes[0]
                yield (PackedAddress(all_addresses[position:end]),), like
            else:
                end = position + sum(sizes)
                yield kind.addresses(all_addresses[position:end]), like
            position = end

    def _joined(self) -> Iterator[bytes]:
        position = 0
        for kind in self._kinds:
            end = position + sum(kind.sizes)
            yield self._addresses[position:end]
            position = end

    def __len__(self) -> int:
        return len(self._kinds)

    def __iter__(self) -> Iterator[Endpoint]:
        for key, (joined, kind, time_ns) in self.entries():
            yield kind.endpoint(key, joined, time_ns)

    @overload
    def __getitem__(self, index: int) -> Endpoint: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Endpoint]: ...

    def __getitem__(self, index: int | slice) -> Endpoint | Sequence[Endpoint]:
        return tuple(self)[index]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Endpoints):
            return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)
        return isinstance(other, tuple) and tuple(self) == other

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


def alike(endpoints: Sequence[Endpoint]) -> Iterable[tuple[tuple[PackedAddress, ...], Endpoint]]:
    """`Endpoints.alike` of endpoints that are packed or not."""
    if isinstance(endpoints, Endpoints):
        return endpoints.alike()
    return [(endpoint.addresses, endpoint) for endpoint in endpoints]


def latest_trigger_ns(endpoints: Sequence[Endpoint]) -> int:
    """When what is told of them became known last: nanoseconds since 1970, 0: unknown."""
    if isinstance(endpoints, Endpoints):
        return max(endpoints.trigger_times_ns, default=0)
    return max((endpoint.trigger_time_ns for endpoint in endpoints), default=0)
