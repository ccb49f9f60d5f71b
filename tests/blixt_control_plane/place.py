"""Where a control plane listens: on loopback, of this machine or of one of the lab's network namespaces."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from blixt_lab import namespaces

Result = TypeVar("Result")

LOOPBACK = "127.0.0.1"
#: Below the ports that the kernel gives to clients, so that none is taken while a server is down.
_PORTS = range(20000, 30000)


@dataclass(frozen=True, slots=True)
class Place:
    """`namespace`: the name of a network namespace whose loopback device is up; entering it needs root."""

    namespace: str | None = None

    def argv(self, argv: list[str]) -> list[str]:
        """The command that runs this command there; it has the same process id."""
        if self.namespace is None:
            return argv
        return ["nsenter", f"--net={namespaces.NAMED / self.namespace}", "--", *argv]

    def connect(self, port: int, timeout: float) -> socket.socket:
        """Raises OSError."""
        return self._call(lambda: socket.create_connection((LOOPBACK, port), timeout))

    def free_ports(self, count: int) -> list[int]:
        """Ports that nobody listens on now, none of them twice. Raises OSError."""
        return self._call(lambda: _free_ports(count))

    def _call(self, function: Callable[[], Result]) -> Result:
        return function() if self.namespace is None else namespaces.call(self.namespace, function)


#: This machine, or rather the network namespace of whoever asks.
HERE = Place()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        found: list[int] = []
        for port in random.sample(_PORTS, len(_PORTS)):
            sock = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                sock.bind((LOOPBACK, port))
                found.append(port)
            if len(found) == count:
                return found
    raise OSError(f"no {count} free ports in {_PORTS}")
