"""VLAN 100 on a host's eth0, on kernels without VLAN devices too: a veth that does what one does."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

from blixt_lab.host import Host

NUMBER = 100
DEVICE = f"eth0.{NUMBER}"
_SOURCE = Path(__file__).with_name("vlan.bpf.c")


def build(folder: Path) -> Path:
    """The programs, compiled. Raises CalledProcessError."""
    made = folder / "vlan.bpf.o"
    headers = f"-I/usr/include/{platform.machine()}-linux-gnu"  # <asm/types.h> on Debian
    command = ["clang", "-O2", "-g", "-target", "bpf", headers, "-c", str(_SOURCE), "-o", str(made)]
    subprocess.run(command, check=True)
    return made


def add(host: Host, programs: Path, *addresses: str) -> None:
    """DEVICE, with these addresses (each with its prefix): it has eth0's MAC and tags what it sends."""
    host.ip(
        f"link add {DEVICE} address {host.mac} type veth peer name {DEVICE}-far",
        f"link set {DEVICE}-far up",
        f"link set {DEVICE} up",
        *(f"addr add {address} dev {DEVICE}" + (" nodad" if ":" in address else "") for address in addresses),
    )
    host.run("tc", "qdisc", "add", "dev", "eth0", "clsact")
    host.run("tc", "qdisc", "add", "dev", DEVICE, "clsact")
    _redirect(host, programs, "tagged/in", ("eth0", "ingress"), (DEVICE, "ingress"))
    _redirect(host, programs, "tagged/out", (DEVICE, "egress"), ("eth0", "egress"))


def _redirect(host: Host, programs: Path, section: str, at: tuple[str, str], to: tuple[str, str]) -> None:
    """What the section's program calls ours, moved from one hook of a device to another one's."""
    action = ("action", "mirred", to[1], "redirect", "dev", to[0])
    filters = ("tc", "filter", "add", "dev", *at, "protocol", "all", "bpf")
    host.run(*filters, "obj", str(programs), "sec", section, *action)
