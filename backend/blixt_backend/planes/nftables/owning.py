"""One process at a time keeps this network namespace's tables."""

from __future__ import annotations

import errno
import socket
from typing import Final

from blixt_backend.planes.base import PlaneError
from blixt_backend.planes.nftables.family import TABLE

#: A name of this network namespace's that one process has at a time, and no dead one.
_OWNER: Final = "\0blixt-nftables"


def own() -> socket.socket:
    """Be the only one here, until it is closed. Raises PlaneError."""
    owner = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        owner.bind(_OWNER)
    except OSError as error:
        owner.close()
        if error.errno == errno.EADDRINUSE:
            raise PlaneError(f"another backend keeps this node's tables {TABLE}: stop it first") from None
        raise
    return owner
