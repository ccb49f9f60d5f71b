"""What the status of every object should say now, and word of which may have to be written."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Protocol

from blixt_frontend.objects import Gateway, GatewayClass, Route, TCPRoute, UDPRoute
from blixt_frontend.source import NOT_YET, Batch, KubernetesObject, ObjectKey
from blixt_frontend.status.bundle import Bundle
from blixt_frontend.status.programming import Configuration, Programming
from blixt_frontend.status.wanted import (
    Wanted,
    class_wanted,
    gateway_wanted,
    route_wanted,
)
from blixt_frontend.translation.cluster import NamespacedName
from blixt_frontend.translation.results import GatewayResult, ParentResult

ROUTE_KINDS = (TCPRoute.kind, UDPRoute.kind)
#: The kinds whose status is written here.
KINDS = (GatewayClass.kind, Gateway.kind, *ROUTE_KINDS)


class Nodes(Protocol):
    """What the server knows of its watchers."""

    @property
    def streams(self) -> Mapping[str, int]:
        """How many streams each watching node has."""

    @property
    def acknowledged(self) -> Mapping[str, int]:
        """The revision that each watching node said it has applied."""


class Follower(Protocol):
    """Whoever writes what the board says."""

    def touched(self, key: ObjectKey) -> None:
        """What is wanted of the object may have changed."""

    def gone(self, key: ObjectKey) -> None:
        """The object was deleted, or is another one of the same name now."""


class Board:
    """Synchronous; used on one event loop. Says nothing before everything was listed once: what is not there
    yet must not be told of as missing. What only status needs, and can't be listed, isn't waited for."""

    def __init__(self, controller: str, features: tuple[str, ...]) -> None:
        self.controller = controller
        self._features = features
        self._bundle: Bundle | None = None
        self._classes: dict[str, GatewayClass] = {}
        self._class_of: dict[ObjectKey, str] = {}  # every Gateway's class, also those that aren't ours
        self._uses: Counter[str] = Counter()
        self._uids: dict[ObjectKey, str] = {}
        self._unread: Mapping[str, str] = {}
        self._results: dict[NamespacedName, GatewayResult] = {}
        self._parents: dict[ObjectKey, dict[NamespacedName, Sequence[ParentResult]]] = {}
        self._programming = Programming()
        self.follower: Follower | None = None
        self.complete = asyncio.Event()
        #: Acknowledgements matter: `hear` is to be called until it is cleared.
        self.lagging = asyncio.Event()
        #: So does what other frontends tell of their nodes: `told`, until it is cleared.
        self.waiting = asyncio.Event()
        #: And it should be called soon, as some Gateway has changed since.
        self.unasked = asyncio.Event()

    def observe(
        self,
        batch: Batch,
        gateways: Mapping[NamespacedName, GatewayResult],
        changed_units: Iterable[str],
        revision: int,
    ) -> None:
        """After the translation of a batch, and the store's transaction with it, which led to `revision`."""
        for obj in batch.upserts:
            self._put(obj)
        for unit in changed_units:
            kind, _, path = unit.partition(" ")
            if kind == Gateway.kind:
                self._programming.changed(NamespacedName(*path.split("/")), revision)
        # A look-up for each Gateway, and no more: results that were not made anew are the same objects.
        for name, result in gateways.items():
            if self._results.get(name) is not result:
                self._put_result(name, result)
        for name in [name for name in self._results if name not in gateways]:
            self._remove_result(name)
        for key in batch.deletions:
            self._remove(key)
        if batch.unread is not None:
            self._unread = batch.unread
        if batch.complete and not self.complete.is_set() and NOT_YET not in self._unread.values():
            self.complete.set()
        self._raise_flags()

    @property
    def applied(self) -> Set[str]:
        """The digests of Gateways' present configurations that all of our own nodes have applied."""
        return self._programming.applied

    def hear(self, nodes: Nodes) -> None:
        """Look at what our own nodes have applied by now."""
        self._touch_gateways(self._programming.heard(nodes.streams, nodes.acknowledged))

    def told(self, others: Sequence[Set[str]] | None) -> None:
        """What each other frontend that has nodes says is applied by all of them; None: nobody knows."""
        self._touch_gateways(self._programming.told(others))

    def _touch_gateways(self, names: Iterable[NamespacedName]) -> None:
        for name in names:
            self._touch(ObjectKey(Gateway.kind, *name))
        self._raise_flags()

    def _raise_flags(self) -> None:
        for flag, raised in (
            (self.lagging, self._programming.lagging),
            (self.waiting, self._programming.waiting),
            (self.unasked, self._programming.unasked),
        ):
            if raised:
                flag.set()
            else:
                flag.clear()

    def learn(self, bundle: Bundle) -> None:
        """The cluster's definitions are of these versions."""
        if bundle != self._bundle:
            self._bundle = bundle
            for name in self._classes:
                self._touch(ObjectKey(GatewayClass.kind, "", name))

    def wanted(self, key: ObjectKey) -> Wanted | None:
        """None: the status is not ours, or not known yet."""
        if not self.complete.is_set():
            return None
        if key.kind in ROUTE_KINDS:
            return route_wanted(self.controller, self._parents.get(key, {}).values())
        if key.kind == Gateway.kind:
            name = NamespacedName(key.namespace, key.name)
            result = self._results.get(name)
            return gateway_wanted(result, self._programming.reach(name)) if result is not None else None
        gateway_class = self._classes.get(key.name)
        if gateway_class is None or self._bundle is None:
            return None
        return class_wanted(gateway_class, self._bundle, self._uses[key.name] > 0, self._features)

    def __iter__(self) -> Iterator[ObjectKey]:
        """All objects of which something is wanted."""
        yield from (ObjectKey(GatewayClass.kind, "", name) for name in self._classes)
        yield from (ObjectKey(Gateway.kind, *name) for name in self._results)
        yield from self._parents

    def _touch(self, key: ObjectKey) -> None:
        if self.follower is not None:
            self.follower.touched(key)

    def _put(self, obj: KubernetesObject) -> None:
        if not isinstance(obj, GatewayClass | Gateway | Route):
            return
        key = obj.key
        before = self._uids.get(key)
        self._uids[key] = obj.metadata.uid
        if before is not None and before != obj.metadata.uid:
            if self.follower is not None:
                self.follower.gone(key)
            self._touch(key)
        if isinstance(obj, Gateway):
            self._use(key, obj.spec.gateway_class_name)
        elif isinstance(obj, GatewayClass):
            if obj.spec.controller_name == self.controller:
                self._classes[obj.metadata.name] = obj
                self._touch(key)
            else:
                self._classes.pop(obj.metadata.name, None)

    def _use(self, gateway: ObjectKey, name: str | None) -> None:
        before = self._class_of.pop(gateway, None)
        if name is not None:
            self._class_of[gateway] = name
        if before == name:
            return
        for changed, by in ((before, -1), (name, 1)):
            if changed is not None:
                self._uses[changed] += by
                self._touch(ObjectKey(GatewayClass.kind, "", changed))

    def _remove(self, key: ObjectKey) -> None:
        """The object is gone; nothing that was wanted of it has to be written any more."""
        if key.kind not in KINDS:
            return
        self._uids.pop(key, None)
        if key.kind == Gateway.kind:
            self._use(key, None)
        elif key.kind == GatewayClass.kind:
            self._classes.pop(key.name, None)
        if self.follower is not None:
            self.follower.gone(key)

    def _put_result(self, name: NamespacedName, result: GatewayResult) -> None:
        before = self._results.get(name)
        self._results[name] = result
        self._programming.configured(name, Configuration.of(result, self._uids.get(result.gateway, "")))
        if before == result:
            return
        self._touch(ObjectKey(Gateway.kind, *name))
        self._put_parents(name, before.parents if before else (), result.parents)

    def _remove_result(self, name: NamespacedName) -> None:
        before = self._results.pop(name)
        self._programming.forget(name)
        self._put_parents(name, before.parents, ())

    def _put_parents(
        self, name: NamespacedName, before: Iterable[ParentResult], results: Iterable[ParentResult]
    ) -> None:
        """What one Gateway said of all the routes that named it, and what it says now."""
        now: dict[ObjectKey, list[ParentResult]] = {}
        for result in results:
            now.setdefault(result.route, []).append(result)
        for route in {result.route for result in before}.difference(now):
            del self._parents[route][name]
            if not self._parents[route]:
                del self._parents[route]
            self._touch(route)
        for route, of_route in now.items():
            known = self._parents.setdefault(route, {})
            if known.get(name) != of_route:
                known[name] = of_route
                self._touch(route)
