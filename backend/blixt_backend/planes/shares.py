"""Shares of new connections that no endpoint of a family can take."""

from __future__ import annotations

from collections.abc import Container

from blixt_backend.endpoints import alike
from blixt_backend.model import Endpoint, Origin, ServiceView


def without_this_family(view: ServiceView, present: Container[int]) -> list[Endpoint]:
    """Of each backend of a route that has endpoints of the other family only, one: its share is refused here.

    It is like the endpoint, but may have neither key nor addresses (`endpoints.alike`).
    `present`: the groups that have endpoints of this family.
    """
    if view.service.origin is not Origin.GATEWAY_LISTENER:
        return []
    absent = {
        each.group: each for _, each in alike(view.endpoints) if each.scopes and each.group not in present
    }
    return list(absent.values())
