"""What the kernel holds of one service port, as the reconciler remembers it."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from blixt_backend.planes.ebpf.compile import PortKey, PortPlan
from blixt_backend.planes.ebpf.kernel import NAME_BYTES
from blixt_backend.planes.ebpf.placing import TablePlace
from blixt_backend.planes.ebpf.sizes import OPTION_OF

#: For all ports alike: an empty one of its own takes 216 bytes.
NOTHING: Final[frozenset[bytes]] = frozenset()


@dataclass(frozen=True, slots=True)
class PackedIndexes:
    """Numbers by keys that are all as long, side by side: as dicts they would take five times the room."""

    keys: bytes
    numbers: bytes

    @classmethod
    def of(cls, found: Mapping[bytes, int]) -> PackedIndexes:
        return cls(b"".join(found), array("I", found.values()).tobytes()) if found else NO_INDEXES

    def unpacked(self) -> dict[bytes, int]:
        """In the order of packing."""
        if not self.keys:
            return {}
        numbers = memoryview(self.numbers).cast("I")
        size = len(self.keys) // len(numbers)
        starts = range(0, len(self.keys), size)
        return dict(zip([self.keys[start : start + size] for start in starts], numbers, strict=True))


NO_INDEXES: Final = PackedIndexes(b"", b"")


@dataclass(slots=True)
class PortState:
    """Rows of one port. A second service id exists only for a second set of source ranges."""

    ids: list[int] = field(default_factory=list)
    endpoints: PackedIndexes = NO_INDEXES  # by Identity
    tables: dict[bytes, TablePlace] = field(default_factory=dict)  # by Table.key
    rows: dict[bytes, tuple[int, ...]] = field(default_factory=dict)  # frontend -> struct service
    ranges: frozenset[bytes] = NOTHING
    arrivals: PackedIndexes = NO_INDEXES  # endpoints' indexes, by struct arrival
    #: Frontends that the port asks for, and another port has.
    contested: frozenset[bytes] = NOTHING


@dataclass(frozen=True, slots=True)
class Unfit:
    """A port that was left as it was, since a map is full."""

    key: PortKey
    map_name: str
    used: int
    limit: int


def what_is_full(unfit: Sequence[Unfit]) -> str:
    """For an operator, of one port or more: what happened, and what to do."""
    first = unfit[0]
    option = OPTION_OF.get(first.map_name)
    way_out = f"raise {option}, which counts after a --cleanup" if option else "that is the most there can be"
    return (
        f"map {first.map_name} is full ({first.used} of {first.limit} entries): "
        f"{len(unfit)} service ports stay as they were, {first.key} first; {way_out}"
    )


def port_name(key: PortKey, position: int = 0) -> bytes:
    """A service id's entry in the map of names, padded; `position` tells a port's ids apart."""
    suffix = f" ({position + 1})" if position else ""
    return f"{key}{suffix}".encode()[:NAME_BYTES].ljust(NAME_BYTES, b"\0")


def former_key(
    plan: PortPlan, going: Iterable[PortKey], states: Mapping[PortKey, PortState]
) -> PortKey | None:
    """Of a service's ports that go, the one that this port was until now, under another name.

    It answers at an address and number of this port's. Its connections must not notice.
    """
    wanted = {row.key for row in plan.frontends}
    return next((key for key in going if not wanted.isdisjoint(states[key].rows)), None)
