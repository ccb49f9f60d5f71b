"""The compiled programs in this kernel: loaded, their maps written and read, run over single packets.

Uses the project's binding to libbpf for loading; running and reading, done tens of thousands of times, go
through buffers that are made once.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterable
from ctypes import byref, c_int, c_uint32
from dataclasses import dataclass, replace
from pathlib import Path

from blixt_backend.planes.ebpf.libbpf import (
    BpfObject,
    checked,
    library,
    possible_cpus,
    run_syscall_program,
)
from blixt_backend.planes.ebpf.programs import OBJECTS, ON_REQUEST
from blixt_backend.planes.ebpf.signatures import TestRunOptions
from blixt_model import conntrack
from blixt_model.family import Family
from blixt_model.layout import Layout
from blixt_model.ports import is_closed
from blixt_model.tables import (
    Affinity,
    AffinityKey,
    Arrival,
    Closing,
    Counters,
    Datagram,
    DropReason,
    Embryo,
    Endpoint,
    FirstFragment,
    Flow,
    Frontend,
    Load,
    NodeRange,
    Opening,
    Service,
    Slot,
    Tables,
)
from blixt_model.ways import Hook, Settings

CONNECTIONS, EMBRYOS, AFFINITIES, SLOTS, ENDPOINTS, SERVICES = 1024, 1024, 256, 128, 16, 16
FRAGMENTS, MAGLEV_PARTS = 512, 32
_ENTRIES = {
    "connections": CONNECTIONS,
    "embryos": EMBRYOS,
    "affinities": AFFINITIES,
    "fragments": FRAGMENTS,
    "slots": SLOTS,
    "maglev": MAGLEV_PARTS,
    "endpoints": ENDPOINTS,
    "loads": ENDPOINTS,
    "counters": SERVICES,
    "services": 64,
    "devices": 64,
    "source_ranges": 64,
    "vacancies": 64,
    "kernel_asked": 1,
    "arrivals": 64,
    "nodes": 8,
}
_ARRAYS = ("slots", "maglev", "endpoints", "loads", "counters", "drops", "hints", "closings", "closed")
#: With the programs that userspace runs.
_SHARED = {"connections", "embryos", "endpoints", "loads"}
_PER_CPU = {"counters", "drops"}
#: Of a packet: a test run has one page for it, with room before and after.
MOST_BYTES = 3500
_BUFFER_BYTES = 9000
_XDP_CONTEXT = struct.Struct("<6I")


class _SkBuff(ctypes.Structure):
    """struct __sk_buff of linux/bpf.h up to gso_size, as far as a test run may set it."""

    _fields_ = (
        ("_before", c_uint32 * 9),
        ("ingress_ifindex", c_uint32),
        ("ifindex", c_uint32),
        ("_between", c_uint32 * 33),
        ("gso_size", c_uint32),
        ("_after", c_uint32 * 3),
    )


@dataclass(frozen=True, slots=True)
class Run:
    """What the kernel made of a packet."""

    verdict: int
    packet: bytes


class _Table:
    """One map, read whole with a single system call into a buffer of its own."""

    def __init__(self, name: str, fd: int, key_size: int, value_size: int, entries: int) -> None:
        self.name, self.fd, self.entries = name, fd, entries
        self.key_size = key_size
        self.value_size = value_size * (possible_cpus() if name in _PER_CPU else 1)
        self._keys = ctypes.create_string_buffer(entries * key_size)
        self._values = ctypes.create_string_buffer(entries * self.value_size)
        self._token = ctypes.create_string_buffer(max(key_size, 8))
        self._count = c_uint32()
        self._lookup = library().bpf_map_lookup_batch

    def read(self) -> dict[bytes, bytes]:
        self._count.value = self.entries
        result = self._lookup(self.fd, None, self._token, self._keys, self._values, byref(self._count), None)
        if result not in (0, -2):
            checked(result, f"reading map {self.name}")
        count, key, value = self._count.value, self.key_size, self.value_size
        keys = ctypes.string_at(self._keys, count * key)
        values = ctypes.string_at(self._values, count * value)
        return {keys[i * key : (i + 1) * key]: values[i * value : (i + 1) * value] for i in range(count)}

    def write(self, key: bytes, value: bytes) -> None:
        checked(library().bpf_map_update_elem(self.fd, key, value, 0), f"writing map {self.name}")

    def delete(self, key: bytes) -> None:
        checked(library().bpf_map_delete_elem(self.fd, key), f"deleting from map {self.name}")

    def clear(self) -> None:
        for key in self.read():
            self.delete(key)

    def zero(self) -> None:
        blank = bytes(self.value_size)
        for key, value in self.read().items():
            if value != blank:
                self.write(key, blank)


class Kernel:
    """The programs and maps of one family. Belongs to the thread that uses it; `close` it."""

    def __init__(self, path: Path, family: Family, settings: Settings) -> None:
        self.path, self.family, self.layout = path, family, Layout.of(family)
        self._object = BpfObject(path)
        for name, handle in self._object.maps.items():
            checked(library().bpf_map__set_pin_path(handle, None), f"unpinning {name}")
        for name, entries in _ENTRIES.items():
            self._object.set_max_entries(name, entries)
        self._object.set_max_entries("hints", settings.hint_count)
        self._object.set_max_entries("closings", settings.closing_count)
        self._object.set_rodata(
            {
                "hash_seed": settings.hash_seed,
                "masquerade_port_first": settings.port_first,
                "masquerade_port_count": settings.port_count,
                "hint_count": settings.hint_count,
                "closing_count": settings.closing_count,
                "checksum_ipv6_flag": 1 << 7,
            }
        )
        self._object.load()
        self._tasks = self._load_tasks()
        self._programs = {hook: self._object.program_fd(hook.value) for hook in Hook}
        self._tables = {name: self._table(name) for name in (*_ENTRIES, "drops", "opening")}
        self._tables["hints"] = _Table("hints", self._object.map_fd("hints"), 4, 16, settings.hint_count)
        closing_size = self.layout.flow_format.size + 4
        self._tables["closings"] = _Table(
            "closings", self._object.map_fd("closings"), 4, closing_size, settings.closing_count
        )
        self._tables["closed"] = _Table("closed", self._object.map_fd("closed"), 4, 8, 1)
        self._context = _SkBuff()
        self._in = ctypes.create_string_buffer(_BUFFER_BYTES)
        self._out = ctypes.create_string_buffer(_BUFFER_BYTES)
        self._options = TestRunOptions(sz=ctypes.sizeof(TestRunOptions), repeat=1)

    def _load_tasks(self) -> BpfObject:
        """The programs that userspace runs, on the same maps."""
        tasks = BpfObject(OBJECTS / f"{ON_REQUEST}{self.family.version}.bpf.o")
        for name, handle in tasks.maps.items():
            checked(library().bpf_map__set_pin_path(handle, None), f"unpinning {name}")
            if name in _SHARED:
                shared = self._object.map_fd(name)
                checked(library().bpf_map__reuse_fd(ctypes.c_void_p(handle), shared), f"sharing {name}")
        tasks.set_max_entries("recounted", ENDPOINTS)
        tasks.load()
        return tasks

    def _table(self, name: str) -> _Table:
        a = self.layout.address
        sizes = {
            "connections": (self.layout.flow_format.size, self.layout.connection_format.size),
            "embryos": (self.layout.flow_format.size, self.layout.embryo_format.size),
            "affinities": (self.layout.affinity_key_format.size, 12),
            "fragments": (self.layout.datagram_format.size, 12),
            "slots": (4, 12),
            "maglev": (4, 64),
            "loads": (4, 8),
            "endpoints": (4, self.layout.endpoint_format.size),
            "counters": (4, 48),
            "services": (self.layout.frontend_format.size, 28),
            "devices": (4, self.layout.device_format.size),
            "source_ranges": (8 + a, 4),
            "vacancies": (4 + a, 4),
            "drops": (4, 8),
            "opening": (4, 4),
            "kernel_asked": (4, 4),
            "arrivals": (4 + a, 4),
            "nodes": (4 + a, 4),
        }
        entries = _ENTRIES.get(name, max(DropReason) + 1)
        return _Table(name, self._object.map_fd(name), *sizes[name], entries)

    def close(self) -> None:
        self._tasks.close()
        self._object.close()

    def run(self, hook: Hook, packet: bytes, device: int, *, came_in_by: int = 0, gso_size: int = 0) -> Run:
        """One packet through one program. Must be called inside the namespace that has the device.

        A packet has 14 to MOST_BYTES bytes, for TC all of its network header; it becomes a linear one.
        """
        options = self._options
        ctypes.memmove(self._in, packet, len(packet))
        options.data_in = ctypes.addressof(self._in)
        options.data_size_in = len(packet)
        options.data_out = ctypes.addressof(self._out)
        options.data_size_out = _BUFFER_BYTES
        if hook is Hook.UPLINK_XDP:
            xdp = ctypes.create_string_buffer(_XDP_CONTEXT.pack(0, len(packet), 0, device, 0, 0))
            options.ctx_in, options.ctx_size_in = ctypes.addressof(xdp), _XDP_CONTEXT.size
        else:
            self._context.ifindex = device
            self._context.ingress_ifindex = came_in_by
            self._context.gso_size = gso_size
            options.ctx_in = ctypes.addressof(self._context)
            options.ctx_size_in = ctypes.sizeof(self._context)
        result = library().bpf_prog_test_run_opts(self._programs[hook], byref(options))
        checked(result, f"running {hook.value} on {len(packet)} bytes")
        return Run(c_int(options.retval).value, self._out.raw[: options.data_size_out])

    def reset(self, tables: Tables) -> None:
        """Everything of an earlier world goes; `tables`, which have no connections yet, come."""
        cleared = ("connections", "embryos", "affinities", "fragments", "services", "devices")
        for name in cleared:
            self._tables[name].clear()
        self._clear_trie("source_ranges")
        self._clear_trie("vacancies")
        for name in _ARRAYS:
            self._tables[name].zero()
        for frontend, service in tables.services.items():
            self.write_service(frontend, service)
        for index, slot in tables.slots.items():
            self.write_slot(index, slot)
        for index, weights in tables.weights.items():
            self._tables["slots"].write(_index(index), struct.pack("<II4x", weights.endpoint, weights.alias))
        for index, part in self.layout.maglev_parts(tables.maglev).items():
            self._tables["maglev"].write(_index(index), part)
        for index, endpoint in tables.endpoints.items():
            self.write_endpoint(index, endpoint)
        for ifindex, device in tables.devices.items():
            self._tables["devices"].write(_index(ifindex), self.layout.device(device))
        for entry in tables.source_ranges:
            self._tables["source_ranges"].write(self.layout.source_range(entry), _index(1))
        for vacancy, answer in tables.vacancies.items():
            self._tables["vacancies"].write(self.layout.vacancy(vacancy), _index(answer))
        self.write_node_ranges(tables.node_ranges)
        self.write_arrivals(tables.arrivals)
        self.write_kernel_flows(tables)
        self.write_opening(tables.opening)

    def write_opening(self, opening: Opening) -> None:
        self._tables["opening"].write(_index(0), _index(opening))

    def _clear_trie(self, name: str) -> None:
        table = self._tables[name]
        key = ctypes.create_string_buffer(table.key_size)
        following = ctypes.CDLL("libbpf.so.1").bpf_map_get_next_key
        while following(table.fd, None, key) == 0:
            table.delete(key.raw)

    def write_service(self, frontend: Frontend, service: Service) -> None:
        self._tables["services"].write(self.layout.frontend(frontend), self.layout.service(service))

    def write_endpoint(self, index: int, endpoint: Endpoint) -> None:
        self._tables["endpoints"].write(_index(index), self.layout.endpoint(endpoint))

    def write_slot(self, index: int, slot: Slot) -> None:
        self._tables["slots"].write(_index(index), self.layout.slot(slot))

    def write_arrivals(self, arrivals: dict[Arrival, int]) -> None:
        self._tables["arrivals"].clear()
        for arrival, index in arrivals.items():
            self._tables["arrivals"].write(_index(arrival.service) + arrival.address, _index(index))

    def write_node_ranges(self, ranges: Iterable[NodeRange]) -> None:
        self._clear_trie("nodes")
        for entry in ranges:
            self._tables["nodes"].write(self.layout.node_range(entry), _index(0))

    def write_kernel_flows(self, tables: Tables) -> None:
        conntrack.replace(tables.kernel_flows)
        self._tables["kernel_asked"].write(_index(0), _index(tables.kernel_asked))

    def connections(self) -> dict[bytes, bytes]:
        """The entries as they are in the map."""
        return self._tables["connections"].read()

    def write_connection(self, key: bytes, value: bytes) -> None:
        self._tables["connections"].write(key, value)

    def delete_connection(self, key: bytes) -> None:
        self._tables["connections"].delete(key)

    def recount(self) -> None:
        run_syscall_program(self._tasks.program_fd("recount_connections"))

    def remaining(self) -> int:
        """How many flows `count_remaining` finds; entries of the others are gone then."""
        return run_syscall_program(self._tasks.program_fd("count_remaining"))

    def loads(self, known: Iterable[int]) -> dict[int, Load]:
        """Of endpoints that are known, or have any."""
        found = {
            int.from_bytes(key, "little"): Load(*struct.unpack("<Ii", value))
            for key, value in self._tables["loads"].read().items()
        }
        blank = Load()
        return {index: load for index, load in found.items() if load != blank or index in known}

    def embryos(self) -> dict[Flow, Embryo]:
        layout, found = self.layout, {}
        for key, value in self._tables["embryos"].read().items():
            flow = layout.to_flow(key)
            found[flow] = layout.to_embryo(value, flow.protocol)
        return found

    def write_embryo(self, key: Flow, embryo: Embryo) -> None:
        self._tables["embryos"].write(self.layout.flow(key), self.layout.embryo(embryo))

    def age_embryos(self, ticks: int) -> None:
        """As if all had been seen so many ticks earlier."""
        for key, embryo in self.embryos().items():
            self.write_embryo(
                key, replace(embryo, born_tick=embryo.born_tick - ticks, seen_tick=embryo.seen_tick - ticks)
            )

    def delete_embryo(self, key: Flow) -> None:
        self._tables["embryos"].delete(self.layout.flow(key))

    def write_closing(self, index: int, closing: Closing) -> None:
        raw = self.layout.flow(closing.client) + _index(closing.tick)
        self._tables["closings"].write(_index(index), raw)

    def age_closed(self, ticks: int) -> None:
        """As if connections that are over had been seen so many ticks earlier."""
        for key, raw in self.connections().items():
            entry = self.layout.to_connection(raw, self.layout.to_flow(key).protocol)
            if is_closed(entry) and entry.seen_tick:
                self.write_connection(key, self.layout.with_seen_tick(raw, entry.seen_tick - ticks))
        for index, raw in self._tables["closings"].read().items():
            tick = int.from_bytes(raw[-4:], "little")
            if tick:
                self._tables["closings"].write(index, raw[:-4] + _index(tick - ticks))

    def clear_hints(self) -> None:
        self._tables["hints"].zero()

    def affinities(self) -> dict[AffinityKey, Affinity]:
        layout = self.layout
        found = self._tables["affinities"].read()
        return {layout.to_affinity_key(key): layout.to_affinity(value) for key, value in found.items()}

    def write_affinity(self, key: AffinityKey, affinity: Affinity) -> None:
        self._tables["affinities"].write(self.layout.affinity_key(key), self.layout.affinity(affinity))

    def fragments(self) -> dict[Datagram, FirstFragment]:
        layout = self.layout
        found = self._tables["fragments"].read()
        return {layout.to_datagram(key): layout.to_first_fragment(value) for key, value in found.items()}

    def write_fragment(self, key: Datagram, first: FirstFragment) -> None:
        self._tables["fragments"].write(self.layout.datagram(key), self.layout.first_fragment(first))

    def counters(self) -> dict[int, Counters]:
        """Of services that have counted anything."""
        found = self._tables["counters"].read()
        return {int.from_bytes(key, "little"): _counters(value) for key, value in found.items() if any(value)}

    def drops(self) -> dict[DropReason, int]:
        found = self._tables["drops"].read()
        return {
            DropReason(int.from_bytes(key, "little")): sum(struct.unpack(f"<{len(value) // 8}Q", value))
            for key, value in found.items()
            if any(value)
        }


def _counters(raw: bytes) -> Counters:
    """The sum over the CPUs' parts."""
    numbers = struct.unpack(f"<{len(raw) // 8}Q", raw)
    return Counters(*(sum(numbers[field::6]) for field in range(6)))


def _index(number: int) -> bytes:
    return number.to_bytes(4, "little")
