"""All listeners: one for each frontend that anybody asks for, open as far as this machine allows."""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

from blixt_backend.planes.userspace.compile import Entry, Frontend
from blixt_backend.planes.userspace.listener import Listener
from blixt_backend.planes.userspace.mapping import Maps, Place, place_of
from blixt_backend.planes.userspace.table import Moved
from blixt_backend.planes.userspace.troubles import Trouble, Troubles

log = logging.getLogger(__name__)

#: Of those that could not listen, how many are tried at a time.
MOST_RETRIED: Final = 256
#: Frontends that are changed before connections get their turn.
_AT_ONCE: Final = 64
Make = Callable[[Frontend, Entry], Listener]


class Listeners:
    """`change` and `retry` are for one caller at a time."""

    def __init__(self, maps: Maps, make: Make) -> None:
        self._maps = maps
        self._make = make
        self._listeners: dict[Frontend, Listener] = {}
        #: The port that was free for a frontend: it keeps that as long as it is there.
        self._ports: dict[Frontend, int] = {}
        self._troubles = Troubles()

    @property
    def troubles(self) -> Mapping[Frontend, Trouble]:
        return self._troubles.there

    def places(self) -> dict[Frontend, Place]:
        """Where they listen."""
        return {frontend: each.bound for frontend, each in self._listeners.items() if each.bound}

    async def change(self, moved: Mapping[Frontend, Moved]) -> None:
        """Let these frontends be as they are after the change."""
        freed: list[Place] = []
        for number, (frontend, (_, after)) in enumerate(moved.items(), 1):
            before = self._listeners.get(frontend)
            place = before.bound if before else None
            self._become(frontend, after)
            if before and place and before.bound is None:
                freed.append(place)
            await _breathe(number)
        await self._open(frontend for frontend in moved if frontend in self._listeners)
        await self._open(waiting for place in freed for waiting in self._troubles.at(place))

    async def settle(self, entries: Mapping[Frontend, Entry]) -> None:
        """Let these be all frontends, whatever an earlier change came to."""
        gone = {frontend: Moved(None, None) for frontend in self._listeners.keys() - entries.keys()}
        await self.change(gone | {frontend: Moved(None, entry) for frontend, entry in entries.items()})

    async def retry(self, addresses: Collection[str] = ()) -> None:
        """Try those again that could not listen: all at these addresses, and of the others some, in turn."""
        some = itertools.islice(self._troubles.there, MOST_RETRIED)
        new = (each for each, trouble in self._troubles.there.items() if trouble.place.address in addresses)
        await self._open(list(dict.fromkeys((*some, *(new if addresses else ())))))

    def tell(self) -> None:
        """Log who can't listen, and was not told of yet."""
        self._troubles.tell()

    def shut(self) -> None:
        """Listen nowhere; connections go on."""
        for listener in self._listeners.values():
            listener.shut()

    def _become(self, frontend: Frontend, entry: Entry | None) -> None:
        """All but to listen where it didn't."""
        if entry is None:
            if listener := self._listeners.pop(frontend, None):
                listener.shut()
            self._ports.pop(frontend, None)
            self._troubles.clear(frontend)
            return
        if listener := self._listeners.get(frontend):
            listener.update(entry)
        else:
            listener = self._listeners[frontend] = self._make(frontend, entry)
        if not listener.wanted:
            listener.shut()
            self._troubles.clear(frontend)

    async def _open(self, frontends: Iterable[Frontend]) -> None:
        elsewhere: set[str] = set()
        for number, frontend in enumerate(frontends, 1):
            listener = self._listeners[frontend]
            if listener.wanted and listener.bound is None:
                place = self._place(frontend)
                # Thousands of services may have addresses that are not here: one attempt for each address.
                if place.address in elsewhere:
                    self._fail(listener, place, errno.EADDRNOTAVAIL)
                else:
                    await self._open_one(listener, place, elsewhere)
            await _breathe(number)

    async def _open_one(self, listener: Listener, place: Place, elsewhere: set[str]) -> None:
        frontend = listener.frontend
        try:
            await listener.open(place)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                elsewhere.add(place.address)
            self._ports.pop(frontend, None)
            self._fail(listener, place, error.errno or errno.EIO)
            return
        self._troubles.clear(frontend)
        assert listener.bound is not None
        if listener.bound != (frontend.address, frontend.port):
            self._ports[frontend] = listener.bound.port
            log.info("%s: %s is at %s", listener.entry.service, frontend, listener.bound)

    def _fail(self, listener: Listener, place: Place, number: int) -> None:
        self._troubles.add(listener.frontend, Trouble(listener.entry.service, place, number))

    def _place(self, frontend: Frontend) -> Place:
        place = place_of(self._maps, frontend)
        return place if place.port else place._replace(port=self._ports.get(frontend, 0))


async def _breathe(number: int) -> None:
    """Give connections their turn, now and then."""
    if number % _AT_ONCE == 0:
        await asyncio.sleep(0)
