"""The objects as they are, and which units have to be translated anew when one of them changes.

A unit is one Service, one Gateway or one Node. Each change costs the units that it touches, found by look-up.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from blixt_frontend.objects import (
    EndpointSlice,
    Gateway,
    GatewayClass,
    HostRoute,
    Namespace,
    Node,
    Object,
    ReferenceGrant,
    Route,
    Secret,
    Service,
)
from blixt_frontend.source import ObjectKey
from blixt_frontend.translation.addresses import Assignment
from blixt_frontend.translation.certificates import secret_names
from blixt_frontend.translation.cluster import Cluster, NamespacedName
from blixt_frontend.translation.routes import backend_names, parent_name

K = TypeVar("K", bound=Hashable)
L = TypeVar("L", bound=Hashable)
V = TypeVar("V")


class Unit(NamedTuple):
    """What is translated as a whole."""

    kind: str
    name: NamespacedName

    @classmethod
    def of(cls, key: ObjectKey) -> Unit:
        """The unit of a Service's, a Gateway's or a Node's key."""
        return cls(key.kind, NamespacedName(key.namespace, key.name))

    @property
    def key(self) -> ObjectKey:
        return ObjectKey(self.kind, *self.name)

    def __str__(self) -> str:
        return f"{self.kind} {self.name.namespace}/{self.name.name}"


def service_unit(name: NamespacedName) -> Unit:
    return Unit("Service", name)


def gateway_unit(name: NamespacedName) -> Unit:
    return Unit("Gateway", name)


def node_unit(name: str) -> Unit:
    return Unit("Node", NamespacedName("", name))


def _alike(node: Node, other: Node) -> bool:
    """Nodes change all the time, and hardly ever in what is told of them."""
    return (node.zone, node.leaving) == (other.zone, other.leaving)


class Groups(dict[K, dict[L, V]]):
    """A dict of dicts that has no empty ones."""

    def put(self, group: K, key: L, value: V) -> None:
        self.setdefault(group, {})[key] = value

    def drop(self, group: K, key: L) -> None:
        members = self.get(group)
        if members is not None:
            members.pop(key, None)
            if not members:
                del self[group]

    def of(self, group: K) -> Iterable[V]:
        return tuple(self.get(group, {}).values())


class Index:
    """Takes objects in and out, and tells the units that each change touches."""

    def __init__(self, assignments: Mapping[ObjectKey, Assignment] | None = None) -> None:
        self._objects: dict[ObjectKey, Object] = {}
        self._services: dict[NamespacedName, Service] = {}
        self._gateways: dict[NamespacedName, Gateway] = {}
        self._namespaces: dict[str, Namespace] = {}
        self._classes: dict[str, GatewayClass] = {}
        self._zones: dict[str, str] = {}
        self._nodes: dict[str, Node] = {}
        self._slices: Groups[NamespacedName, str, EndpointSlice] = Groups()
        self._grants: Groups[str, ObjectKey, ReferenceGrant] = Groups()
        self._routes: Groups[NamespacedName, ObjectKey, Route] = Groups()
        self._routes_by_service: Groups[NamespacedName, ObjectKey, Route] = Groups()
        self._routes_by_namespace: Groups[str, ObjectKey, Route] = Groups()
        self._routes_by_foreign_namespace: Groups[str, ObjectKey, Route] = Groups()
        self._host_routes: Groups[NamespacedName, ObjectKey, HostRoute] = Groups()
        self._host_routes_by_namespace: Groups[str, ObjectKey, HostRoute] = Groups()
        self._secrets: dict[NamespacedName, Secret] = {}
        self._gateways_by_secret: Groups[NamespacedName, NamespacedName, Gateway] = Groups()
        self._gateways_by_foreign_namespace: Groups[str, NamespacedName, Gateway] = Groups()
        self._unread: dict[str, str] = {}
        self._gateways_by_class: Groups[str, NamespacedName, Gateway] = Groups()
        self._zone_readers: Groups[str, Unit, None] = Groups()
        self.cluster = Cluster(
            services=self._services,
            slices=self._slices,
            gateways=self._gateways,
            routes=self._routes,
            host_routes=self._host_routes,
            secrets=self._secrets,
            grants=self._grants,
            namespaces=self._namespaces,
            classes=self._classes,
            zones=self._zones,
            nodes=self._nodes,
            assignments={} if assignments is None else assignments,
            unread=self._unread,
        )

    def put(self, obj: Object) -> Iterator[Unit]:
        """Take an object in, in place of the one of its key. None is touched if they are equal."""
        old = self._objects.get(obj.key)
        if old == obj or (isinstance(obj, Node) and isinstance(old, Node) and _alike(obj, old)):
            return
        if old is not None:
            yield from self._take_out(old)
        self._objects[obj.key] = obj
        yield from self._take_in(obj)

    def remove(self, key: ObjectKey) -> Iterator[Unit]:
        """Take out what is there under the key, if anything is."""
        old = self._objects.pop(key, None)
        if old is not None:
            yield from self._take_out(old)

    def read_state(self, unread: Mapping[str, str]) -> Iterator[Unit]:
        """Of these kinds, which only status needs, nothing is known, for these reasons."""
        before, now = self._unread.get(Secret.kind), unread.get(Secret.kind)
        self._unread.clear()
        self._unread.update(unread)
        if before != now:
            for gateways in self._gateways_by_secret.values():
                yield from map(gateway_unit, gateways)

    def reads_zones(self, unit: Unit, before: Iterable[str], now: Iterable[str]) -> None:
        """The nodes whose zone the unit's translation asked for, the last time and this time."""
        for node in before:
            self._zone_readers.drop(node, unit)
        for node in now:
            self._zone_readers.put(node, unit, None)

    def _take_in(self, obj: Object) -> Iterator[Unit]:
        namespace, own_name = obj.metadata.namespace, obj.metadata.name
        name = NamespacedName(namespace, own_name)
        match obj:
            case Service():
                self._services[name] = obj
            case EndpointSlice():
                if obj.service_name:
                    self._slices.put(NamespacedName(namespace, obj.service_name), own_name, obj)
            case Node():
                self._nodes[own_name] = obj
                if obj.zone:
                    self._zones[own_name] = obj.zone
            case Namespace():
                self._namespaces[own_name] = obj
            case GatewayClass():
                self._classes[own_name] = obj
            case Gateway():
                self._gateways[name] = obj
                for gateways, group in self._groups_of_gateway(obj):
                    gateways.put(group, name, obj)
            case ReferenceGrant():
                self._grants.put(namespace, obj.key, obj)
            case Route():
                for groups, group in self._groups_of(obj):
                    groups.put(group, obj.key, obj)
            case HostRoute():
                for counted, group in self._groups_of_host_route(obj):
                    counted.put(group, obj.key, obj)
            case Secret():
                self._secrets[name] = obj
        yield from self._touched_by(obj)

    def _take_out(self, obj: Object) -> Iterator[Unit]:
        yield from self._touched_by(obj)
        namespace, own_name = obj.metadata.namespace, obj.metadata.name
        name = NamespacedName(namespace, own_name)
        match obj:
            case Service():
                self._services.pop(name, None)
            case EndpointSlice():
                self._slices.drop(NamespacedName(namespace, obj.service_name), own_name)
            case Node():
                self._nodes.pop(own_name, None)
                self._zones.pop(own_name, None)
            case Namespace():
                self._namespaces.pop(own_name, None)
            case GatewayClass():
                self._classes.pop(own_name, None)
            case Gateway():
                self._gateways.pop(name, None)
                for gateways, group in self._groups_of_gateway(obj):
                    gateways.drop(group, name)
            case ReferenceGrant():
                self._grants.drop(namespace, obj.key)
            case Route():
                for groups, group in self._groups_of(obj):
                    groups.drop(group, obj.key)
            case HostRoute():
                for counted, group in self._groups_of_host_route(obj):
                    counted.drop(group, obj.key)
            case Secret():
                self._secrets.pop(name, None)

    def _groups_of(self, route: Route) -> Iterator[tuple[Groups[Any, ObjectKey, Route], Any]]:
        own = route.metadata.namespace
        for parent in route.spec.parent_refs:
            if (gateway := parent_name(route, parent)) is not None:
                yield self._routes, gateway
        for service in backend_names(route):
            yield self._routes_by_service, service
            if service.namespace != own:
                yield self._routes_by_foreign_namespace, service.namespace
        yield self._routes_by_namespace, own

    def _groups_of_host_route(
        self, route: HostRoute
    ) -> Iterator[tuple[Groups[Any, ObjectKey, HostRoute], Any]]:
        for parent in route.spec.parent_refs:
            if (gateway := parent_name(route, parent)) is not None:
                yield self._host_routes, gateway
        yield self._host_routes_by_namespace, route.metadata.namespace

    def _groups_of_gateway(
        self, gateway: Gateway
    ) -> Iterator[tuple[Groups[Any, NamespacedName, Gateway], Any]]:
        yield self._gateways_by_class, gateway.spec.gateway_class_name
        for secret in secret_names(gateway):
            yield self._gateways_by_secret, secret
            if secret.namespace != gateway.metadata.namespace:
                yield self._gateways_by_foreign_namespace, secret.namespace

    def _touched_by(self, obj: Object) -> Iterator[Unit]:
        namespace, own_name = obj.metadata.namespace, obj.metadata.name
        match obj:
            case Service():
                yield from self._behind(NamespacedName(namespace, own_name))
            case EndpointSlice():
                if obj.service_name:
                    yield from self._behind(NamespacedName(namespace, obj.service_name))
            case Node():
                yield node_unit(own_name)
                yield from tuple(self._zone_readers.get(own_name, ()))
            case Namespace():
                yield from _parents(self._routes_by_namespace.of(own_name))
                yield from _parents(self._host_routes_by_namespace.of(own_name))
            case GatewayClass():
                yield from map(gateway_unit, tuple(self._gateways_by_class.get(own_name, ())))
            case Gateway():
                yield gateway_unit(NamespacedName(namespace, own_name))
            case ReferenceGrant():
                yield from _parents(self._routes_by_foreign_namespace.of(namespace))
                yield from map(gateway_unit, tuple(self._gateways_by_foreign_namespace.get(namespace, ())))
            case Route() | HostRoute():
                yield from _parents((obj,))
            case Secret():
                name = NamespacedName(namespace, own_name)
                yield from map(gateway_unit, tuple(self._gateways_by_secret.get(name, ())))

    def _behind(self, service: NamespacedName) -> Iterator[Unit]:
        yield service_unit(service)
        yield from _parents(self._routes_by_service.of(service))


def _parents(routes: Iterable[Route | HostRoute]) -> Iterator[Unit]:
    for route in routes:
        for parent in route.spec.parent_refs:
            if (gateway := parent_name(route, parent)) is not None:
                yield gateway_unit(gateway)
