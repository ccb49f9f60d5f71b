"""core/v1: Service, Node, Namespace."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta, field
from msgspec.structs import force_setattr

from blixt_frontend.objects.meta import Model, Port, Resource, Timestamp

#: 0: none was allocated.
NodePort = Annotated[int, Meta(ge=0, le=65535)]

#: The cluster autoscaler's mark of a node that it is about to delete.
DELETION_TAINT = "ToBeDeletedByClusterAutoscaler"
ZONE_LABEL = "topology.kubernetes.io/zone"
DEFAULT_AFFINITY_SECONDS = 10800


class ServicePort(Model, frozen=True, kw_only=True):
    port: Port
    name: str = ""
    protocol: str = "TCP"
    #: A number, or the name of a port of the endpoints. As long as it isn't given, the same as `port`.
    target_port: int | str = 0
    node_port: NodePort = 0
    app_protocol: str = ""

    def __post_init__(self) -> None:
        if not self.target_port:
            force_setattr(self, "target_port", self.port)


class ClientIPConfig(Model, frozen=True, kw_only=True):
    timeout_seconds: int = DEFAULT_AFFINITY_SECONDS


class SessionAffinityConfig(Model, frozen=True, kw_only=True):
    client_ip: ClientIPConfig = field(name="clientIP", default=ClientIPConfig())


class ServiceSpec(Model, frozen=True, kw_only=True):
    type: str = "ClusterIP"
    #: "" (none allocated), "None" (headless) or an address; the same as the first of `cluster_ips`.
    cluster_ip: str = field(name="clusterIP", default="")
    cluster_ips: tuple[str, ...] = field(name="clusterIPs", default=())
    ip_families: tuple[str, ...] = ()
    external_ips: tuple[str, ...] = field(name="externalIPs", default=())
    external_name: str = ""
    external_traffic_policy: str = "Cluster"
    internal_traffic_policy: str = "Cluster"
    traffic_distribution: str = ""
    health_check_node_port: NodePort = 0
    load_balancer_class: str = ""
    #: Deprecated by Kubernetes, still how many ask for an address.
    load_balancer_ip: str = field(name="loadBalancerIP", default="")
    load_balancer_source_ranges: tuple[str, ...] = ()
    allocate_load_balancer_node_ports: bool = True
    session_affinity: str = "None"
    session_affinity_config: SessionAffinityConfig = SessionAffinityConfig()
    publish_not_ready_addresses: bool = False
    ports: tuple[ServicePort, ...] = ()

    def __post_init__(self) -> None:
        if self.cluster_ip and not self.cluster_ips:
            force_setattr(self, "cluster_ips", (self.cluster_ip,))
        elif self.cluster_ips and not self.cluster_ip:
            force_setattr(self, "cluster_ip", self.cluster_ips[0])
        if not self.ip_families and self.cluster_ips and not self.headless:
            families = tuple("IPv6" if ":" in address else "IPv4" for address in self.cluster_ips)
            force_setattr(self, "ip_families", families)

    @property
    def headless(self) -> bool:
        return self.cluster_ip == "None"

    @property
    def affinity_seconds(self) -> int:
        """How long a client is kept on its endpoint; 0 without session affinity."""
        if self.session_affinity != "ClientIP":
            return 0
        return self.session_affinity_config.client_ip.timeout_seconds


class LoadBalancerIngress(Model, frozen=True, kw_only=True):
    ip: str = ""
    hostname: str = ""
    #: "Proxy": the load balancer rewrites the destination itself, so nothing is to be done for `ip`.
    ip_mode: str = "VIP"


class LoadBalancerStatus(Model, frozen=True, kw_only=True):
    ingress: tuple[LoadBalancerIngress, ...] = ()


class ServiceStatus(Model, frozen=True, kw_only=True):
    load_balancer: LoadBalancerStatus = LoadBalancerStatus()


class Service(Resource, frozen=True, kw_only=True):
    kind: ClassVar[str] = "Service"

    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()

    @property
    def ingress(self) -> tuple[LoadBalancerIngress, ...]:
        return self.status.load_balancer.ingress


class Taint(Model, frozen=True, kw_only=True):
    key: str
    value: str = ""
    effect: str = ""


class NodeSpec(Model, frozen=True, kw_only=True):
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False
    pod_cidrs: tuple[str, ...] = field(name="podCIDRs", default=())


class Node(Resource, frozen=True, kw_only=True):
    kind: ClassVar[str] = "Node"

    spec: NodeSpec = NodeSpec()

    @property
    def zone(self) -> str:
        return self.metadata.labels.get(ZONE_LABEL, "")

    @property
    def deletion_timestamp(self) -> Timestamp | None:
        return self.metadata.deletion_timestamp

    @property
    def leaving(self) -> bool:
        """Whether it is being deleted, or about to be (as kube-proxy has it, KEP-3836)."""
        return self.deletion_timestamp is not None or any(
            taint.key == DELETION_TAINT for taint in self.spec.taints
        )


class Namespace(Resource, frozen=True, kw_only=True):
    kind: ClassVar[str] = "Namespace"

    @property
    def labels(self) -> dict[str, str]:
        return self.metadata.labels
