"""What this node should do: all services with their endpoints, brought forward by one round at a time. Pure.

A round costs what it changed; a full set costs as much as it holds. Services and endpoints are kept apart,
since an endpoint may come before its service and outlast it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from blixt_backend.endpoints import Endpoints
from blixt_backend.model import ChangeSet, Node, Service, ServiceView
from blixt_backend.rounds import Round

_NOBODY = Endpoints()


class DesiredState:
    """Services and endpoints as of the last round, and the differences that rounds make."""

    def __init__(self) -> None:
        self._services: dict[str, Service] = {}
        #: By service path.
        self._endpoints: dict[str, Endpoints] = {}
        self._views: dict[str, ServiceView] = {}
        self._revision = 0
        self._node = Node()
        #: A live, read-only view.
        self.desired: Mapping[str, ServiceView] = MappingProxyType(self._views)

    def apply(self, received: Round) -> ChangeSet:
        """Take in one whole round and tell what it changed; a full set is told as a resync."""
        touched: set[str] = set()
        if received.reset:
            touched.update(self._sweep(received))
        touched.update(self._take_services(received))
        touched.update(self._take_endpoints(received))
        changed, removed = self._rebuild(touched)
        self._revision = received.revision
        if received.node is not None:
            self._node = received.node
        if received.reset:
            return self.resync(removed)
        return ChangeSet(changed, removed, self.desired, revision=self._revision, node=self._node)

    def resync(self, removed: frozenset[str] = frozenset()) -> ChangeSet:
        """Everything once more, for a plane whose last apply failed."""
        return ChangeSet(
            self.desired, removed, self.desired, resync=True, revision=self._revision, node=self._node
        )

    def _sweep(self, received: Round) -> Iterable[str]:
        """Drop what a full set doesn't name."""
        for path in self._services.keys() - received.services.keys() - received.unreadable:
            del self._services[path]
            yield path
        for path, held in list(self._endpoints.items()):
            said = received.endpoints_of(path)
            kept = [
                (key, packed)
                for key, packed in held.entries()
                if key in said or (path, key) in received.unreadable
            ]
            if len(kept) < len(held):
                self._keep(path, Endpoints(kept))
                yield path

    def _take_services(self, received: Round) -> Iterable[str]:
        for path, service in received.services.items():
            if service == self._services.get(path):
                continue
            if service is None:
                del self._services[path]
            else:
                self._services[path] = service
            yield path

    def _take_endpoints(self, received: Round) -> Iterable[str]:
        for path, said in received.endpoints.items():
            if isinstance(said, Endpoints) and path not in self._endpoints:
                self._keep(path, said)
                yield path
                continue
            held = dict(self._endpoints.get(path, _NOBODY).entries())
            merged = {**held, **received.endpoints_of(path)}
            entries = {key: packed for key, packed in merged.items() if packed is not None}
            if entries != held:
                self._keep(path, Endpoints(entries.items()))
                yield path

    def _keep(self, path: str, endpoints: Endpoints) -> None:
        if endpoints:
            self._endpoints[path] = endpoints
        else:
            self._endpoints.pop(path, None)

    def _rebuild(self, touched: Iterable[str]) -> tuple[dict[str, ServiceView], frozenset[str]]:
        """The touched services' new views, and those of them that are gone."""
        changed: dict[str, ServiceView] = {}
        removed: set[str] = set()
        for path in touched:
            service = self._services.get(path)
            if service is not None:
                changed[path] = ServiceView(service, self._endpoints.get(path, _NOBODY))
            elif self._views.pop(path, None) is not None:
                removed.add(path)
        self._views.update(changed)
        return changed, frozenset(removed)
