"""Brings changes of services into both families' tables, and takes flows away that they end. Blocks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from blixt_backend.model import ServiceView
from blixt_backend.planes.nftables import adopt, elements, stale
from blixt_backend.planes.nftables.bulk import uncollected
from blixt_backend.planes.nftables.compile import Frontend, Plan, compile_view
from blixt_backend.planes.nftables.elements import Difference
from blixt_backend.planes.nftables.family import FAMILIES, Family
from blixt_backend.planes.nftables.kernel import Tables
from blixt_backend.planes.nftables.nodes import Place
from blixt_backend.planes.nftables.stale import Stale
from blixt_backend.planes.nftables.state import Moved, Needed, State, choices_of

log = logging.getLogger(__name__)

_GONE = Plan()


class Programming:
    """For one thread at a time. Its methods raise NftError; it is in step again after a resync."""

    def __init__(self, tables: Tables, forget: Callable[[Family, Stale], int]) -> None:
        self._tables = tables
        self._forget = forget
        self._place = Place()
        self._states = {family: State() for family in FAMILIES}
        self._choices: dict[Family, set[Needed]] = {family: set() for family in FAMILIES}
        #: Whether what is remembered is what the tables hold.
        self.in_step = False

    def frontends(self) -> dict[str, int]:
        """How many there are, by family."""
        return {family.name: len(state.entries) for family, state in self._states.items()}

    def resync(self, views: Mapping[str, ServiceView], place: Place) -> None:
        """Make the tables hold this and nothing else, whatever they hold; what is right already stays."""
        with uncollected():
            self._resync(views, place)

    def _resync(self, views: Mapping[str, ServiceView], place: Place) -> None:
        self.in_step = False
        self._place = place
        held = {family: self._tables.held(family) for family in FAMILIES}
        for family, state in self._states.items():
            state.set_uplinks(place.uplinks)
            state.replace(self._plans(views, family), adopt.places(held[family].elements))
        needed = {family: state.needed() for family, state in self._states.items()}
        self._tables.lay({family: needed[family].union(held[family].choices) for family in FAMILIES})
        for family, state in self._states.items():
            self._tables.fill(family, elements.difference(held[family].elements, state.everything()))
            self._tables.remove_choices(family, set(held[family].choices) - needed[family])
        self._choices = needed
        self.in_step = True
        self._tables.remove_others()
        for family, state in self._states.items():
            self._end(family, stale.after_start(state.entries))

    def change(self, views: Mapping[str, ServiceView | None]) -> None:
        """Services that have changed, and those that are gone (None): one transaction."""
        self.in_step = False
        moved: dict[Family, dict[Frontend, Moved]] = {}
        changes: dict[Family, Difference] = {}
        for family, state in self._states.items():
            moved[family], changes[family] = state.change(self._plans(views, family))
        self._write(moved, changes)

    def move(self, place: Place, with_node_ports: Mapping[str, ServiceView]) -> None:
        """The node's uplinks and addresses are others now."""
        self._place = place
        self.in_step = False
        uplinks = {family: state.set_uplinks(place.uplinks) for family, state in self._states.items()}
        self._tables.change(uplinks)
        self.change(with_node_ports)

    def _plans(self, views: Mapping[str, ServiceView | None], family: Family) -> dict[str, Plan]:
        addresses = self._place.addresses
        return {
            path: compile_view(view, family, addresses) if view is not None else _GONE
            for path, view in views.items()
        }

    def _write(
        self, moved: Mapping[Family, Mapping[Frontend, Moved]], changes: Mapping[Family, Difference]
    ) -> None:
        new = {
            family: {needed for each in those.values() for needed in choices_of(each.after)}
            - self._choices[family]
            for family, those in moved.items()
        }
        self._tables.add_choices(new)
        self._tables.change(changes)
        for family, choices in new.items():
            self._choices[family] |= choices
        self.in_step = True
        for family, those in moved.items():
            self._end(family, stale.after_change(those))

    def _end(self, family: Family, ended: Stale) -> None:
        """What can't be ended is in nobody's way but its own: it goes on until it times out."""
        try:
            count = self._forget(family, ended)
        except OSError as error:
            log.warning("flows to endpoints that are gone can't be ended: %s", error)
        else:
            if count:
                log.debug("ended %d flows of %s to endpoints that are gone", count, family.name)
