"""Whether nodes really have what a Gateway's status says of its generation.

A Gateway is programmed once every node that watches, and at least one, has applied a revision at or after
the one that last changed its items when its present configuration (generation, addresses, listeners that are
served) was first seen. Later changes of endpoints and routes don't count: no condition of a Gateway speaks of
them, and each of them would be written twice.

It stays so until its configuration changes. A node that joins later has nothing yet, but traffic has not been
led to it either; to take back what is true of all others would write every Gateway's status whenever the
cluster grows, a stream is dialled again, or another frontend takes over. For the same reason, what a status
says already is held on to by whoever writes it next (see merging).

Only nodes that watch this very frontend are known. With several frontends, those of the writer speak for all;
a writer that has none gives way (see reporter).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from blixt_frontend.status.wanted import Reach
from blixt_frontend.translation.addresses import Addresses
from blixt_frontend.translation.cluster import NamespacedName
from blixt_frontend.translation.results import GatewayResult


class Configuration(NamedTuple):
    """What Programmed speaks of."""

    generation: int
    addresses: Addresses
    #: The names of the listeners that are served.
    listeners: tuple[str, ...]

    @classmethod
    def of(cls, result: GatewayResult) -> Configuration:
        served = (one for one in result.listeners if one.conditions.holds("Programmed"))
        return cls(result.observed_generation, result.addresses, tuple(one.listener.name for one in served))


class Programming:
    """Follows Gateways' changes and nodes' acknowledgements, in revisions of one store."""

    def __init__(self) -> None:
        self._floor: int | None = None  # what every watching node has applied; None: no node watches
        self._changed: dict[NamespacedName, int] = {}  # the revision of the last change of its items
        self._configurations: dict[NamespacedName, Configuration] = {}
        self._waiting: dict[NamespacedName, int] = {}  # the revision that all nodes must reach

    @property
    def waiting(self) -> bool:
        """Whether acknowledgements matter to any Gateway now."""
        return bool(self._waiting)

    def changed(self, gateway: NamespacedName, revision: int) -> None:
        """Items of the Gateway changed with this revision. To be told before `configured`."""
        self._changed[gateway] = revision

    def configured(self, gateway: NamespacedName, configuration: Configuration) -> None:
        if self._configurations.get(gateway) != configuration:
            self._configurations[gateway] = configuration
            self._waiting[gateway] = self._changed.get(gateway, 0)

    def forget(self, gateway: NamespacedName) -> None:
        self._changed.pop(gateway, None)
        self._configurations.pop(gateway, None)
        self._waiting.pop(gateway, None)

    def reach(self, gateway: NamespacedName) -> Reach:
        if gateway not in self._waiting:
            return Reach.ALL
        return Reach.NO_NODES if self._floor is None else Reach.SOME

    def heard(self, streams: Mapping[str, int], acknowledged: Mapping[str, int]) -> Iterator[NamespacedName]:
        """The Gateways whose reach has changed, from the server's present streams and acknowledgements."""
        before, self._floor = self._floor, min((acknowledged.get(node, 0) for node in streams), default=None)
        for gateway, revision in list(self._waiting.items()):
            if self._floor is not None and self._floor >= revision:
                del self._waiting[gateway]
                yield gateway
            elif (before is None) != (self._floor is None):
                yield gateway
