"""Services whose health is asked for, and endpoints on this node."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from blixt_backend.model import Endpoint, ServiceView
from blixt_fakes.segment import balanced, ip


def watched(name: str, port: int, *endpoints: Endpoint, local: bool = True) -> ServiceView:
    """A service of namespace ns with a health check node port; 0: without."""
    view = balanced(name, [ip("192.0.2.1")], endpoints, local=local)
    return replace(view, service=replace(view.service, health_check_node_port=port))


def here(key: str, *addresses: str, **fields: Any) -> Endpoint:
    """An endpoint on this node, ready unless `fields` say otherwise."""
    made = Endpoint(key, tuple(map(ip, addresses or ("10.0.0.1",))), local=True)
    return replace(made, **fields)
