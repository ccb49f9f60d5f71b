"""A thin binding to libbpf.so.1: objects and their programs, BTF, test runs.
Maps are in `maps`, links in `links`.

Every failure is a BpfError, an OSError with the kernel's errno and one line that says what was tried.
libbpf's own messages go to this module's logger at debug; a failed load carries the last of them.
"""

from __future__ import annotations

import collections
import ctypes
import errno
import functools
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint32, c_void_p
from pathlib import Path

from blixt_backend.planes.ebpf.signatures import SIGNATURES, PrintCallback, TestRunOptions

log = logging.getLogger(__name__)

BTF_KIND_DATASEC = 15
_LOG_LINES_KEPT = 60
_LOG_LINES_SHOWN = 12


class BpfError(OSError):
    """What was tried and why the kernel refused; `errno` is the kernel's,
    `done` the entries a batch got through."""

    def __init__(self, code: int, what: str, done: int = 0) -> None:
        super().__init__(code, f"{what}: {os.strerror(code)} ({errno.errorcode.get(code, code)})")
        self.done = done

    def __str__(self) -> str:
        return str(self.strerror)


class LibbpfMissingError(Exception):
    """The library isn't installed."""


class _Log:
    """Receives libbpf's messages: to the logger, and the last lines kept for the next failure's text."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._vsnprintf = ctypes.CDLL(None).vsnprintf
        self._vsnprintf.argtypes = (c_char_p, c_size_t, c_char_p, c_void_p)
        self.callback = PrintCallback(self._receive)  # ctypes frees what nobody refers to

    @property
    def lines(self) -> collections.deque[str]:
        if not hasattr(self._local, "lines"):
            self._local.lines = collections.deque(maxlen=_LOG_LINES_KEPT)
        kept: collections.deque[str] = self._local.lines
        return kept

    def _receive(self, _level: int, pattern: bytes, arguments: int) -> int:
        # A va_list is a pointer in a call on every 64-bit ABI we run on, so it can be handed on as one.
        buffer = ctypes.create_string_buffer(65536)
        self._vsnprintf(buffer, len(buffer), pattern, arguments)
        for line in buffer.value.decode(errors="replace").splitlines():
            if line.strip():
                self.lines.append(line)
                log.debug("%s", line)
        return 0


@functools.cache
def _loaded() -> tuple[ctypes.CDLL, _Log]:
    try:
        library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise LibbpfMissingError(f"libbpf.so.1 can't be loaded ({error}): apt install libbpf1") from error
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    messages = _Log()
    library.libbpf_set_print(messages.callback)
    return library, messages


def library() -> ctypes.CDLL:
    """libbpf with typed functions. Raises LibbpfMissingError."""
    return _loaded()[0]


def checked(result: int, what: str | Callable[[], str]) -> int:
    """The result of a libbpf call that returns a negative errno; BpfError when it is one."""
    if result >= 0:
        return result
    raise BpfError(-result if result != -1 else ctypes.get_errno(), what if isinstance(what, str) else what())


def obj_get(path: Path | str) -> int:
    """A file descriptor of a pinned map or link. Raises BpfError, ENOENT when nothing is pinned there."""
    return checked(library().bpf_obj_get(os.fsencode(path)), f"opening {path}")


def obj_pin(fd: int, path: Path | str) -> None:
    checked(library().bpf_obj_pin(fd, os.fsencode(path)), f"pinning {path}")


def object_info(fd: int, size: int) -> bytes:
    """The first `size` bytes of the kernel's bpf_*_info of a map, program or link."""
    buffer = ctypes.create_string_buffer(size)
    length = c_uint32(size)
    checked(library().bpf_obj_get_info_by_fd(fd, buffer, byref(length)), "reading an object's info")
    return buffer.raw


def program_id(fd: int) -> int:
    return int.from_bytes(object_info(fd, 8)[4:8], sys.byteorder)


def possible_cpus() -> int:
    """CPUs that may ever be there: values of per-CPU maps have one part for each."""
    return checked(library().libbpf_num_possible_cpus(), "counting CPUs")


def prog_test_run(
    fd: int, packet: bytes, context: bytes = b"", repeat: int = 1, room: int = 512
) -> tuple[int, bytes, bytes, int]:
    """BPF_PROG_TEST_RUN: (verdict as a signed number, packet after, context after, ns for each run)."""
    data = ctypes.create_string_buffer(packet, len(packet))
    out = ctypes.create_string_buffer(len(packet) + room)
    context_in = ctypes.create_string_buffer(context, len(context)) if context else None
    context_out = ctypes.create_string_buffer(len(context)) if context else None
    options = TestRunOptions(
        sz=ctypes.sizeof(TestRunOptions),
        data_in=ctypes.addressof(data),
        data_out=ctypes.addressof(out),
        data_size_in=len(packet),
        data_size_out=len(out),
        ctx_in=ctypes.addressof(context_in) if context_in else None,
        ctx_out=ctypes.addressof(context_out) if context_out else None,
        ctx_size_in=len(context),
        ctx_size_out=len(context),
        repeat=repeat,
    )
    checked(library().bpf_prog_test_run_opts(fd, byref(options)), "running a program on a test packet")
    after = context_out.raw[: options.ctx_size_out] if context_out else b""
    return c_int(options.retval).value, out.raw[: options.data_size_out], after, options.duration


def run_syscall_program(fd: int, context: bytes = b"") -> int:
    """A program of type syscall, once, on a copy of its context; what it returned. Raises BpfError."""
    options = TestRunOptions(sz=ctypes.sizeof(TestRunOptions))
    data = ctypes.create_string_buffer(context, len(context))
    if context:
        options.ctx_in, options.ctx_size_in = ctypes.addressof(data), len(context)
    checked(library().bpf_prog_test_run_opts(fd, byref(options)), "running a program of our own")
    return c_int(options.retval).value


class BpfObject:
    """A compiled object, from open to close: set what is to be set, load,
    take programs' and maps' descriptors.

    Descriptors belong to the object and go with `close`; what is pinned stays.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lib, self._log = _loaded()
        if not path.is_file():
            raise BpfError(errno.ENOENT, f"no BPF object {path} (it is built by `make bpf`)")
        self._handle: int | None = self._lib.bpf_object__open_file(os.fsencode(path), None)
        if not self._handle:
            raise BpfError(ctypes.get_errno(), f"opening {path}{self._last_words()}")
        self.maps = dict(self._iterate("map"))
        self.programs = dict(self._iterate("program"))

    def _iterate(self, kind: str) -> Iterator[tuple[str, int]]:
        following = getattr(self._lib, f"bpf_object__next_{kind}")
        name = getattr(self._lib, f"bpf_{kind}__name")
        handle = following(self._handle, None)
        while handle:
            yield name(handle).decode(), handle
            handle = following(self._handle, handle)

    def _last_words(self) -> str:
        lines = list(self._log.lines)[-_LOG_LINES_SHOWN:]
        return "".join(f"\n  {line}" for line in lines)

    def set_max_entries(self, name: str, entries: int) -> None:
        checked(self._lib.bpf_map__set_max_entries(self.maps[name], entries), f"sizing map {name}")

    def max_entries(self, name: str) -> int:
        return int(self._lib.bpf_map__max_entries(self.maps[name]))

    def set_pin_path(self, name: str, path: Path) -> None:
        checked(
            self._lib.bpf_map__set_pin_path(self.maps[name], os.fsencode(path)), f"pin path of map {name}"
        )

    def pinned_by_name(self) -> list[str]:
        """Maps that are declared with LIBBPF_PIN_BY_NAME."""
        return [name for name, handle in self.maps.items() if self._lib.bpf_map__pin_path(handle)]

    def entry_sizes(self, name: str) -> tuple[int, int]:
        """Bytes of a key and of a value."""
        handle = self.maps[name]
        return self._lib.bpf_map__key_size(handle), self._lib.bpf_map__value_size(handle)

    def map_type(self, name: str) -> tuple[int, int]:
        """Its kind (enum bpf_map_type) and flags."""
        handle = self.maps[name]
        return self._lib.bpf_map__type(handle), self._lib.bpf_map__map_flags(handle)

    def entry_types(self, name: str) -> tuple[int, int]:
        """The numbers of a key's and a value's type in `btf`; 0: none."""
        handle = self.maps[name]
        return self._lib.bpf_map__btf_key_type_id(handle), self._lib.bpf_map__btf_value_type_id(handle)

    def btf(self) -> bytes:
        """The types of all that is in it."""
        size = c_uint32()
        start = self._lib.btf__raw_data(self._lib.bpf_object__btf(self._handle), byref(size))
        return ctypes.string_at(start, size.value)

    def set_autoload(self, program: str, load: bool) -> None:
        checked(self._lib.bpf_program__set_autoload(self.programs[program], load), f"leaving out {program}")

    def variables(self, section: str = ".rodata") -> dict[str, tuple[int, int]]:
        """Global variables of a section, from the object's BTF: name -> (offset, size)."""
        btf = self._lib.bpf_object__btf(self._handle)
        found = self._lib.btf__find_by_name_kind(btf, section.encode(), BTF_KIND_DATASEC) if btf else -1
        if found < 0:
            return {}
        header = self._lib.btf__type_by_id(btf, found)  # struct btf_type, then btf_var_secinfo
        count = c_uint32.from_address(header + 4).value & 0xFFFF
        variables = {}
        for entry in range(header + 12, header + 12 + 12 * count, 12):
            kind, offset, size = (c_uint32 * 3).from_address(entry)
            name_offset = c_uint32.from_address(self._lib.btf__type_by_id(btf, kind)).value
            variables[self._lib.btf__name_by_offset(btf, name_offset).decode()] = (offset, size)
        return variables

    def set_rodata(self, values: dict[str, int]) -> set[str]:
        """Set `const volatile` numbers before loading; returns the names that this object has."""
        variables = self.variables()
        handle = next((h for name, h in self.maps.items() if name.endswith(".rodata")), None)
        if handle is None:
            return set()
        size = c_size_t()
        start = self._lib.bpf_map__initial_value(handle, byref(size))
        known = variables.keys() & values.keys()
        for name in known:
            offset, length = variables[name]
            number = values[name].to_bytes(length, sys.byteorder)
            ctypes.memmove(start + offset, number, length)
        return known

    def load(self) -> None:
        """Create or take over the maps, verify the programs. BpfError with the verifier's last lines."""
        self._log.lines.clear()
        result = self._lib.bpf_object__load(self._handle)
        if result < 0:
            raise BpfError(-result, f"loading {self.path.name} failed{self._last_words()}\n ")

    def program_fd(self, name: str) -> int:
        if name not in self.programs:
            raise BpfError(errno.ENOENT, f"{self.path.name} has no program {name}")
        return checked(self._lib.bpf_program__fd(self.programs[name]), f"descriptor of program {name}")

    def map_fd(self, name: str) -> int:
        return checked(self._lib.bpf_map__fd(self.maps[name]), f"descriptor of map {name}")

    def close(self) -> None:
        if self._handle:
            self._lib.bpf_object__close(self._handle)
            self._handle = None
