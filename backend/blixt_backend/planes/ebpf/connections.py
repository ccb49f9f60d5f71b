"""The connections that are pinned, as plain data. Nothing here writes.

Both entries of a connection are found in one pass over the map, thousands a system call; what is not wanted
is dropped on the way, so memory goes with what is. Flows that are no connections yet have a map of their own,
which is read first: one that becomes a connection meanwhile is found in both, and shown as what it became.
"""

from __future__ import annotations

import ipaddress
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from blixt_backend.model import Protocol
from blixt_backend.planes.ebpf.inspect import Row, families
from blixt_backend.planes.ebpf.layout import (
    CONNECTION_FIELDS,
    EMBRYO_FIELDS,
    TICK_SHIFT,
    ConnectionFlag,
    Layout,
)
from blixt_backend.planes.ebpf.maps import BpfMap
from blixt_backend.planes.ebpf.pins import Pins

_REPLY, _RESET = ConnectionFlag.REPLY.value, ConnectionFlag.RESET.value
_TUNNELLED = ConnectionFlag.TUNNELLED.value
_BOTH_FINS = ConnectionFlag.FIN_CLIENT.value | ConnectionFlag.FIN_ENDPOINT.value
_ENDING = _RESET | _BOTH_FINS

#: Source, destination, source port, destination port, protocol: all bytes in network byte order but the last.
FlowKey = tuple[bytes, bytes, bytes, bytes, int]


#: A row of `connections`; what stands where is in `layout.CONNECTION_FIELDS`.
Entry = tuple[Any, ...]
_SOURCE, _DESTINATION, _SOURCE_PORT, _DESTINATION_PORT = range(4)
_FLAGS, _SEEN, _PACKETS, _BYTES = map(CONNECTION_FIELDS.index, ("flags", "seen_tick", "packets", "bytes"))


@dataclass(frozen=True, slots=True)
class ConnectionFilter:
    """Which connections are wanted; None: any. Addresses are packed, the port is in host order."""

    service: bytes | None = None
    service_port: int | None = None
    endpoint: bytes | None = None

    def takes(self, service: bytes, port: bytes, endpoint: bytes) -> bool:
        return (
            self.service in (None, service)
            and self.service_port in (None, int.from_bytes(port, "big"))
            and self.endpoint in (None, endpoint)
        )


class Flow(NamedTuple):
    """One connection: its client's packets as they come, their entry, and the endpoint's if there is one."""

    layout: Layout
    key: FlowKey
    entry: Entry
    reply: Entry | None
    embryonic: bool = False

    @property
    def state(self) -> str:
        """embryonic, new, established, closing or closed."""
        entry, reply = self.entry, self.reply
        flags = entry[_FLAGS] | reply[_FLAGS] if reply else entry[_FLAGS]
        if not flags & _ENDING:
            if self.embryonic:
                return "embryonic"
            answered = self.by_tunnel or (reply and reply[_PACKETS])
            return "established" if answered else "new"
        return "closed" if flags & _RESET or flags & _BOTH_FINS == _BOTH_FINS else "closing"

    @property
    def by_tunnel(self) -> bool:
        """Its answers go another way, unseen."""
        return bool(self.entry[_FLAGS] & _TUNNELLED)

    @property
    def seen_tick(self) -> int:
        seen: int = max(self.entry[_SEEN], self.reply[_SEEN] if self.reply else 0)
        return seen

    @property
    def packets(self) -> int:
        """Of both directions."""
        counted: int = self.entry[_PACKETS] + (self.reply[_PACKETS] if self.reply else 0)
        return counted

    @property
    def octets(self) -> int:
        """Bytes of both directions."""
        counted: int = self.entry[_BYTES] + (self.reply[_BYTES] if self.reply else 0)
        return counted

    def row(self, names: Names, now: int) -> Row:
        """Ready for JSON. `now` is a tick."""
        source, destination, source_port, destination_port, protocol = self.key
        entry = dict(zip(CONNECTION_FIELDS, self.entry, strict=True))
        reply = dict(zip(CONNECTION_FIELDS, self.reply, strict=True)) if self.reply else {}
        masqueraded = bool(entry["flags"] & ConnectionFlag.MASQUERADED) and not self.by_tunnel
        return {
            "family": self.layout.name,
            "protocol": Protocol(protocol).name,
            "client": _address(source),
            "client_port": int.from_bytes(source_port, "big"),
            "service": _address(destination),
            "service_port": int.from_bytes(destination_port, "big"),
            "service_name": names.get((self.layout.name, entry["service"]), ""),
            "endpoint": _address(entry["destination"]),
            "endpoint_port": int.from_bytes(entry["destination_port"], "big"),
            "masquerade": _address(entry["source"]) if masqueraded else "",
            "masquerade_port": int.from_bytes(entry["source_port"], "big") if masqueraded else 0,
            "by_tunnel": self.by_tunnel,
            "state": self.state,
            "seen_seconds_ago": round((now - self.seen_tick & 0xFFFFFFFF) * (1 << TICK_SHIFT) / 1e9, 1),
            "packets_in": entry["packets"],
            "bytes_in": entry["bytes"],
            "packets_out": reply.get("packets", 0),
            "bytes_out": reply.get("bytes", 0),
        }


#: (family, service id) -> a service port's name.
Names = dict[tuple[str, int], str]


def names(pins: Pins) -> Names:
    """Raises BpfError, and NothingPinnedError."""
    found: Names = {}
    for layout in families(pins):
        with BpfMap.open(pins.maps(layout) / "names") as opened:
            for key, value in opened.items():
                number = int.from_bytes(key, sys.byteorder)
                found[layout.name, number] = value.rstrip(b"\0").decode()
    return found


def flows(pins: Pins, wanted: ConnectionFilter | None = None) -> Iterator[Flow]:
    """Every connection that is wanted, once. Raises BpfError, and NothingPinnedError."""
    wanted = wanted or ConnectionFilter()
    every = wanted == ConnectionFilter()
    for layout in families(pins):
        embryos = {flow.key: flow for flow in _embryos(pins, layout, wanted)}
        clients: list[tuple[FlowKey, Entry]] = []
        replies: dict[FlowKey, Entry] = {}
        with BpfMap.open(pins.maps(layout) / "connections") as opened:
            for keys, values in opened.chunks():
                for key, value in zip(
                    layout.flow.iter_unpack(keys), layout.connection.iter_unpack(values), strict=True
                ):
                    if value[_FLAGS] & _REPLY:
                        # The endpoint's packets become the service's.
                        if every or wanted.takes(value[_SOURCE], value[_SOURCE_PORT], key[0]):
                            replies[key] = value
                    elif every or wanted.takes(key[1], key[3], value[_DESTINATION]):
                        clients.append((key, value))
        for key, entry in clients:
            embryos.pop(key, None)
            yield Flow(layout, key, entry, replies.get(_answer(key, entry)))
        yield from embryos.values()


def _embryos(pins: Pins, layout: Layout, wanted: ConnectionFilter) -> Iterator[Flow]:
    with BpfMap.open(pins.maps(layout) / "embryos") as opened:
        for keys, values in opened.chunks():
            for key, value in zip(
                layout.flow.iter_unpack(keys), layout.embryo.iter_unpack(values), strict=True
            ):
                if wanted.takes(value[_DESTINATION], value[_DESTINATION_PORT], key[0]):
                    yield _embryo(layout, key, value)


def _embryo(layout: Layout, key: FlowKey, value: Entry) -> Flow:
    """As a connection's entries would be. `key` is of the endpoint's packets."""
    row = dict(zip(EMBRYO_FIELDS, value, strict=True))
    flags = row["flags"] & ~ConnectionFlag.ANSWERED.value
    counted = {"address_difference": 0, "port_difference": 0, "flags": flags}
    source, destination, source_port, destination_port, protocol = key
    ends = {
        "source": destination,
        "destination": source,
        "source_port": destination_port,
        "destination_port": source_port,
    }
    client = tuple((row | counted | ends)[field] for field in CONNECTION_FIELDS)
    client_key = value[_SOURCE], value[_DESTINATION], value[_SOURCE_PORT], value[_DESTINATION_PORT], protocol
    reply = None
    if row["answers"]:
        ends = dict(zip(("destination", "source", "destination_port", "source_port"), value[:4], strict=True))
        ends |= {"packets": row["answers"], "bytes": row["answer_bytes"], "flags": flags | _REPLY}
        reply = tuple((row | counted | ends)[field] for field in CONNECTION_FIELDS)
    return Flow(layout, client_key, client, reply, embryonic=True)


def connections(pins: Pins, wanted: ConnectionFilter | None = None) -> Iterator[Row]:
    """Every connection once, with both directions' packets and bytes. Raises as `flows` does."""
    now, known = tick(), names(pins)
    return (flow.row(known, now) for flow in flows(pins, wanted))


def tick() -> int:
    """The time as the programs write it."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) >> TICK_SHIFT


def _answer(key: FlowKey, entry: Entry) -> FlowKey:
    """The key of the endpoint's packets: what the client's become, turned round."""
    return entry[_DESTINATION], entry[_SOURCE], entry[_DESTINATION_PORT], entry[_SOURCE_PORT], key[4]


def _address(packed: bytes) -> str:
    return str(ipaddress.ip_address(packed))
