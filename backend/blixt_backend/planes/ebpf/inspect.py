"""What is pinned, as plain data: readable without a daemon, and while one runs. Nothing here writes.

Functions yield dictionaries that are ready for JSON; addresses are text,
ports numbers. All may raise BpfError.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from blixt_backend.model import Protocol
from blixt_backend.planes.ebpf import clsact
from blixt_backend.planes.ebpf.compile import algorithm_of
from blixt_backend.planes.ebpf.layout import (
    COUNTER_FIELDS,
    DROP_WORDS,
    ENDPOINT_REJECT,
    FAMILIES,
    TICK_SHIFT,
    DeviceFlag,
    DropReason,
    EndpointFlag,
    Layout,
    Opening,
    ServiceFlag,
)
from blixt_backend.planes.ebpf.libbpf import BpfError, obj_get
from blixt_backend.planes.ebpf.links import link_info, pinned_places
from blixt_backend.planes.ebpf.maps import BpfMap
from blixt_backend.planes.ebpf.opening import opening_in
from blixt_backend.planes.ebpf.pins import Pins
from blixt_backend.planes.ebpf.placing import TablePlace
from blixt_backend.planes.ebpf.slots import ShareReader
from blixt_backend.planes.ebpf.sockets import SOCKETS, is_of_sockets

Row = dict[str, Any]
_SHOWN = ("address", "port", "local", "draining", "open_connections")
_COUNTED = ("services", "endpoints", "source_ranges", "devices", "connections", "embryos", "affinities")


class NothingPinnedError(Exception):
    """No maps of this layout version under the root."""


def families(pins: Pins) -> list[Layout]:
    """The families that have maps. Raises NothingPinnedError."""
    found = [layout for layout in FAMILIES if (pins.maps(layout) / "services").exists()]
    if not found:
        raise NothingPinnedError(
            f"nothing is pinned under {pins.root}: no blixt-backend ran here, or it has another --pin-root"
        )
    return found


def services(pins: Pins) -> Iterator[Row]:
    """Every service id: its frontends, its endpoints with their shares of new connections, its counters.

    `shares` of an endpoint, and `refused_shares`, has one number for each distinct table of
    choices; a frontend's `inside` (clients on this node) and `outside` (from the network)
    are positions in them, None: no endpoint. `algorithm` is how an endpoint is chosen by them;
    an endpoint's `open_connections` are known with LeastConnections only, else None.
    """
    for layout in families(pins):
        folder = pins.maps(layout)
        with BpfMap.open(folder / "names") as opened:
            names = {int.from_bytes(k, sys.byteorder): v.rstrip(b"\0").decode() for k, v in opened.items()}
        with BpfMap.open(folder / "endpoints") as opened:
            endpoints = _live_endpoints(layout, opened)
        _add_open_connections(layout, folder, endpoints)
        own = defaultdict(list)
        for index, endpoint in endpoints.items():
            own[endpoint["service"]].append(index)
        with BpfMap.open(folder / "services") as opened:
            rows = defaultdict(list)
            for key, value in opened.items():
                row = layout.service.unpack(value)
                rows[row[0]].append((key, row))
        with BpfMap.open(folder / "counters") as opened:
            counters = dict(opened.summed(max(rows, default=0) + 1))
        with BpfMap.open(folder / "slots") as slots, BpfMap.open(folder / "maglev") as maglev:
            reader = ShareReader(layout, slots, maglev, [row for found in rows.values() for _, row in found])
        for number in sorted(rows, key=lambda n: (names.get(n, ""), n)):
            yield {
                "family": layout.name,
                "id": number,
                "name": names.get(number, ""),
                **_service(layout, sorted(rows[number]), own[number], endpoints, reader),
                **dict(zip(COUNTER_FIELDS, counters.get(number, (0,) * len(COUNTER_FIELDS)), strict=True)),
            }


def _live_endpoints(layout: Layout, opened: BpfMap) -> dict[int, Row]:
    found: dict[int, Row] = {}
    index = 0
    for _, values in opened.chunks():
        if values.count(0) < len(values):
            for number, row in enumerate(layout.endpoint.iter_unpack(values), index):
                identity, flags, generation, service = row
                if flags & EndpointFlag.LIVE:
                    found[number] = {
                        "address": _address(identity[: layout.size]),
                        "port": int.from_bytes(identity[layout.size :], "big"),
                        "local": bool(flags & EndpointFlag.LOCAL),
                        "draining": bool(flags & EndpointFlag.DRAINING),
                        "counted": bool(flags & EndpointFlag.COUNTED),
                        "generation": generation,
                        "service": service,
                    }
        index += len(values) // layout.endpoint.size
    return found


def _add_open_connections(layout: Layout, folder: Path, endpoints: dict[int, Row]) -> None:
    """To those that are counted; the others have None."""
    counted = [index for index, endpoint in endpoints.items() if endpoint["counted"]]
    with BpfMap.open(folder / "loads") as opened:
        loads = list(layout.load.iter_unpack(opened.dump(max(counted) + 1)[1])) if counted else []
    for index, endpoint in endpoints.items():
        endpoint["open_connections"] = None
        if endpoint["counted"]:
            generation, connections = loads[index]
            endpoint["open_connections"] = max(connections, 0) if generation == endpoint["generation"] else 0


def _service(
    layout: Layout,
    rows: Sequence[tuple[bytes, tuple[int, ...]]],
    own: Sequence[int],
    endpoints: dict[int, Row],
    reader: ShareReader,
) -> Row:
    tables: dict[TablePlace, int] = {}
    frontends = []
    for key, (_, flags, *sides, _ticks) in rows:
        address, port, protocol = layout.frontend.unpack(key)
        inside, outside = (
            tables.setdefault(TablePlace(first, count, algorithm_of(flags)), len(tables)) if count else None
            for first, count in (sides[:2], sides[2:])
        )
        dropped = ServiceFlag.DROP_OUTSIDE | ServiceFlag.DROP_INSIDE
        frontends.append(
            {
                "address": _address(address),
                "port": int.from_bytes(port, "big"),
                "protocol": Protocol(protocol).name,
                "inside": inside,
                "outside": outside,
                "source_ranges": bool(flags & ServiceFlag.SOURCE_RANGES),
                "without_endpoint": "drop" if flags & dropped else "refuse",
            }
        )
    shares = [reader.shares(place) for place in tables]
    known = dict.fromkeys([*own, *(index for table in shares for index in table if index in endpoints)])
    return {
        "algorithm": algorithm_of(rows[0][1][1]).value,
        "frontends": frontends,
        "endpoints": [
            {
                **{field: endpoints[index][field] for field in _SHOWN},
                "shares": [round(table.get(index, 0.0), 6) for table in shares],
            }
            for index in known
        ],
        "refused_shares": [round(table.get(ENDPOINT_REJECT, 0.0), 6) for table in shares],
        "affinity_seconds": round(rows[0][1][6] * (1 << TICK_SHIFT) / 1e9),
    }


def drops(pins: Pins) -> list[Row]:
    """Every reason with its packets since the start, by family."""
    counted: dict[int, Row] = {
        reason: {"reason": reason.name.lower(), "meaning": DROP_WORDS[reason]} for reason in DROP_WORDS
    }
    for layout in families(pins):
        for row in counted.values():
            row[layout.name] = 0
        with BpfMap.open(pins.maps(layout) / "drops") as opened:
            for index, (packets,) in opened.summed():
                if index != DropReason.NONE and index in counted:
                    counted[index][layout.name] = packets
    return list(counted.values())


def status(pins: Pins) -> Row:
    """Hooks, devices, and how full the maps are."""
    found = families(pins)
    return {
        "pin_root": str(pins.root),
        "devices": _devices(pins, found),
        "hooks": [hook for layout in found for hook in _hooks(pins, layout)],
        "maps": [row for layout in found for row in _map_sizes(pins, layout)],
        "not_fitting": {layout.name: _unfit(pins, layout) for layout in found},
        "kernel_asked": {layout.name: _asks_kernel(pins, layout) for layout in found},
        "draining": {layout.name: opening_in(pins.maps(layout)) is Opening.NOTHING for layout in found},
    }


def _devices(pins: Pins, found: Sequence[Layout]) -> list[Row]:
    rows: dict[int, Row] = {}
    for layout in found:
        with BpfMap.open(pins.maps(layout) / "devices") as opened:
            for key, value in opened.items():
                ifindex = int.from_bytes(key, sys.byteorder)
                address, flags = layout.device.unpack(value)
                role = "uplink" if flags & DeviceFlag.UPLINK else "pod"
                row = rows.setdefault(
                    ifindex, {"ifindex": ifindex, "name": _interface(ifindex), "role": role, "masquerade": []}
                )
                if flags & DeviceFlag.MASQUERADE:
                    row["masquerade"].append(_address(address))
    return sorted(rows.values(), key=lambda row: (row["role"] != "uplink", row["name"]))


def _hooks(pins: Pins, layout: Layout) -> Iterator[Row]:
    for place in pinned_places(pins.links(layout)):
        fd = _opened(pins.links(layout) / f"{place.hook}-{place.target}")
        if fd is None:
            continue
        try:
            info = link_info(fd)
        finally:
            os.close(fd)
        on_socket = is_of_sockets(place)
        name = ""
        if info.target:
            name = f"cgroup {place.target}" if on_socket else _interface(place.target)
        yield {
            "family": layout.name,
            "interface": name,
            "ifindex": 0 if on_socket else place.target,
            "hook": place.hook,
            "by": "link",
            "program_id": info.program,
        }
    for place, program in clsact.attached_programs(layout):
        yield {
            "family": layout.name,
            "interface": _interface(place.target),
            "ifindex": place.target,
            "hook": place.hook,
            "by": "clsact",
            "program_id": program,
        }


def _unfit(pins: Pins, layout: Layout) -> int:
    """Service ports that the last change left as they were, since a map was full."""
    with BpfMap.open(pins.maps(layout) / "unfit") as opened:
        return int.from_bytes(opened.lookup(bytes(4)) or b"", sys.byteorder)


def _asks_kernel(pins: Pins, layout: Layout) -> bool:
    """Whether new flows are looked up in the kernel's connection tracking."""
    fd = _opened(pins.maps(layout) / "kernel_asked")
    if fd is None:  # made by an earlier version
        return False
    with BpfMap(fd) as opened:
        return any(opened.lookup(bytes(4)) or b"")


def _map_sizes(pins: Pins, layout: Layout) -> Iterator[Row]:
    for name in (*_COUNTED, SOCKETS):
        fd = _opened(pins.maps(layout) / name)
        if fd is None:  # of sockets, which --socket-lb may leave alone
            continue
        with BpfMap(fd) as opened:
            size = opened.info.max_entries
            if name == "endpoints":  # an array: what counts is who lives in it, and index 0 is nobody's
                used, size = len(_live_endpoints(layout, opened)), size - 1
            else:
                used = opened.count()
            yield {"family": layout.name, "map": name, "used": used, "size": size}


def _opened(pin: Path) -> int | None:
    """A pin's descriptor; None: it isn't there, or was taken away just now."""
    try:
        return obj_get(pin)
    except BpfError as error:
        if error.errno != errno.ENOENT:
            raise
        return None


def _interface(ifindex: int) -> str:
    try:
        return socket.if_indextoname(ifindex)
    except OSError:
        return ""


def _address(packed: bytes) -> str:
    return str(ipaddress.ip_address(packed))
