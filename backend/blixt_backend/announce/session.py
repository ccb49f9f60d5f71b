"""One node's part on one segment, as long as it has a carrier: frames and the time in, frames out.

It listens first: as long as a dead node takes to be noticed, or until all nodes that it hears know of the
same ones as it does. Then it is READY, and takes the addresses that `election` gives it. Times are seconds of
a monotonic clock.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from math import inf
from random import Random

from blixt_backend.announce import frames, heartbeat, ndp
from blixt_backend.announce.claims import Claims
from blixt_backend.announce.election import holder
from blixt_backend.announce.frames import Arp, Ethernet, Mac
from blixt_backend.announce.heartbeat import Heartbeat, State
from blixt_backend.announce.holdings import Holdings, Wire
from blixt_backend.announce.interface import Interface
from blixt_backend.announce.ndp import Solicitation
from blixt_backend.announce.peers import News, Peers
from blixt_backend.announce.report import Report
from blixt_backend.announce.timing import Timing
from blixt_backend.model import PackedAddress

#: Addresses that are decided on before other things get their turn.
_ADDRESSES_AT_ONCE = 100
#: How often a node that listens looks whether it has heard enough.
_LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Identity:
    """Who announces. `group` names the nodes that elect among themselves; `boot`: 8 random bytes, new with
    each process."""

    name: str
    group: str
    boot: bytes


class Session:
    """Listens, elects, answers. `claims` is the announcer's, and brought up to date by it."""

    def __init__(
        self,
        identity: Identity,
        interface: Interface,
        wire: Wire,
        claims: Claims,
        timing: Timing,
        random: Random,
    ) -> None:
        self._identity = identity
        self._group = heartbeat.group_id(identity.group)
        self._wire = wire
        self._claims = claims
        self._timing = timing
        self._random = random
        self._report = Report(interface.name)
        self._peers = Peers(identity.name, timing)
        self.holdings = Holdings(wire, interface, timing, self._report)
        self.ready = False
        self._since = inf
        self._beat_at = -inf
        self._due = inf
        self._candidates: frozenset[str] = frozenset()
        self._taken: frozenset[PackedAddress] = frozenset()
        #: Addresses to be decided on, in order.
        self._undecided: dict[PackedAddress, None] = {}

    def begin(self, now: float) -> None:
        self._since = self._due = now

    def update(self, interface: Interface, now: float) -> None:
        """The interface has other addresses, or another MAC, than before."""
        moved = interface.mac != self.holdings.interface.mac
        self.holdings.interface = interface
        if moved:
            self.holdings.announce_again(now)

    def decide(self, addresses: Iterable[PackedAddress]) -> None:
        """Claims to these addresses have changed."""
        self._undecided.update(dict.fromkeys(addresses))

    # -- what is heard ----------------------------------------------------------------------------------

    def receive(self, raw: bytes, now: float) -> bool:
        """Take in a frame; whether `tick` should be called at once."""
        frame = frames.parse_ethernet(raw)
        if frame is None or frame.source == self.holdings.interface.mac:
            return False
        if frame.ethertype == heartbeat.ETHERTYPE:
            return self._hear_heartbeat(frame, now)
        if frame.ethertype == frames.ETHERTYPE_ARP:
            arp = frames.parse_arp(frame.payload)
            if arp is not None:
                self._hear_arp(arp, now)
        elif frame.ethertype == frames.ETHERTYPE_IPV6:
            self._hear_ndp(frame, now)
        return False

    def _hear_arp(self, arp: Arp, now: float) -> None:
        if not arp.is_probe:
            self._hear_of(arp.sender, arp.sender_mac, now)
        self.holdings.answer_arp(arp)

    def _hear_ndp(self, frame: Ethernet, now: float) -> None:
        message = ndp.parse_ndp(frame)
        if isinstance(message, Solicitation):
            self._peers.note_answer(message.mac, message.source, now)
            self.holdings.answer_solicitation(message)
        elif message is not None:
            self._hear_of(message.target, message.mac, now)

    def _hear_of(self, address: PackedAddress, mac: Mac, now: float) -> None:
        """Somebody says that `mac` has the address. Of two nodes, one is about to give it up."""
        self._peers.note_answer(mac, address, now)
        if address in self.holdings and mac != self.holdings.interface.mac and not self._peers.knows(mac):
            self.holdings.contest(address, mac, now)

    def _hear_heartbeat(self, frame: Ethernet, now: float) -> bool:
        beat = heartbeat.parse_heartbeat(frame.payload)
        name, mac = self.holdings.interface.name, frame.source.hex(":")
        if beat is None:
            self._report.once(("malformed", mac), "%s: %s sends heartbeats that can't be read", name, mac)
            return False
        if beat.group != self._group:
            self._report.once(
                ("group", beat.group), "%s: another --announce-group is there too, that of %s",
                name, beat.name, level=logging.INFO,
            )  # fmt: skip
            return False
        if beat.name == self._identity.name:
            if beat.boot != self._identity.boot:
                self._report.once(
                    ("name", mac), "%s: %s is also called %s; give each node its own --node-name",
                    name, mac, beat.name,
                )  # fmt: skip
            return False
        news = self._peers.hear(beat, frame.source, now)
        if news is News.FRESH:
            self._beat_at = min(self._beat_at, now + self._timing.spread * self._random.random())
            if beat.state is State.READY:
                # Two halves of a segment have met: whoever heard it of the other half must hear us.
                self.holdings.announce_again(now)
        return news is not News.NOTHING or not self.ready

    # -- what is done -----------------------------------------------------------------------------------

    def tick(self, now: float, applied: bool) -> float:
        """Do what is due; when to be called next. `applied`: this node's plane carries what is claimed."""
        self._excuse_a_pause(now)
        self._peers.expire(now)
        if applied and not self.ready:
            self._consider_ready(now)
        self._notice(now)
        if self.ready:
            self._elect(now)
        self._ask(now)
        if self._beat_at <= now:
            self._beat(now)
        self.holdings.speak(now)
        self._report.flush()
        self._due = self._next(now)
        return self._due

    def farewell(self, state: State) -> None:
        """The last heartbeat of this process: RESTARTING keeps its addresses for `Timing.keep`."""
        self._wire.send(self._heartbeat(state, keep_seconds=round(self._timing.keep)))

    def _excuse_a_pause(self, now: float) -> None:
        pause = now - self._due
        if pause > self._timing.hold / 2:
            self._peers.excuse(pause, now)
            self.holdings.announce_again(now)  # others may have taken over meanwhile

    def _consider_ready(self, now: float) -> None:
        waited, hold = now - self._since, self._timing.hold
        heard_out = waited >= 2 * hold or (waited >= hold and not self._peers.newcomers(now))
        if heard_out or self._peers.settled(heartbeat.digest(self._known()), now):
            self.ready = True
            self._beat_at = now

    def _notice(self, now: float) -> None:
        """See who is there, and which addresses are nodes' own. A change puts all in question."""
        candidates = self._peers.candidates(now) | ({self._identity.name} if self.ready else frozenset())
        taken = self.holdings.interface.taken | self._peers.addresses
        if candidates != self._candidates:
            self._report.members(sorted(candidates - self._candidates), sorted(self._candidates - candidates))
        if (candidates, taken) != (self._candidates, self._taken):
            self._candidates, self._taken = candidates, taken
            self.decide(self._claims.addresses)

    def _elect(self, now: float) -> None:
        for address in list(islice(self._undecided, _ADDRESSES_AT_ONCE)):
            del self._undecided[address]
            node = holder(address, self._claims.candidates(address, self._candidates))
            if address in self._taken and node is not None:
                self._report.taken(address)
                self.holdings.give_up(address, "a node's own")
            elif node == self._identity.name:
                self.holdings.take(address, now)
            else:
                self.holdings.give_up(address, f"{node} does" if node else "no node is to")

    def _ask(self, now: float) -> None:
        interface = self.holdings.interface
        for mac, address in self._peers.to_ask(now):
            if len(address) == 4:
                self._wire.send(frames.arp_question(address, mac, interface.mac, interface.ipv4))
            elif interface.link_local is not None:
                self._wire.send(ndp.neighbour_question(address, mac, interface.mac, interface.link_local))

    def _beat(self, now: float) -> None:
        kept = self._peers.kept(now) if self.ready else ()
        self._wire.send(self._heartbeat(State.READY if self.ready else State.LISTENING, kept))
        self._beat_at = now + self._timing.interval * (0.9 + 0.2 * self._random.random())

    def _heartbeat(self, state: State, kept: tuple[str, ...] = (), keep_seconds: int = 0) -> bytes:
        interface = self.holdings.interface
        beat = Heartbeat(
            self._identity.name,
            self._group,
            self._identity.boot,
            state,
            heartbeat.digest(self._known()),
            round(self._timing.interval * 1000),
            keep_seconds,
            interface.addresses,
            kept,
        )
        return beat.frame(interface.mac)

    def _known(self) -> frozenset[str]:
        return self._peers.known() | {self._identity.name}

    def _next(self, now: float) -> float:
        if self._undecided and self.ready:
            return now
        look = inf if self.ready else now + _LOOK_SECONDS
        return min(self._beat_at, self._peers.next_event(now), self.holdings.next_event(), look)
