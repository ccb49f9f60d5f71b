"""One node's part on one interface, over all that happens to it: services change, its carrier comes and goes.

What is claimed outlasts a session: an interface that comes back finds it here.
"""

from __future__ import annotations

from math import inf
from random import Random

from blixt_backend.announce.claims import Claims
from blixt_backend.announce.heartbeat import State
from blixt_backend.announce.holdings import Wire
from blixt_backend.announce.interface import Interface
from blixt_backend.announce.session import Identity, Session
from blixt_backend.announce.timing import Timing
from blixt_backend.model import ChangeSet, PackedAddress


class Announcer:
    """Frames, changes and the time in; frames out by the wire of the session."""

    def __init__(
        self, identity: Identity, timing: Timing | None = None, random: Random | None = None
    ) -> None:
        self._identity = identity
        self._timing = timing or Timing()
        # Spreads heartbeats; nothing secret hangs on it.
        self._random = random or Random()  # noqa: S311
        self._claims = Claims()
        self._applied = False
        self._session: Session | None = None

    @property
    def held(self) -> list[PackedAddress]:
        """The addresses that are answered for."""
        return self._session.holdings.held if self._session else []

    def applied(self, change: ChangeSet) -> None:
        """The plane has this change in force, and with it all that came before."""
        self._applied = True
        touched = self._claims.apply(change)
        if self._session:
            self._session.decide(touched)

    def attach(self, interface: Interface, wire: Wire, now: float) -> None:
        """The interface is there: begin to listen."""
        self._session = Session(self._identity, interface, wire, self._claims, self._timing, self._random)
        self._session.begin(now)

    def update(self, interface: Interface, now: float) -> None:
        """The interface is still there, and something about it is different."""
        if self._session:
            self._session.update(interface, now)

    def detach(self) -> None:
        """The interface is gone: nobody hears us, and we hear nobody."""
        self._session = None

    def receive(self, frame: bytes, now: float) -> bool:
        """Take in a frame; whether `tick` should be called at once."""
        return self._session is not None and self._session.receive(frame, now)

    def tick(self, now: float) -> float:
        """Do what is due, and tell when to be called next."""
        return self._session.tick(now, self._applied) if self._session else inf

    def stop(self) -> None:
        """This process ends: ask the others to keep our addresses for the next one."""
        if self._session and self._session.ready:
            self._session.farewell(State.RESTARTING)
        self._session = None
