"""Which addresses and ports a trace is about. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from blixt_backend.planes.ebpf.connections import ConnectionFilter
from blixt_backend.planes.ebpf.inspect import Row

#: (packed address, port in host order); port 0: any.
Place = tuple[bytes, int]


def places(wanted: ConnectionFilter, services: Iterable[Row]) -> set[Place]:
    """A service's address and its endpoints', since packets are theirs behind our programs; or one's."""
    if wanted.service is None:
        return {(wanted.endpoint, 0)} if wanted.endpoint is not None else set()
    found = {(wanted.service, wanted.service_port or 0)}
    for service in services:
        if any(_is(frontend, wanted) for frontend in service["frontends"]):
            found.update(
                (ipaddress.ip_address(endpoint["address"]).packed, endpoint["port"])
                for endpoint in service["endpoints"]
            )
    return found


def _is(frontend: Row, wanted: ConnectionFilter) -> bool:
    address = ipaddress.ip_address(frontend["address"]).packed
    return address == wanted.service and wanted.service_port in (None, frontend["port"])
