"""What planes are checked for, one function each."""

from __future__ import annotations

from types import ModuleType
from typing import Final

from blixt_backend.testing.checks import (
    addresses,
    associations,
    choice,
    connections,
    lifecycle,
    policies,
    sources,
)
from blixt_backend.testing.kit import Check


def _of(*modules: ModuleType) -> tuple[Check, ...]:
    return tuple(each for module in modules for each in vars(module).values() if isinstance(each, Check))


#: All of them, in an order that tells of the simplest trouble first.
CHECKS: Final = _of(addresses, associations, choice, policies, sources, connections, lifecycle)
