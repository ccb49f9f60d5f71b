"""What this host and this process must have for the plane to run."""

from __future__ import annotations

import platform
from pathlib import Path

from blixt_backend.planes.base import PlaneError
from blixt_backend.planes.ebpf.libbpf import LibbpfMissingError, library

#: bpf_redirect_peer is of 5.10, batches of LPM tries and per-CPU arrays of 5.13; 5.15 is the tested
#: long-term one.
_OLDEST_KERNEL = (5, 15)
_CAP_NET_ADMIN, _CAP_SYS_ADMIN, _CAP_PERFMON, _CAP_BPF = 12, 21, 38, 39


def check_privilege() -> None:
    """Raises PlaneError if this process may not load BPF programs."""
    held = 0
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            held = int(line.split()[1], 16)
    has = {cap for cap in (_CAP_NET_ADMIN, _CAP_SYS_ADMIN, _CAP_PERFMON, _CAP_BPF) if held >> cap & 1}
    # PERFMON: without it the verifier forbids what programs of ours do with pointers.
    if not {_CAP_NET_ADMIN, _CAP_SYS_ADMIN} <= has and not {_CAP_NET_ADMIN, _CAP_PERFMON, _CAP_BPF} <= has:
        raise PlaneError(
            "not allowed to load BPF programs: run as root, or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"
        )


def check_host() -> None:
    """Raises PlaneError for what this host lacks."""
    release = platform.release()
    version = tuple(int(part) for part in release.split("-")[0].split(".")[:2])
    if version < _OLDEST_KERNEL:
        raise PlaneError(
            f"kernel {release} is too old: Linux {'.'.join(map(str, _OLDEST_KERNEL))} or newer is needed"
        )
    if not Path("/sys/kernel/btf/vmlinux").exists():
        raise PlaneError(
            "this kernel has no BTF: it needs CONFIG_DEBUG_INFO_BTF=y, as distributions build it"
        )
    check_privilege()
    try:
        library()
    except LibbpfMissingError as error:
        raise PlaneError(str(error)) from error
