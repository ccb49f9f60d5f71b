"""Whether nodes really have what a Gateway's status says of its generation.

A Gateway is programmed once every node that watches any frontend, and at least one, has applied a revision at
or after the one that last changed its items when its present configuration (generation, addresses, listeners
that are served) was first seen. Later changes of endpoints and routes don't count: no condition of a Gateway
speaks of them, and each of them would be written twice.

It stays so until its configuration changes. A node that joins later has nothing yet, but traffic has not been
led to it either; to take back what is true of all others would write every Gateway's status whenever the
cluster grows, a stream is dialled again, or another frontend takes over. For the same reason, what a status
says already is held on to by whoever writes it next (see merging).

Nodes acknowledge revisions, and each frontend counts its own. So frontends tell each other configurations
that all of their nodes have applied, by digest (see peers). What was told before a change does not count.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import NamedTuple

from blixt_frontend.status.wanted import Reach
from blixt_frontend.translation.addresses import Addresses
from blixt_frontend.translation.cluster import NamespacedName
from blixt_frontend.translation.results import GatewayResult

#: Of a digest: 8 characters, so that tens of thousands fit into an annotation.
_DIGEST_BYTES = 6


class Configuration(NamedTuple):
    """What Programmed speaks of. Two frontends that know the same objects come to the same."""

    uid: str
    generation: int
    addresses: Addresses
    #: The names of the listeners that are served.
    listeners: tuple[str, ...]

    @classmethod
    def of(cls, result: GatewayResult, uid: str) -> Configuration:
        served = (one for one in result.listeners if one.conditions.holds("Programmed"))
        return cls(
            uid, result.observed_generation, result.addresses, tuple(one.listener.name for one in served)
        )

    def digest(self, gateway: NamespacedName) -> str:
        """Stands for this configuration of this Gateway; without white space."""
        parts = [*gateway, self.uid, self.generation, self.addresses.v4, self.addresses.v6, self.listeners]
        hashed = hashlib.blake2b(json.dumps(parts).encode(), digest_size=_DIGEST_BYTES)
        return base64.urlsafe_b64encode(hashed.digest()).decode()


class Programming:
    """Follows Gateways' changes and nodes' acknowledgements, in revisions of one store."""

    def __init__(self) -> None:
        self._floor: int | None = None  # what every node that watches us has applied; None: none does
        self._others: Sequence[Set[str]] | None = None  # None: not asked since the last change
        self._changed: dict[NamespacedName, int] = {}  # the revision of the last change of its items
        self._configurations: dict[NamespacedName, Configuration] = {}
        self._digests: dict[NamespacedName, str] = {}
        self._lagging: dict[NamespacedName, int] = {}  # the revision that our own nodes must reach
        self._unheard = False  # some Gateway has changed since `heard` was called
        self._applied: set[str] = set()
        self._reaches: dict[NamespacedName, Reach] = {}  # of those that aren't known to be everywhere

    @property
    def lagging(self) -> bool:
        """Whether acknowledgements of our own nodes matter to any Gateway now."""
        return bool(self._lagging)

    @property
    def waiting(self) -> bool:
        """Whether some Gateway is not known to be everywhere."""
        return bool(self._reaches)

    @property
    def unasked(self) -> bool:
        """Whether some Gateway has changed since `told` was called."""
        return bool(self._reaches) and self._others is None

    @property
    def applied(self) -> Set[str]:
        """The digests of present configurations that all of our own nodes have applied: a live view."""
        return self._applied

    def changed(self, gateway: NamespacedName, revision: int) -> None:
        """Items of the Gateway changed with this revision. To be told before `configured`."""
        self._changed[gateway] = revision

    def configured(self, gateway: NamespacedName, configuration: Configuration) -> None:
        if self._configurations.get(gateway) == configuration:
            return
        self._applied.discard(self._digests.get(gateway, ""))
        self._configurations[gateway] = configuration
        self._digests[gateway] = configuration.digest(gateway)
        self._lagging[gateway] = self._changed.get(gateway, 0)
        self._others, self._unheard = None, True
        self._reaches[gateway] = Reach.SOME

    def forget(self, gateway: NamespacedName) -> None:
        self._applied.discard(self._digests.pop(gateway, ""))
        for known in (self._changed, self._configurations, self._lagging, self._reaches):
            known.pop(gateway, None)

    def reach(self, gateway: NamespacedName) -> Reach:
        return self._reaches.get(gateway, Reach.ALL)

    def heard(self, streams: Mapping[str, int], acknowledged: Mapping[str, int]) -> Iterator[NamespacedName]:
        """The Gateways whose reach has changed, from the server's present streams and acknowledgements."""
        floor = min((acknowledged.get(node, 0) for node in streams), default=None)
        if floor == self._floor and not self._unheard:
            return  # this is asked many times a second, for as long as a Gateway waits for a node
        self._floor, self._unheard = floor, False
        if self._floor is not None:
            for gateway, revision in list(self._lagging.items()):
                if self._floor >= revision:
                    del self._lagging[gateway]
                    self._applied.add(self._digests[gateway])
        yield from self._judge()

    def told(self, others: Sequence[Set[str]] | None) -> Iterator[NamespacedName]:
        """The Gateways whose reach has changed, from what every other frontend that has nodes says is applied
        by all of them; None: nobody knows."""
        self._others = others
        yield from self._judge()

    def _judge(self) -> Iterator[NamespacedName]:
        for gateway, before in list(self._reaches.items()):
            now = self._reaches[gateway] = self._judged(gateway)
            if now is Reach.ALL:
                del self._reaches[gateway]
            if now is not before:
                yield gateway

    def _judged(self, gateway: NamespacedName) -> Reach:
        if self._others is None:
            return Reach.SOME
        if self._floor is None and not self._others:
            return Reach.NO_NODES
        by_ours = self._floor is None or gateway not in self._lagging
        digest = self._digests[gateway]
        return Reach.ALL if by_ours and all(digest in other for other in self._others) else Reach.SOME
