"""One BPF map: single entries, and batches that cost one system call for thousands.

Keys and values are bytes in the layouts of `layout`; batches take and give them joined.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable, Iterator
from ctypes import byref, c_size_t, c_uint32, c_uint64
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from blixt_backend.planes.ebpf.libbpf import BpfError, checked, library, obj_get, object_info, possible_cpus

HASH, ARRAY, PROG_ARRAY, PERCPU_HASH, PERCPU_ARRAY = 1, 2, 3, 5, 6
LRU_HASH, LRU_PERCPU_HASH, LPM_TRIE = 9, 10, 11
BPF_ANY, BPF_NOEXIST = 0, 1
BPF_F_NO_PREALLOC = 1
_PER_CPU = {PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH}
_CHUNK = 8192


class _BatchOptions(ctypes.Structure):
    _fields_ = (("sz", c_size_t), ("elem_flags", c_uint64), ("flags", c_uint64))


class _CreateOptions(ctypes.Structure):
    """struct bpf_map_create_opts up to map_flags."""

    _fields_ = (("sz", c_size_t), ("btf", c_uint32 * 4), ("inner_map_fd", c_uint32), ("map_flags", c_uint32))


@dataclass(frozen=True, slots=True)
class MapInfo:
    """What the kernel says of a map (struct bpf_map_info). `value_size` is one CPU's in a per-CPU map."""

    kind: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: str


def create_map(kind: int, name: str, key_size: int, value_size: int, entries: int, flags: int = 0) -> int:
    """A descriptor of a new map. Raises BpfError."""
    options = _CreateOptions(sz=ctypes.sizeof(_CreateOptions), map_flags=flags)
    made = library().bpf_map_create(kind, name.encode(), key_size, value_size, entries, byref(options))
    return checked(made, f"creating map {name}")


class BpfMap:
    """Owns its descriptor. Every method raises BpfError."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        kind, number, key, value, entries, flags, name = struct.unpack("6I16s", object_info(fd, 40))
        self.info = MapInfo(kind, number, key, value, entries, flags, name.rstrip(b"\0").decode())
        self.stride = value
        if kind in _PER_CPU:
            self.stride = (value + 7) // 8 * 8 * possible_cpus()

    @classmethod
    def open(cls, path: Path) -> Self:
        return cls(obj_get(path))

    @classmethod
    def borrowed(cls, fd: int) -> Self:
        """Of a descriptor that someone else closes."""
        return cls(os.dup(fd))

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None
    ) -> None:
        self.close()

    def lookup(self, key: bytes) -> bytes | None:
        value = ctypes.create_string_buffer(self.stride)
        result = library().bpf_map_lookup_elem(self.fd, key, value)
        if result == -errno.ENOENT:
            return None
        checked(result, lambda: f"reading map {self.info.name}")
        return value.raw

    def update(self, key: bytes, value: bytes, flags: int = BPF_ANY) -> None:
        result = library().bpf_map_update_elem(self.fd, key, value, flags)
        checked(result, lambda: f"writing map {self.info.name}")

    def delete(self, key: bytes) -> bool:
        """Whether it was there."""
        result = library().bpf_map_delete_elem(self.fd, key)
        if result == -errno.ENOENT:
            return False
        checked(result, lambda: f"deleting from map {self.info.name}")
        return True

    def update_joined(self, keys: bytes, values: bytes) -> None:
        """Write every pair of the joined keys and values; BpfError.done says
        how many were before a failure."""
        total = len(keys) // self.info.key_size
        if total == 0:
            return
        if len(values) != total * self.stride:
            raise ValueError(f"map {self.info.name}: {len(values)} bytes of values for {total} keys")
        options = _BatchOptions(sz=ctypes.sizeof(_BatchOptions))
        count = c_uint32(total)
        result = library().bpf_map_update_batch(self.fd, keys, values, byref(count), byref(options))
        if result < 0:
            raise BpfError(-result, f"writing {total} entries to map {self.info.name}", count.value)

    def delete_joined(self, keys: bytes) -> int:
        """Delete every key; one that isn't there is no error. Returns how many were."""
        size, deleted, start = self.info.key_size, 0, 0
        options = _BatchOptions(sz=ctypes.sizeof(_BatchOptions))
        total = len(keys) // size
        while start < total:
            count = c_uint32(total - start)
            rest = keys[start * size :]
            result = library().bpf_map_delete_batch(self.fd, rest, byref(count), byref(options))
            if result < 0 and result != -errno.ENOENT:
                raise BpfError(-result, f"deleting from map {self.info.name}", deleted + count.value)
            deleted += count.value
            start += count.value + (result == -errno.ENOENT)
        return deleted

    def chunks(self, limit: int | None = None) -> Iterator[tuple[bytes, bytes]]:
        """All entries as (joined keys, joined values), a chunk at a time; of
        an array the first `limit` only."""
        info = self.info
        left = info.max_entries if limit is None else min(limit, info.max_entries)
        chunk = max(min(_CHUNK, info.max_entries), 1)
        token = ctypes.create_string_buffer(max(info.key_size, 8))
        options = _BatchOptions(sz=ctypes.sizeof(_BatchOptions))
        first, bounded = True, info.kind in (ARRAY, PERCPU_ARRAY)
        keys = values = None
        while left > 0 or not bounded:
            if keys is None or values is None:
                keys = ctypes.create_string_buffer(chunk * info.key_size)
                values = ctypes.create_string_buffer(chunk * self.stride)
            count = c_uint32(min(chunk, left) if bounded else chunk)
            result = library().bpf_map_lookup_batch(
                self.fd, None if first else token, token, keys, values, byref(count), byref(options)
            )
            if result == -errno.ENOSPC:  # a bucket with more entries than the chunk holds
                chunk, keys = chunk * 2, None
                continue
            if result < 0 and result != -errno.ENOENT:
                raise BpfError(-result, f"reading map {info.name}")
            if count.value:
                yield keys.raw[: count.value * info.key_size], values.raw[: count.value * self.stride]
            if result == -errno.ENOENT:
                return
            first, left = False, left - count.value

    def dump(self, limit: int | None = None) -> tuple[bytes, bytes]:
        """All entries as (joined keys, joined values)."""
        chunks = list(self.chunks(limit))
        return b"".join(keys for keys, _ in chunks), b"".join(values for _, values in chunks)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        size, stride = self.info.key_size, self.stride
        for keys, values in self.chunks():
            for index in range(len(keys) // size):
                yield keys[index * size : (index + 1) * size], values[index * stride : (index + 1) * stride]

    def count(self) -> int:
        """Entries in it, by reading it: the kernel keeps no count that userspace could ask for."""
        return sum(len(keys) // self.info.key_size for keys, _ in self.chunks())

    def summed(self, limit: int | None = None) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Of a per-CPU array of u64s: (index, sums over the CPUs) of entries that aren't all zero."""
        words = (self.info.value_size + 7) // 8
        cpus = self.stride // (words * 8)
        blank = bytes(self.stride)
        index = 0
        for _, values in self.chunks(limit):
            for start in range(0, len(values), self.stride):
                part = values[start : start + self.stride]
                if part != blank:
                    numbers = struct.unpack(f"{cpus * words}Q", part)
                    yield index, tuple(sum(numbers[word::words]) for word in range(words))
                index += 1


def joined(entries: Iterable[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    """Pairs as the two arguments of `update_joined`."""
    pairs = list(entries)
    return b"".join(key for key, _ in pairs), b"".join(value for _, value in pairs)
