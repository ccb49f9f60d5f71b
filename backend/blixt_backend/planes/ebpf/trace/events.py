"""Drops as the tracing program tells them, and as they are told to people. Pure."""

from __future__ import annotations

import ipaddress
import struct
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from blixt_backend.planes.ebpf.inspect import Row
from blixt_backend.planes.ebpf.tables import endpoint, table

#: struct event and struct place of bpf/trace.c.
_EVENT = struct.Struct("=QII16s16s2s2sBBBx16s")
PLACE = struct.Struct("=16s2s")
#: Lines a second.
MOST_LINES = 100

_PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6"}
_TCP_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK")
_PREFIX = "SKB_DROP_REASON_"


@dataclass(frozen=True, slots=True)
class Drop:
    """One packet that the kernel threw away. `location` is the address of the code that did.

    Ports are in host order; `length` is what the kernel had not yet taken in, in bytes.
    """

    reason: int
    location: int
    protocol: str
    source: str
    source_port: int
    destination: str
    destination_port: int
    tcp_flags: str
    length: int
    device: str


def parse(raw: bytes) -> Drop:
    """A struct event; bytes behind it are the buffer's padding."""
    location, reason, length, source, destination, *rest = _EVENT.unpack_from(raw)
    source_port, destination_port, number, version, flags, name = rest
    size = 4 if version == 4 else 16
    set_flags = [text for bit, text in enumerate(_TCP_FLAGS) if flags >> bit & 1]
    return Drop(
        reason,
        location,
        _PROTOCOLS.get(number, str(number)),
        str(ipaddress.ip_address(source[:size])),
        int.from_bytes(source_port, "big"),
        str(ipaddress.ip_address(destination[:size])),
        int.from_bytes(destination_port, "big"),
        "|".join(set_flags),
        length,
        name.split(b"\0")[0].decode(errors="replace"),
    )


def reason_names(enumerators: Mapping[int, str]) -> dict[int, str]:
    """As the kernel's own tools write them."""
    return {number: name.removeprefix(_PREFIX) for number, name in enumerators.items()}


@dataclass
class Tally:
    """What has been told, and what there was."""

    names: Mapping[int, str]
    #: The name of the code at an address.
    symbol: Callable[[int], str]
    counted: Counter[str] = field(default_factory=Counter)
    #: Drops that the kernel could not hand over in time.
    lost: int = 0
    _this_second: int = 0

    def reason(self, drop: Drop) -> str:
        return self.names.get(drop.reason, f"reason {drop.reason}")

    def take(self, drop: Drop) -> Row | None:
        """Count a drop; what to tell of it, or None where enough was told in this second."""
        self.counted[self.reason(drop)] += 1
        self._this_second += 1
        if self._this_second > MOST_LINES:
            return None
        return {
            "by": "kernel",
            "reason": self.reason(drop),
            "protocol": drop.protocol,
            "source": drop.source,
            "source_port": drop.source_port,
            "destination": drop.destination,
            "destination_port": drop.destination_port,
            "tcp_flags": drop.tcp_flags,
            "length": drop.length,
            "device": drop.device,
            "at": self.symbol(drop.location),
        }

    def next_second(self) -> int:
        """How many were not told in the one that ends."""
        left, self._this_second = max(self._this_second - MOST_LINES, 0), 0
        return left


def differences(before: Sequence[Row], now: Sequence[Row]) -> list[Row]:
    """What our own programs have dropped between two reads of their counters (all addresses)."""
    found = []
    for old, new in zip(before, now, strict=True):
        packets = sum(new.get(family, 0) - old.get(family, 0) for family in ("ipv4", "ipv6"))
        if packets:
            found.append(
                {"by": "blixt", "reason": new["reason"], "packets": packets, "meaning": new["meaning"]}
            )
    return found


def sentence(row: Row) -> str:
    """A line about one drop of the kernel's, or about one of our counters."""
    if row["by"] == "trace":
        return f"trace   {row['reason']}"
    if row["by"] == "blixt":
        return f"blixt   {row['reason']} {row['packets']} packets, any address: {row['meaning']}"
    ends = [endpoint(row[end], row[f"{end}_port"]) for end in ("source", "destination")]
    flags = f" {row['tcp_flags']}" if row["tcp_flags"] else ""
    device = f" on {row['device']}" if row["device"] else ""
    return (
        f"kernel  {row['reason']} {row['protocol']} {' -> '.join(ends)}{flags} "
        f"{row['length']} bytes{device} at {row['at']}"
    )


def summary(tally: Tally, own: Counter[str]) -> list[str]:
    """What all of it comes to."""
    rows = [("kernel", reason, count) for reason, count in tally.counted.most_common()]
    rows += [("blixt", reason, count) for reason, count in own.most_common()]
    lines = table(("BY", "REASON", "PACKETS"), rows) if rows else ["nothing was dropped"]
    return [*lines, f"{tally.lost} more drops of the kernel's were missed"] if tally.lost else lines
