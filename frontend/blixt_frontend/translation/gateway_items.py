"""A Gateway's result to model items: each listener that is served travels as a Service.

A listener without a route is there without endpoints: its connections are refused. A backend reference is a
group of endpoints that share its weight; one that leads to nothing keeps its share, which is refused. One of
weight 0 has its endpoints told of as draining, so that turning a backend down to 0 ends no connection. The
traffic policies of the Services behind it are for their own clients, and don't count here; topology hints do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from msgspec import structs

from blixt_api import localv1_pb2 as wire
from blixt_frontend.items import Item
from blixt_frontend.objects import Gateway
from blixt_frontend.translation.annotations import algorithm, carried
from blixt_frontend.translation.cluster import Cluster, NamespacedName, Translation
from blixt_frontend.translation.endpoints import PortQuery, ServiceEndpoint, resolve
from blixt_frontend.translation.gateways import assess, is_ours
from blixt_frontend.translation.listeners import carries_traffic
from blixt_frontend.translation.options import Options
from blixt_frontend.translation.placeholders import placeholders
from blixt_frontend.translation.results import BackendResult, GatewayResult, ListenerResult
from blixt_frontend.translation.routes import resolve_backends
from blixt_frontend.translation.topology import Policies, Reach, Scope, ZoneReader
from blixt_frontend.translation.triggers import newest_trigger_time
from blixt_frontend.translation.wire import Share, endpoint_item, ip_set, reject_item, service_item

GATEWAY_NAME_LABEL = "gateway.networking.k8s.io/gateway-name"

_PROTOCOLS = {"TCP": wire.TCP, "UDP": wire.UDP}


@dataclass(frozen=True, slots=True)
class GatewayTranslation:
    translation: Translation
    #: None: the Gateway isn't there, or isn't ours.
    result: GatewayResult | None = None


def translate_gateway(name: NamespacedName, cluster: Cluster, options: Options) -> GatewayTranslation:
    """The Gateway's result, and the items of those of its listeners that are served."""
    gateway = cluster.gateways.get(name)
    if gateway is None or not is_ours(gateway, cluster, options):
        return GatewayTranslation(Translation())
    result = assess(gateway, cluster)
    work = _Work(gateway, result, cluster)
    items = [item for listener in result.listeners for item in work.listener_items(listener)]
    translation = Translation(
        tuple(items),
        work.trigger_time,
        tuple(_told(result)) + tuple(dict.fromkeys(work.problems)),
        frozenset(work.zones.asked),
    )
    return GatewayTranslation(translation, result)


def _told(result: GatewayResult) -> Iterator[str]:
    """The conditions that somebody should look at."""
    for condition in result.conditions:
        if not condition.status or condition.reason == "ListenersNotValid":
            yield f"{condition.type}={condition.status_text} ({condition.reason}): {condition.message}"
    for listener in result.listeners:
        for condition in listener.conditions:
            if condition.is_fault:
                yield f"listener {listener.listener.name}: {condition.reason}: {condition.message}"
    for parent in result.parents:
        for condition in parent.conditions:
            if condition.is_fault:
                yield (
                    f"{parent.route.kind} {parent.route.namespace}/{parent.route.name}: "
                    f"{condition.reason}: {condition.message}"
                )


class _Work:
    """What is gathered while one Gateway's items are made."""

    def __init__(self, gateway: Gateway, result: GatewayResult, cluster: Cluster) -> None:
        self.gateway = gateway
        self.result = result
        self.cluster = cluster
        self.zones = ZoneReader(cluster.zones)
        self.problems: list[str] = []
        self.trigger_time = 0

    def listener_items(self, result: ListenerResult) -> Iterator[Item]:
        if not carries_traffic(result.listener) or not result.conditions.holds("Programmed"):
            return
        route = result.active
        backends = [] if route is None else list(resolve_backends(route, self.cluster))
        endpoints = [self._endpoints(backend, result.listener.name) for backend in backends]
        message = self._service(result, endpoints)
        yield service_item(message)
        uses = Counter[str]()
        for group, (backend, own) in enumerate(zip(backends, endpoints, strict=True)):
            ref = backend.ref
            prefix = f"{backend.namespace}.{ref.name}.{ref.port or 0}"
            uses[prefix] += 1
            if uses[prefix] > 1:  # the same Service once more: its endpoints need paths of their own
                prefix += f"+{uses[prefix]}"
            path = f"{message.Namespace}/{message.Name}/{prefix}"
            yield from _group(path, own, Share(group, ref.weight))

    def _service(self, result: ListenerResult, endpoints: list[list[ServiceEndpoint]]) -> wire.Service:
        """As KPNG's backends need it, too: no address set absent, a cluster IP, one target port by number.

        Of backends with different ports that is the first one's; Blixt's own know each endpoint's.
        """
        metadata, listener = self.gateway.metadata, result.listener
        # Both names may have dots; without any in the listener's, the last one stands between them.
        name = f"{metadata.name}.{listener.name.replace('.', '_')}"
        addresses = self.result.addresses
        target = next((number for group in endpoints for each in group for _, number in each.ports), 0)
        infrastructure = self.gateway.spec.infrastructure
        return wire.Service(
            Namespace=metadata.namespace,
            Name=name,
            Type="LoadBalancer",
            IPs=wire.ServiceIPs(
                ClusterIPs=ip_set(placeholders(f"{metadata.namespace}/{name}", addresses)),
                ExternalIPs=wire.IPSet(),
                LoadBalancerIPs=ip_set(addresses),
            ),
            Ports=[
                wire.PortMapping(
                    Name=listener.name,
                    Protocol=_PROTOCOLS[listener.protocol],
                    Port=listener.port,
                    TargetPort=target,
                    TargetPortName=listener.name,
                )
            ],
            Labels={**infrastructure.labels, GATEWAY_NAME_LABEL: metadata.name},
            Annotations=carried(infrastructure.annotations),
            Origin=wire.GatewayListener,
            Algorithm=algorithm({**metadata.annotations, **infrastructure.annotations}, self.problems),
            Announce=True,
        )

    def _endpoints(self, backend: BackendResult, port_name: str) -> list[ServiceEndpoint]:
        service, port = backend.service, backend.port
        if service is None or port is None:
            return []
        name = NamespacedName(service.metadata.namespace, service.metadata.name)
        slices = list(self.cluster.slices.get(name, {}).values())
        self.trigger_time = max(self.trigger_time, newest_trigger_time(slices))
        query = PortQuery(port.name, port.protocol, port_name)
        return resolve([query], slices, Policies(), self.zones, self.problems)


def _group(path: str, endpoints: list[ServiceEndpoint], share: Share) -> Iterator[Item]:
    for endpoint in endpoints:
        if not share.weight:
            endpoint = _draining(endpoint)
        yield endpoint_item(f"{path}.{endpoint.key}", endpoint, share)
    if share.weight and not any(endpoint.state.reach.anywhere for endpoint in endpoints):
        yield reject_item(f"{path}!reject", share)


def _draining(endpoint: ServiceEndpoint) -> ServiceEndpoint:
    """The endpoint without any new connections; its own node still knows it as local."""
    reach = Reach(Scope.NONE, nodes=tuple((node, Scope.NONE) for node, _ in endpoint.state.reach.nodes))
    return structs.replace(endpoint, state=structs.replace(endpoint.state, reach=reach))
