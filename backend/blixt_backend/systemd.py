"""Word to the service manager, if there is one (sd_notify(3)'s protocol)."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Send one assignment, like `READY=1`, to the socket that NOTIFY_SOCKET names. Without it, nothing.

    A manager that doesn't listen is no reason to stop serving: errors are left.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
        manager.setblocking(False)
        try:
            manager.sendto(state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)
        except OSError:
            return
