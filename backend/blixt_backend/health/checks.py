"""Which ports are asked about which Service, and how many of its endpoints are on this node. Pure.

An endpoint counts while it is ready. One that only serves on while it terminates gets new connections if no
other is left, but it doesn't count, so that load balancers leave for a better node in time (as kube-proxy has
it, KEP-1669). Families are counted apart: an IPv4 check is for IPv4's packets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from blixt_backend.model import ChangeSet, Scope, ServiceView


@dataclass(frozen=True, slots=True)
class Check:
    """One Service's: its port in host order, and its ready endpoints on this node by IP version (4, 6)."""

    namespace: str
    name: str
    port: int
    local: Mapping[int, int]

    @property
    def path(self) -> str:
        return f"{self.namespace}/{self.name}"


def check(view: ServiceView) -> Check | None:
    """What a Service asks to be answered; None without a port for it, or a policy that needs it."""
    service = view.service
    if not service.health_check_node_port or not service.external_traffic_local:
        return None
    # The same address twice, as where a pod's ports differ, is one endpoint.
    ready = {
        address
        for endpoint in view.endpoints
        if endpoint.local and Scope.EXTERNAL in endpoint.scopes and not endpoint.terminating
        for address in endpoint.addresses
    }
    local = {version: sum(len(a) == size for a in ready) for version, size in ((4, 4), (6, 16))}
    return Check(service.namespace, service.name, service.health_check_node_port, local)


class Checks:
    """All checks by what has been applied. A change costs what it touches."""

    def __init__(self) -> None:
        self._by_path: dict[str, Check] = {}
        #: By port, the paths that ask for it; the first has it.
        self._claims: dict[int, dict[str, None]] = {}

    @property
    def ports(self) -> Iterable[int]:
        return self._claims.keys()

    def holder(self, port: int) -> Check | None:
        """Whom a port is about."""
        path = next(iter(self._claims.get(port, ())), None)
        return None if path is None else self._by_path[path]

    def losers(self, port: int) -> list[str]:
        """The paths of those that ask for a port that another one has."""
        return list(self._claims.get(port, ()))[1:]

    def apply(self, change: ChangeSet) -> set[int]:
        """Take in what the plane has applied; the ports that others ask for than before."""
        gone = set(change.removed)
        if change.resync:
            gone.update(self._by_path.keys() - change.desired.keys())
        touched: set[int] = set()
        for path in gone:
            touched.update(self._replace(path, None))
        for path, view in change.changed.items():
            touched.update(self._replace(path, check(view)))
        return touched

    def _replace(self, path: str, new: Check | None) -> Iterable[int]:
        old = self._by_path.pop(path, None)
        if new is not None:
            self._by_path[path] = new
        before, now = (each.port if each else None for each in (old, new))
        if before == now:
            return
        if before is not None:
            claims = self._claims[before]
            del claims[path]
            if not claims:
                del self._claims[before]
            yield before
        if now is not None:
            self._claims.setdefault(now, {})[path] = None
            yield now
