"""Hostnames of listeners and routes, `*.` in front of them standing for one label or more."""

from __future__ import annotations

from collections.abc import Sequence


def meet(one: str, other: str) -> bool:
    """Whether some name is matched by both. Empty: any name."""
    one, other = one.lower(), other.lower()
    if not one or not other or one == other:
        return True
    return _covers(one, other) or _covers(other, one)


def any_meets(listener: str, route: Sequence[str]) -> bool:
    """Whether a route of these hostnames, or of any if there are none, has a part in the listener's."""
    return not route or any(meet(listener, hostname) for hostname in route)


def _covers(wide: str, narrow: str) -> bool:
    return wide.startswith("*.") and narrow.removeprefix("*").endswith(wide[1:])
