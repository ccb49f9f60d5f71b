"""The other nodes of a segment, and which of them may have addresses. Pure: the time is told, in seconds.

A node has addresses from its first heartbeat that says READY on. It loses them

- when it says LEAVING;
- when neither a heartbeat nor an answer of its kernel came for four of its intervals: it is dead;
- when it didn't say READY for `Timing.keep`, though its kernel lives: its daemon doesn't come back.

Until the latter, its programs still carry the connections that its daemon left behind, and a move would
break them; that is what the kernel's answers are for. A node that says RESTARTING is given the time that it
asks for.

Who has just come to a segment knows nothing of nodes that are silent at that moment. It believes those who
know them from before (`Heartbeat.kept`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from math import inf

from blixt_backend.announce.frames import Mac
from blixt_backend.announce.heartbeat import Heartbeat, State
from blixt_backend.announce.ndp import is_link_local
from blixt_backend.announce.timing import Timing
from blixt_backend.model import PackedAddress

#: More nodes than Kubernetes has on one segment; what comes beyond that is noise or malice.
MOST_PEERS = 8192


class News(Enum):
    """What a heartbeat brought."""

    #: Its sender lives on.
    NOTHING = auto()
    CHANGE = auto()
    #: Its sender has just started, or was taken for dead before.
    FRESH = auto()


@dataclass(slots=True)
class Peer:
    """One node as it was last heard of."""

    beat: Heartbeat
    mac: Mac
    #: When its first and its last heartbeat came.
    since: float
    heard: float
    #: When its kernel last answered.
    answered: float = -inf
    #: Until when it has addresses, if it lives.
    kept_until: float = -inf
    ask_at: float = -inf

    @property
    def interval(self) -> float:
        return self.beat.interval_ms / 1000

    @property
    def listening(self) -> bool:
        return self.beat.state is State.LISTENING

    @property
    def asked_for(self) -> tuple[PackedAddress, ...]:
        """What its kernel answers for while it lives: one of IPv4 and a link-local one, if there are."""
        ipv4 = [address for address in self.beat.addresses if len(address) == 4]
        return (*ipv4[:1], *list(filter(is_link_local, self.beat.addresses))[:1])


class Peers:
    """All other nodes. For one segment."""

    def __init__(self, own_name: str, timing: Timing) -> None:
        self._own_name = own_name
        self._timing = timing
        self._peers: dict[str, Peer] = {}
        #: Nodes that were heard once, with the addresses that stay their own.
        self._buried: dict[str, tuple[PackedAddress, ...]] = {}
        #: Nodes that others keep, and until when to believe it.
        self._mentioned: dict[str, float] = {}
        self._addresses: frozenset[PackedAddress] | None = None

    def hear(self, beat: Heartbeat, mac: Mac, now: float) -> News:
        """Take in a heartbeat."""
        if beat.state is State.LEAVING:
            self._bury(beat.name)
            return News.CHANGE
        peer = self._peers.get(beat.name)
        if peer is None and len(self._peers) >= MOST_PEERS:
            return News.NOTHING
        fresh = peer is None or peer.beat.boot != beat.boot
        if peer is None:
            peer = self._peers[beat.name] = Peer(beat, mac, now, now)
        changed = (peer.beat.state, peer.beat.kept) != (beat.state, beat.kept)
        if fresh or peer.beat.addresses != beat.addresses:
            self._addresses = None
        peer.beat, peer.mac, peer.heard = beat, mac, now
        self._note(peer, now)
        for name in beat.kept:
            if name not in self._buried and name != self._own_name:
                self._mentioned[name] = now + peer.interval * self._timing.hold_intervals
        return News.FRESH if fresh else News.CHANGE if changed else News.NOTHING

    def _note(self, peer: Peer, now: float) -> None:
        """What its state means for its addresses."""
        if peer.beat.state is State.READY:
            self._buried.pop(peer.beat.name, None)
            peer.kept_until = now + self._timing.keep
        elif peer.beat.state is State.RESTARTING and peer.kept_until > now:
            peer.kept_until = now + min(peer.beat.keep_seconds, self._timing.most_keep)
            peer.ask_at = now
            if not peer.asked_for:
                # Nobody can tell whether its kernel lives: its word must do.
                peer.answered = peer.kept_until

    def note_answer(self, mac: Mac, address: PackedAddress, now: float) -> None:
        """`mac` has shown that it has this address: if that is a peer's, its kernel lives."""
        for peer in self._peers.values():
            if peer.mac == mac and address in peer.asked_for:
                peer.answered = max(peer.answered, now)

    def expire(self, now: float) -> None:
        """Give up who is dead. Before anything is asked of this object at a new time."""
        for name in [name for name, peer in self._peers.items() if self._dies(peer) <= now]:
            self._bury(name)
        for name in [name for name, until in self._mentioned.items() if until <= now]:
            del self._mentioned[name]

    def excuse(self, seconds: float, now: float) -> None:
        """For so long until now nobody listened here: silence meanwhile is nobody's fault."""
        for peer in self._peers.values():
            peer.heard = min(peer.heard + seconds, now)
            peer.kept_until += seconds

    def candidates(self, now: float) -> frozenset[str]:
        """The nodes that may have addresses."""
        own = (name for name, peer in self._peers.items() if now < peer.kept_until)
        return frozenset((*own, *self._mentioned))

    def known(self) -> frozenset[str]:
        """All nodes that are not dead."""
        return frozenset((*self._peers, *self._mentioned))

    def kept(self, now: float) -> tuple[str, ...]:
        """The candidates that others can't know of from heartbeats alone."""
        return tuple(sorted(name for name, peer in self._peers.items() if self._is_kept(peer, now)))

    def _is_kept(self, peer: Peer, now: float) -> bool:
        silent = peer.answered > peer.heard or peer.beat.state is not State.READY
        return silent and now < peer.kept_until

    def to_ask(self, now: float) -> Iterator[tuple[Mac, PackedAddress]]:
        """The kernels to be asked now whether they live, each once an interval at most."""
        for peer in self._peers.values():
            if self._asks(peer) <= now:
                peer.ask_at = now + peer.interval
                yield from ((peer.mac, address) for address in peer.asked_for)

    def settled(self, digest: bytes, now: float) -> bool:
        """Whether there are nodes, none of them listens still, and all know of the same nodes as we do."""
        peers = self._peers.values()
        heard = [peer for peer in peers if peer.answered <= peer.heard]
        return bool(heard) and all(not p.listening and p.beat.digest == digest for p in heard)

    def newcomers(self, now: float) -> bool:
        """Whether there are nodes that still have time to hear of the others."""
        return any(p.listening and now < p.since + self._timing.hold for p in self._peers.values())

    def knows(self, mac: Mac) -> bool:
        return any(peer.mac == mac for peer in self._peers.values())

    @property
    def addresses(self) -> frozenset[PackedAddress]:
        """The nodes' own, also those of dead ones: never to be answered for."""
        if self._addresses is None:
            live = (address for peer in self._peers.values() for address in peer.beat.addresses)
            dead = (address for addresses in self._buried.values() for address in addresses)
            self._addresses = frozenset((*live, *dead))
        return self._addresses

    def next_event(self, now: float) -> float:
        """When something comes to pass by itself: a death, the end of a time that was given, a question."""
        times = list(self._mentioned.values())
        for peer in self._peers.values():
            times += [self._dies(peer), self._asks(peer)]
            if peer.kept_until > now:
                times.append(peer.kept_until)
        return min(times, default=inf)

    def _dies(self, peer: Peer) -> float:
        """When it is dead, if nothing comes until then. Its kernel counts while it keeps addresses."""
        hold = peer.interval * self._timing.hold_intervals
        return max(peer.heard + hold, min(peer.answered + hold, peer.kept_until))

    def _asks(self, peer: Peer) -> float:
        """When its kernel is to be asked next: only while it has addresses to keep."""
        silent = peer.heard + peer.interval * self._timing.ask_after_intervals
        at = peer.ask_at if peer.beat.state is State.RESTARTING else max(peer.ask_at, silent)
        return at if peer.asked_for and at < peer.kept_until else inf

    def _bury(self, name: str) -> None:
        self._mentioned.pop(name, None)
        peer = self._peers.pop(name, None)
        if peer is not None:
            while len(self._buried) >= MOST_PEERS:
                del self._buried[next(iter(self._buried))]
            self._buried[name] = peer.beat.addresses
