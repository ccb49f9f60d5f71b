"""One Service, with its endpoint slices, to its items."""

from __future__ import annotations

from collections.abc import Iterable

from blixt_api import localv1_pb2 as wire
from blixt_frontend.items import Item
from blixt_frontend.objects import EndpointSlice, Service, ServicePort
from blixt_frontend.translation.addresses import Addresses, Assignment, sort_out, sort_out_ranges
from blixt_frontend.translation.annotations import algorithm, carried
from blixt_frontend.translation.cluster import Cluster, NamespacedName, Translation
from blixt_frontend.translation.endpoints import PortQuery, resolve
from blixt_frontend.translation.options import Options
from blixt_frontend.translation.topology import Policies, ZoneReader
from blixt_frontend.translation.triggers import newest_trigger_time
from blixt_frontend.translation.wire import endpoint_item, ip_set, service_item

PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
HEADLESS_LABEL = "service.kubernetes.io/headless"
SOURCE_RANGES_ANNOTATION = "service.beta.kubernetes.io/load-balancer-source-ranges"

PROTOCOLS = {"TCP": wire.TCP, "UDP": wire.UDP, "SCTP": wire.SCTP}


def translate_service(name: NamespacedName, cluster: Cluster, options: Options) -> Translation:
    """The service's item and those of its endpoints; none if it isn't there or isn't ours."""
    service = cluster.services.get(name)
    if service is None or not is_ours(service, options):
        return Translation()
    problems: list[str] = []
    slices = list(cluster.slices.get(name, {}).values())
    message = describe(service, slices, problems, cluster.assignments.get(service.key))
    if not _reachable(message):
        problems.append("no address and no node port leads to it, so it is left out")
        return Translation(problems=tuple(problems))
    zones = ZoneReader(cluster.zones)
    items = [service_item(message)]
    items += _endpoint_items(message, service, slices, zones, problems)
    return Translation(tuple(items), newest_trigger_time(slices), tuple(problems), frozenset(zones.asked))


def is_ours(service: Service, options: Options) -> bool:
    """Whether a service proxy has anything to do for it, and that is us."""
    labels = service.metadata.labels
    if service.spec.type == "ExternalName" or service.spec.headless or HEADLESS_LABEL in labels:
        return False
    proxy = labels.get(PROXY_NAME_LABEL)
    return proxy is None or proxy == options.proxy_name


def describe(
    service: Service,
    slices: list[EndpointSlice],
    problems: list[str],
    assignment: Assignment | None = None,
) -> wire.Service:
    """The service's message. The slices are asked only for what its ports must be called."""
    spec, metadata = service.spec, service.metadata
    balanced = spec.type == "LoadBalancer"
    load_balancer_ips = _load_balancer_ips(service, assignment, problems) if balanced else Addresses()
    message = wire.Service(
        Namespace=metadata.namespace,
        Name=metadata.name,
        Type=spec.type,
        IPs=wire.ServiceIPs(
            ClusterIPs=ip_set(_good(spec.cluster_ips, "cluster IP", problems)),
            ExternalIPs=ip_set(_good(spec.external_ips, "external IP", problems)),
            LoadBalancerIPs=ip_set(load_balancer_ips),
        ),
        Ports=[_port(port, spec.type, slices) for port in spec.ports if _has_known_protocol(port, problems)],
        ExternalTrafficToLocal=spec.external_traffic_policy == "Local",
        InternalTrafficToLocal=spec.internal_traffic_policy == "Local",
        Labels=metadata.labels,
        Annotations=carried(metadata.annotations),
        IPFilters=_filters(service, load_balancer_ips, problems) if balanced else (),
        HealthCheckNodePort=spec.health_check_node_port if balanced else 0,
        Algorithm=algorithm(metadata.annotations, problems),
        # Addresses of another controller, or of a cloud, are not for our nodes to answer for.
        Announce=balanced and assignment is not None,
    )
    if spec.affinity_seconds > 0:
        message.ClientIP.TimeoutSeconds = spec.affinity_seconds
    return message


def _load_balancer_ips(service: Service, assignment: Assignment | None, problems: list[str]) -> Addresses:
    """What our pools assigned; what the status says where its addresses aren't ours to give."""
    if assignment is None:
        given = (ingress.ip for ingress in service.ingress if ingress.ip_mode != "Proxy")
        return _good(given, "load balancer IP", problems)
    if assignment.reason is not None:
        problems.append(f"{assignment.reason}: {assignment.problem}")
    return sort_out(assignment.addresses)[0]


def _good(addresses: Iterable[str], what: str, problems: list[str]) -> Addresses:
    good, bad = sort_out(addresses)
    problems.extend(f"{address!r} is no {what} and is left out" for address in bad)
    return good


def _reachable(message: wire.Service) -> bool:
    ips = message.IPs
    return any(
        addresses.V4 or addresses.V6 for addresses in (ips.ClusterIPs, ips.ExternalIPs, ips.LoadBalancerIPs)
    ) or any(port.NodePort for port in message.Ports)


def _has_known_protocol(port: ServicePort, problems: list[str]) -> bool:
    if port.protocol in PROTOCOLS:
        return True
    problems.append(f"port {port.name or port.port} is left out: protocol {port.protocol!r} is unknown")
    return False


def _port(port: ServicePort, service_type: str, slices: list[EndpointSlice]) -> wire.PortMapping:
    number = port.target_port if isinstance(port.target_port, int) else 0
    name = "" if isinstance(port.target_port, int) else port.target_port
    if not port.name and not name and _numbered_otherwise(port, slices):
        # A port without any name can't be overridden, and endpoints made by hand may have any number.
        name = f"port-{port.port}"
    return wire.PortMapping(
        Name=port.name,
        Protocol=PROTOCOLS[port.protocol],
        Port=port.port,
        NodePort=port.node_port if service_type in ("NodePort", "LoadBalancer") else 0,
        TargetPort=number,
        TargetPortName=name,
    )


def _numbered_otherwise(port: ServicePort, slices: list[EndpointSlice]) -> bool:
    return any(
        other.port and other.port != port.target_port
        for piece in slices
        for other in piece.ports
        if not other.name and other.protocol == port.protocol
    )


def _filters(service: Service, targets: Addresses, problems: list[str]) -> list[wire.IPFilter]:
    """Source ranges guard the load balancer IPs of their family; a family without ranges stays open.

    If ranges were given and none can be read, nobody gets in.
    """
    wanted: Iterable[str] = service.spec.load_balancer_source_ranges
    if not wanted:
        wanted = service.metadata.annotations.get(SOURCE_RANGES_ANNOTATION, "").split(",")
    ranges, bad = sort_out_ranges(wanted)
    problems.extend(f"{text!r} is no source range and is left out" for text in bad)
    if bad and not ranges:
        return [wire.IPFilter(TargetIPs=ip_set(targets))] if targets else []
    filters = []
    if ranges.v4 and targets.v4:
        filters.append(wire.IPFilter(TargetIPs=wire.IPSet(V4=targets.v4), SourceRanges=ranges.v4))
    if ranges.v6 and targets.v6:
        filters.append(wire.IPFilter(TargetIPs=wire.IPSet(V6=targets.v6), SourceRanges=ranges.v6))
    return filters


def _endpoint_items(
    message: wire.Service,
    service: Service,
    slices: list[EndpointSlice],
    zones: ZoneReader,
    problems: list[str],
) -> list[Item]:
    queries = [
        # KPNG's readers take a name that isn't overridden for a port that the endpoint lacks.
        PortQuery(port.Name, wire.Protocol.Name(port.Protocol), port.Name or port.TargetPortName)
        for port in message.Ports
    ]
    policies = Policies(message.InternalTrafficToLocal, message.ExternalTrafficToLocal)
    prefix = f"{service.metadata.namespace}/{service.metadata.name}/"
    return [
        endpoint_item(prefix + endpoint.key, endpoint)
        for endpoint in resolve(queries, slices, policies, zones, problems)
    ]
