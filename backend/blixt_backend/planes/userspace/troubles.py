"""Says what keeps a frontend from listening, and what to do: once by service and reason."""

from __future__ import annotations

import errno
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Final, NamedTuple

from blixt_backend.planes.userspace.compile import Frontend
from blixt_backend.planes.userspace.mapping import Place

log = logging.getLogger(__name__)

_MOST_LOGGED: Final = 20


class Trouble(NamedTuple):
    """Why a frontend of a service doesn't listen."""

    service: str
    place: Place
    number: int


def advice(frontend: Frontend, place: Place, number: int) -> str:
    """What is wrong, and what to do. `number`: an errno."""
    vip = f"[{frontend.address}]" if ":" in frontend.address else frontend.address
    elsewhere = f"--map {vip}:{frontend.port}=127.0.0.1:PORT"
    if number == errno.EADDRNOTAVAIL:
        return f"{place.address} is no address of this machine: add it to an interface, or {elsewhere}"
    if number == errno.EADDRINUSE:
        return f"another program, or another service, has {place}: end that, or {elsewhere}"
    if number in (errno.EACCES, errno.EPERM):
        return f"no right to listen at {place}: give this process CAP_NET_BIND_SERVICE, or {elsewhere}"
    if number in (errno.EMFILE, errno.ENFILE):
        return "no more files can be open: raise the limit (ulimit -n)"
    return os.strerror(number)


class Troubles:
    """Each is told when it comes, and again only if it was gone in between."""

    def __init__(self) -> None:
        self._there: dict[Frontend, Trouble] = {}
        self._by_place: defaultdict[Place, set[Frontend]] = defaultdict(set)
        #: By service and reason, how many of its frontends.
        self._counts: Counter[tuple[str, int]] = Counter()
        self._new: dict[tuple[str, int], Frontend] = {}

    @property
    def there(self) -> Mapping[Frontend, Trouble]:
        """All that don't listen and should, those that have waited longest for a try first."""
        return self._there

    def at(self, place: Place) -> set[Frontend]:
        """Those that would listen at this place."""
        return set(self._by_place.get(place, ()))

    def clear(self, frontend: Frontend) -> None:
        """It listens, or needn't any more."""
        trouble = self._there.pop(frontend, None)
        if trouble is None:
            return
        there = self._by_place[trouble.place]
        there.discard(frontend)
        if not there:
            del self._by_place[trouble.place]
        key = trouble.service, trouble.number
        self._counts[key] -= 1
        if not self._counts[key]:
            del self._counts[key]
            self._new.pop(key, None)

    def add(self, frontend: Frontend, trouble: Trouble) -> None:
        """It was tried, and could not listen."""
        key = trouble.service, trouble.number
        if not self._counts[key]:
            self._new[key] = frontend
        # Counted before the one that it replaces is not, so that the same again is no news.
        self._counts[key] += 1
        self.clear(frontend)
        self._there[frontend] = trouble
        self._by_place[trouble.place].add(frontend)

    def tell(self) -> None:
        """Log what is new since the last time."""
        new, self._new = list(self._new.values()), {}
        for frontend in new[:_MOST_LOGGED]:
            trouble = self._there[frontend]
            log.error(
                "%s can't be served at %s: %s; it is tried again",
                trouble.service, frontend, advice(frontend, trouble.place, trouble.number),
            )  # fmt: skip
        if len(new) > _MOST_LOGGED:
            log.error("and %d more services can't be served; see above what to do", len(new) - _MOST_LOGGED)
