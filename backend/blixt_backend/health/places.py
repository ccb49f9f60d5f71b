"""Addresses with ports, to listen on. Pure."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

#: The node's own health, on every address: load balancers ask for it from outside, where kube-proxy has it.
DEFAULTS = ("0.0.0.0:10256", "[::]:10256")
#: In place of addresses: nowhere.
OFF = "off"


class Place(NamedTuple):
    """`address` is text without brackets, `port` in host order."""

    address: str
    port: int

    @property
    def version(self) -> int:
        return 6 if ":" in self.address else 4

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.version == 6 else f"{self.address}:{self.port}"


def everywhere(port: int) -> tuple[Place, Place]:
    """A port on each address that there is or will be, of both families."""
    return Place("0.0.0.0", port), Place("::", port)  # noqa: S104


def parse(text: str) -> Place:
    """IPV4:PORT or [IPV6]:PORT. Raises ValueError with what is wrong."""
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ipaddress.ip_address(host[1:-1] if bracketed else host)
    except ValueError:
        address = None
    if address is None or bracketed != (address.version == 6):
        raise ValueError(f"{text!r} is not IPV4:PORT or [IPV6]:PORT")
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} has no port from 1 to 65535 at its end")
    return Place(str(address), int(port))
