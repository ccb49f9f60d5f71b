"""Tells the operator once what a plane can't do of what it was asked for."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from blixt_backend.model import ChangeSet, ServiceView
from blixt_backend.planes.capabilities import ALWAYS_ASKED, Capability, lacking

log = logging.getLogger(__name__)

_MOST_LOGGED = 20


class Shortcomings:
    """Each service and capability is told once, as long as the service is there."""

    def __init__(self, plane: str, capabilities: frozenset[Capability]) -> None:
        self._plane = plane
        self._capabilities = capabilities
        #: By service path.
        self._told: dict[str, frozenset[Capability]] = {}

    def start(self) -> None:
        """Say what no service will get."""
        missing = [each.text for each in Capability if each in ALWAYS_ASKED - self._capabilities]
        if missing:
            log.info("plane %r can't do for any service: %s", self._plane, "; ".join(missing))

    def applied(self, change: ChangeSet) -> None:
        """Say what services of this change lack that was not said of them before."""
        self._forget(change)
        new = self._new(change.changed)
        for path, capabilities in list(new.items())[:_MOST_LOGGED]:
            texts = "; ".join(each.text for each in capabilities)
            log.warning("%s asks for what plane %r can't do: %s", path, self._plane, texts)
        if len(new) > _MOST_LOGGED:
            log.warning("and %d more services ask for what it can't do", len(new) - _MOST_LOGGED)

    def _forget(self, change: ChangeSet) -> None:
        gone = self._told.keys() - change.desired.keys() if change.resync else change.removed
        for path in gone:
            self._told.pop(path, None)

    def _new(self, changed: Mapping[str, ServiceView]) -> dict[str, list[Capability]]:
        found: dict[str, list[Capability]] = {}
        for path, view in changed.items():
            missing = lacking(view, self._capabilities)
            if missing:
                told = self._told.get(path, frozenset())
                new = [each for each in missing if each not in told]
                if new:
                    self._told[path] = told.union(new)
                    found[path] = new
        return found
