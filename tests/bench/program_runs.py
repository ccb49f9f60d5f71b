"""Repeated test runs of pinned programs (BPF_PROG_TEST_RUN), with the headers written anew before each:
rearm.bpf.c.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import struct
import subprocess
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Self

from blixt_backend.planes.ebpf.libbpf import BpfError, BpfObject, checked, obj_get, prog_test_run
from blixt_backend.planes.ebpf.links import link_info
from blixt_backend.planes.ebpf.maps import BpfMap

_SOURCE = Path(__file__).with_name("rearm.bpf.c")
_PLAN = struct.Struct("=54sBxII")
#: struct __sk_buff, of which only ifindex is set, and struct xdp_md.
_SKB = struct.Struct("=40xI148x")
_XDP = struct.Struct("=6I")
_SYN, _ACK = 0x02, 0x10
_NOT_HANDED_ON = 99
_PAYLOAD = bytes(10)  # to Ethernet's shortest frame


class Hook(Enum):
    TC = "tc"
    XDP = "xdp"


@dataclass(frozen=True, slots=True)
class Packets:
    """TCP over IPv4 from or to flows: numbers that count up from `first`, below `flows` (a power of two) if
    that isn't 0. Addresses of the fixed end, of flow 0, and MACs are packed; flows differ by address and
    port.
    """

    macs: bytes  # destination, source
    flow_zero: bytes
    fixed: bytes
    fixed_port: int
    flags: int
    to_flow: bool = False
    flows: int = 0
    first: int = 0

    def plan(self) -> bytes:
        ends = (self.fixed, self.flow_zero) if self.to_flow else (self.flow_zero, self.fixed)
        ports = (self.fixed_port, 0) if self.to_flow else (0, self.fixed_port)
        length = 40 + len(_PAYLOAD)
        network = struct.pack("!BBHHHBBH4s4s", 0x45, 0, length, 0, 0x4000, 64, 6, 0, *ends)
        transport = struct.pack("!HHIIBBHHH", *ports, 1, 1, 0x50, self.flags, 65535, 0, 0)
        headers = self.macs + b"\x08\x00" + network + transport
        return _PLAN.pack(headers, self.to_flow, self.first, self.flows)


class Runner:
    """Runs programs in the network namespace of the calling thread. Methods raise BpfError."""

    def __init__(self, folder: Path) -> None:
        self._object = BpfObject(_compiled(folder))
        self._object.load()
        self._plans = BpfMap.borrowed(self._object.map_fd("plans"))
        self._targets = {hook: BpfMap.borrowed(self._object.map_fd(f"{hook.value}_target")) for hook in Hook}
        self._wrappers = {hook: self._object.program_fd(f"rearm_{hook.value}") for hook in Hook}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for opened in (self._plans, *self._targets.values()):
            opened.close()
        self._object.close()

    def nothing(self, hook: Hook) -> int:
        """The descriptor of a program that does nothing."""
        return self._object.program_fd(f"nothing_{hook.value}")

    def run(self, hook: Hook, program: int, packets: Packets, ifindex: int, times: int) -> tuple[int, int]:
        """The last verdict, and ns for each packet, the rearming included. They come in by that device."""
        self._targets[hook].update(bytes(4), program.to_bytes(4, sys.byteorder))
        plan = packets.plan()
        self._plans.update(bytes(4), plan)
        frame = plan[:54] + _PAYLOAD
        context = _XDP.pack(0, len(frame), 0, ifindex, 0, 0) if hook is Hook.XDP else _SKB.pack(ifindex)
        verdict, _, _, duration = prog_test_run(self._wrappers[hook], frame, context, times)
        if verdict == _NOT_HANDED_ON:
            raise BpfError(0, "the program under test could not be called")
        return verdict, duration


def pinned_program(link: Path) -> int:
    """A descriptor of the program behind a pinned link. Raises BpfError."""
    held = obj_get(link)
    number = link_info(held).program
    os.close(held)
    return checked(ctypes.CDLL("libbpf.so.1").bpf_prog_get_fd_by_id(number), f"opening program {number}")


def _compiled(folder: Path) -> Path:
    """Raises RuntimeError."""
    if shutil.which("clang") is None:
        raise RuntimeError("no clang: make setup")
    folder.mkdir(parents=True, exist_ok=True)
    built = folder / "rearm.bpf.o"
    include = f"-I/usr/include/{platform.machine()}-linux-gnu"
    command = [
        "clang",
        "-O2",
        "-g",
        "-target",
        "bpf",
        "-mcpu=v3",
        include,
        "-c",
        str(_SOURCE),
        "-o",
        str(built),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise RuntimeError(f"{_SOURCE.name} does not compile: {done.stderr.strip()}")
    return built
