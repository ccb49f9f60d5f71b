"""discovery.k8s.io/v1: EndpointSlice."""

from __future__ import annotations

from typing import ClassVar

from blixt_frontend.objects.meta import Model, Port, Resource

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
#: When the change that this slice shows was made; network programming latency is measured from it.
TRIGGER_TIME_ANNOTATION = "endpoints.kubernetes.io/last-change-trigger-time"


class EndpointConditions(Model, frozen=True, kw_only=True):
    """As written. Read them through `Endpoint`, which knows what an absent one means."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class ZoneHint(Model, frozen=True, kw_only=True):
    name: str


class NodeHint(Model, frozen=True, kw_only=True):
    name: str


class EndpointHints(Model, frozen=True, kw_only=True):
    for_zones: tuple[ZoneHint, ...] = ()
    for_nodes: tuple[NodeHint, ...] = ()

    @property
    def zones(self) -> frozenset[str]:
        return frozenset(zone.name for zone in self.for_zones)

    @property
    def nodes(self) -> frozenset[str]:
        return frozenset(node.name for node in self.for_nodes)


class TargetRef(Model, frozen=True, kw_only=True):
    """Its namespace, which is the slice's own, and its uid are left out: there is one for each endpoint."""

    kind: str = ""
    name: str = ""


class Endpoint(Model, frozen=True, kw_only=True):
    #: All of one endpoint; consumers use the first (Kubernetes leaves the others undefined).
    addresses: tuple[str, ...]
    conditions: EndpointConditions = EndpointConditions()
    hostname: str = ""
    node_name: str = ""
    zone: str = ""
    target_ref: TargetRef | None = None
    hints: EndpointHints = EndpointHints()

    @property
    def ready(self) -> bool:
        """Unknown counts as ready."""
        return self.conditions.ready is not False

    @property
    def serving(self) -> bool:
        """Unknown: as `ready`."""
        return self.ready if self.conditions.serving is None else self.conditions.serving

    @property
    def terminating(self) -> bool:
        """Unknown counts as not terminating."""
        return self.conditions.terminating is True


class EndpointPort(Model, frozen=True, kw_only=True):
    name: str = ""
    #: None: all ports, which no Service of Kubernetes' own making has.
    port: Port | None = None
    protocol: str = "TCP"
    app_protocol: str = ""


class EndpointSlice(Resource, frozen=True, kw_only=True):
    kind: ClassVar[str] = "EndpointSlice"

    #: "IPv4", "IPv6" or "FQDN".
    address_type: str
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()

    @property
    def service_name(self) -> str:
        """The name of the Service, in the slice's own namespace; empty if it belongs to none."""
        return self.metadata.labels.get(SERVICE_NAME_LABEL, "")

    @property
    def trigger_time(self) -> str:
        """RFC 3339, or empty."""
        return self.metadata.annotations.get(TRIGGER_TIME_ANNOTATION, "")
