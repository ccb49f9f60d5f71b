"""bcc: found, fed, and attached. It compiles without any header of the kernel's."""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from blixt_backend.planes.ebpf.programs import OBJECTS
from blixt_backend.planes.ebpf.trace.btf import Btf, BtfError
from blixt_backend.planes.ebpf.trace.events import PLACE
from blixt_backend.planes.ebpf.trace.places import Place

#: Where Debian's python3-bpfcc is, which a virtual environment doesn't look at.
_SYSTEM = "/usr/lib/python3/dist-packages"
_BTF = Path("/sys/kernel/btf/vmlinux")
_OFFSETS = {
    "PROTOCOL": ("sk_buff", "protocol"),
    "NETWORK_HEADER": ("sk_buff", "network_header"),
    "HEAD": ("sk_buff", "head"),
    "LENGTH": ("sk_buff", "len"),
    "DEVICE": ("sk_buff", "dev"),
    "NAME": ("net_device", "name"),
}
_WIDTHS = {8: "char", 16: "short", 32: "int", 64: "long long"}
_TYPES = [
    line
    for bits, name in _WIDTHS.items()
    for sign, letter in (("unsigned", "u"), ("signed", "s"))
    for line in (f"typedef {sign} {name} __{letter}{bits};", f"typedef __{letter}{bits} {letter}{bits};")
]
#: What bcc's own headers include, as far as they need it.
_HEADERS = {
    "linux/types.h": [
        "#pragma once",
        *_TYPES,
        "typedef __u16 __be16, __sum16; typedef __u32 __be32, __wsum; typedef __u64 __be64;",
        "typedef __u64 __aligned_u64 __attribute__((aligned(8)));",
        "typedef unsigned long size_t, uintptr_t; typedef _Bool bool;",
        "#define NULL ((void *)0)",
    ],
    "linux/kconfig.h": ["#include <linux/types.h>", "#define CONFIG_BPF_SYSCALL 1"],
    "linux/version.h": [
        "#define LINUX_VERSION_CODE 0",
        "#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))",
    ],
}
_EMPTY_HEADERS = (
    "asm/page.h",
    "linux/bpf.h",
    "linux/bpf_common.h",
    "linux/log2.h",
    "uapi/linux/bpf.h",
    "uapi/linux/if_packet.h",
)


class TraceError(Exception):
    """What is missing, and what to do, in one line for an operator."""


def load_bcc() -> Any:
    """Debian's module, also from within a virtual environment. Raises TraceError."""
    for more in ([], [_SYSTEM]):
        before = sys.path[:]
        sys.path += more
        try:
            found = importlib.import_module("bcc")
        except ImportError:
            sys.modules.pop("bcc", None)
            continue
        finally:
            sys.path[:] = before
        if hasattr(found, "BPF"):
            return found
        sys.modules.pop("bcc", None)  # PyPI's package of that name is another one
    raise TraceError("bcc is not here: install Debian's python3-bpfcc (PyPI's bcc is something else)")


def read_btf() -> Btf:
    """This kernel's. Raises TraceError."""
    try:
        return Btf(_BTF.read_bytes())
    except (OSError, BtfError) as error:
        raise TraceError(f"{_BTF}: {error}: the kernel needs CONFIG_DEBUG_INFO_BTF=y") from error


class Tracer:
    """The program, attached until `close`. Raises TraceError."""

    def __init__(self, bcc: Any, btf: Btf, places: Iterable[Place]) -> None:
        wanted = set(places)
        source = OBJECTS / "trace.c"
        try:
            text, flags = source.read_text(), _flags(btf, filtered=bool(wanted))
        except (OSError, BtfError) as error:
            raise TraceError(f"{source}: {error}" if isinstance(error, OSError) else str(error)) from error
        try:
            with _headers() as folder, _environment("BCC_KERNEL_SOURCE", str(folder)):
                self._bpf = bcc.BPF(text=text, cflags=flags)
        except Exception as error:  # bcc raises nothing more special
            raise TraceError(f"bcc can't compile or load the program: {error}") from error
        table = self._bpf["wanted"]
        for address, port in wanted:
            key = PLACE.pack(address, port.to_bytes(2, "big"))
            table[table.Key.from_buffer_copy(key)] = table.Leaf(1)

    def listen(self, on_event: Callable[[bytes], None], on_lost: Callable[[int], None]) -> None:
        """Call back from `poll`."""
        self._bpf["events"].open_perf_buffer(
            lambda cpu, data, size: on_event(ctypes.string_at(data, size)), page_cnt=64, lost_cb=on_lost
        )

    def poll(self, seconds: float) -> None:
        self._bpf.perf_buffer_poll(timeout=max(int(seconds * 1000), 1))

    def symbol(self, address: int) -> str:
        """The kernel's function at an address."""
        found: bytes = self._bpf.ksym(address, show_offset=True)
        return found.decode()

    def close(self) -> None:
        self._bpf.cleanup()


def _flags(btf: Btf, *, filtered: bool) -> list[str]:
    flags = [f"-DOFFSET_{name}={btf.offset(*member)}" for name, member in _OFFSETS.items()]
    if btf.enumerators("skb_drop_reason"):  # Linux 5.17: before, the tracepoint has no reason
        flags.append("-DHAS_REASON")
    return [*flags, "-DFILTERED"] if filtered else flags


@contextmanager
def _headers() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="blixt-trace-") as name:
        for path, lines in (_HEADERS | {path: [] for path in _EMPTY_HEADERS}).items():
            header = Path(name, "include", path)
            header.parent.mkdir(parents=True, exist_ok=True)
            header.write_text("".join(f"{line}\n" for line in lines))
        yield Path(name)


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
