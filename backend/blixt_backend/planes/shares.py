"""Shares of new connections: each target's, and those that no endpoint of a family can take."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Hashable, Sequence
from typing import TypeVar

from blixt_backend.endpoints import alike
from blixt_backend.model import Endpoint, Origin, ServiceView

_Target = TypeVar("_Target", bound=Hashable)


def weights(members: Sequence[tuple[_Target, int, int]]) -> dict[_Target, int]:
    """By target, in lowest terms, all above 0. `members`: target, group, and the group's weight, which is
    shared evenly by those of the group that are among the members.
    """
    sizes = Counter(group for _, group, _ in members)
    whole = math.lcm(*sizes.values())
    shares: dict[_Target, int] = {}
    for target, group, weight in members:
        if weight:
            shares[target] = shares.get(target, 0) + weight * (whole // sizes[group])
    divisor = math.gcd(*shares.values())
    return {target: share // divisor for target, share in shares.items()}


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
