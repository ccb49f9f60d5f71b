"""What a Service's own item says, rule by rule."""

from __future__ import annotations

from typing import Any

import pytest

from blixt_api import localv1_pb2 as wire
from blixt_frontend.objects import (
    ClientIPConfig,
    EndpointPort,
    EndpointSlice,
    LoadBalancerIngress,
    Service,
    ServicePort,
    SessionAffinityConfig,
)
from blixt_frontend.translation.cluster import Cluster, NamespacedName, Translation
from blixt_frontend.translation.options import Options
from blixt_frontend.translation.services import SOURCE_RANGES_ANNOTATION, translate_service
from blixt_objects import Seen, endpoint, endpoint_slice, port, service


def translate(subject: Service, *slices: EndpointSlice, options: Options | None = None) -> Translation:
    name = NamespacedName(subject.metadata.namespace, subject.metadata.name)
    cluster = Cluster(services={name: subject}, slices={name: {s.metadata.name: s for s in slices}})
    return translate_service(name, cluster, options or Options())


def message(subject: Service, *slices: EndpointSlice) -> wire.Service:
    return Seen(translate(subject, *slices).items).service()


def balanced(*ingress: LoadBalancerIngress, **fields: Any) -> Service:
    return service(type="LoadBalancer", ingress=ingress or (LoadBalancerIngress(ip="192.0.2.1"),), **fields)


def test_a_plain_service() -> None:
    subject = service(
        "web", port(80, 8080, "http"), port(53, "dns", "dns", protocol="UDP"), labels={"app": "web"}
    )
    assert message(subject) == wire.Service(
        Namespace="default",
        Name="web",
        Type="ClusterIP",
        IPs=wire.ServiceIPs(
            ClusterIPs=wire.IPSet(V4=["10.96.0.1"]), ExternalIPs=wire.IPSet(), LoadBalancerIPs=wire.IPSet()
        ),
        Ports=[
            wire.PortMapping(Name="http", Protocol=wire.TCP, Port=80, TargetPort=8080),
            wire.PortMapping(Name="dns", Protocol=wire.UDP, Port=53, TargetPortName="dns"),
        ],
        Labels={"app": "web"},
    )


@pytest.mark.parametrize(
    "subject",
    [
        pytest.param(service(type="ExternalName", cluster_ips=()), id="ExternalName"),
        pytest.param(service(cluster_ips=("None",)), id="clusterIP None"),
        pytest.param(service(labels={"service.kubernetes.io/headless": ""}), id="headless label"),
        pytest.param(
            service(labels={"service.kubernetes.io/service-proxy-name": "other"}), id="service-proxy-name"
        ),
        pytest.param(
            service(labels={"service.kubernetes.io/service-proxy-name": ""}), id="empty service-proxy-name"
        ),
    ],
)
def test_services_that_are_not_ours_make_nothing(subject: Service) -> None:
    assert translate(subject, endpoint_slice(endpoint())) == Translation()


def test_a_service_proxy_name_that_is_ours() -> None:
    subject = service(labels={"service.kubernetes.io/service-proxy-name": "blixt"})
    assert len(translate(subject, options=Options(proxy_name="blixt")).items) == 1
    assert not translate(subject, options=Options(proxy_name="other")).items


def test_an_unlabelled_service_is_ours_whatever_our_name() -> None:
    assert translate(service(), options=Options(proxy_name="blixt")).items


def test_dual_stack_cluster_ips() -> None:
    ips = message(service(cluster_ips=("10.96.0.1", "FD00:0::1"))).IPs.ClusterIPs
    assert (list(ips.V4), list(ips.V6)) == (["10.96.0.1"], ["fd00::1"])


def test_external_ips() -> None:
    ips = message(service(external_ips=("198.51.100.1", "2001:db8::1"))).IPs.ExternalIPs
    assert (list(ips.V4), list(ips.V6)) == (["198.51.100.1"], ["2001:db8::1"])


def test_load_balancer_ips_without_those_of_ip_mode_proxy_and_without_host_names() -> None:
    subject = balanced(
        LoadBalancerIngress(ip="192.0.2.1"),
        LoadBalancerIngress(ip="192.0.2.2", ip_mode="Proxy"),
        LoadBalancerIngress(hostname="lb.example.org"),
        LoadBalancerIngress(ip="2001:db8::1", ip_mode="VIP"),
    )
    ips = message(subject).IPs.LoadBalancerIPs
    assert (list(ips.V4), list(ips.V6)) == (["192.0.2.1"], ["2001:db8::1"])


def test_a_service_that_is_no_load_balancer_any_more_has_no_load_balancer_ips() -> None:
    assert not message(service(ingress=(LoadBalancerIngress(ip="192.0.2.1"),))).IPs.LoadBalancerIPs.V4


def test_node_ports_and_their_absence_without_allocation() -> None:
    assert [p.NodePort for p in message(service("web", port(node_port=30080), type="NodePort")).Ports] == [
        30080
    ]
    unallocated = balanced(allocate_load_balancer_node_ports=False, health_check_node_port=32000)
    assert [p.NodePort for p in message(unallocated).Ports] == [0]
    assert message(unallocated).HealthCheckNodePort == 32000


def test_policies() -> None:
    seen = message(balanced(external_traffic_policy="Local"))
    assert (seen.ExternalTrafficToLocal, seen.InternalTrafficToLocal) == (True, False)
    seen = message(service(internal_traffic_policy="Local"))
    assert (seen.ExternalTrafficToLocal, seen.InternalTrafficToLocal) == (False, True)


def test_affinity() -> None:
    assert not message(service()).HasField("ClientIP")
    assert message(service(session_affinity="ClientIP")).ClientIP.TimeoutSeconds == 10800
    config = SessionAffinityConfig(client_ip=ClientIPConfig(timeout_seconds=30))
    subject = service(session_affinity="ClientIP", session_affinity_config=config)
    assert message(subject).ClientIP.TimeoutSeconds == 30


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("weighted-random", wire.WeightedRandom),
        ("maglev", wire.Maglev),
        ("least-connections", wire.LeastConnections),
    ],
)
def test_algorithm(value: str, expected: wire.Algorithm) -> None:
    assert message(service(annotations={"blixt.dev/algorithm": value})).Algorithm == expected


def test_an_unknown_algorithm_is_told_of_and_the_default_taken() -> None:
    translation = translate(service(annotations={"blixt.dev/algorithm": "best"}))
    assert Seen(translation.items).service().Algorithm == wire.WeightedRandom
    assert "'best'" in translation.problems[0]


class TestSourceRanges:
    INGRESS = (LoadBalancerIngress(ip="192.0.2.1"), LoadBalancerIngress(ip="2001:db8::1"))

    def filters(self, **fields: Any) -> list[tuple[list[str], list[str], list[str]]]:
        found = message(balanced(*self.INGRESS, external_ips=("198.51.100.9",), **fields)).IPFilters
        return [(list(f.TargetIPs.V4), list(f.TargetIPs.V6), list(f.SourceRanges)) for f in found]

    def test_none(self) -> None:
        assert self.filters() == []

    def test_guard_load_balancer_ips_only_and_families_are_kept_apart(self) -> None:
        ranges = (" 10.0.0.0/8 ", "2001:db8:1::/48", "172.16.1.1/12")
        assert self.filters(load_balancer_source_ranges=ranges) == [
            (["192.0.2.1"], [], ["10.0.0.0/8", "172.16.0.0/12"]),
            ([], ["2001:db8::1"], ["2001:db8:1::/48"]),
        ]

    def test_a_family_without_ranges_stays_open(self) -> None:
        assert self.filters(load_balancer_source_ranges=("10.0.0.0/8",)) == [
            (["192.0.2.1"], [], ["10.0.0.0/8"])
        ]

    def test_the_annotation_counts_where_the_spec_has_none(self) -> None:
        annotations = {SOURCE_RANGES_ANNOTATION: "10.0.0.0/8, 192.168.0.0/16"}
        assert self.filters(annotations=annotations) == [
            (["192.0.2.1"], [], ["10.0.0.0/8", "192.168.0.0/16"])
        ]
        assert self.filters(annotations=annotations, load_balancer_source_ranges=("11.0.0.0/8",)) == [
            (["192.0.2.1"], [], ["11.0.0.0/8"])
        ]

    def test_only_unreadable_ranges_let_nobody_in(self) -> None:
        assert self.filters(load_balancer_source_ranges=("office",)) == [(["192.0.2.1"], ["2001:db8::1"], [])]

    def test_an_unreadable_one_among_others_is_left_out_and_told_of(self) -> None:
        translation = translate(balanced(load_balancer_source_ranges=("office", "10.0.0.0/8")))
        assert [list(f.SourceRanges) for f in Seen(translation.items).service().IPFilters] == [["10.0.0.0/8"]]
        assert "'office'" in translation.problems[0]


def test_bad_addresses_are_left_out_and_told_of() -> None:
    translation = translate(service(cluster_ips=("10.96.0.1", "10.96.0.999"), external_ips=("nowhere",)))
    assert list(Seen(translation.items).service().IPs.ClusterIPs.V4) == ["10.96.0.1"]
    assert len(translation.problems) == 2


def test_an_unknown_protocol_costs_only_its_port() -> None:
    translation = translate(service("web", port(name="a"), port(name="b", protocol="QUIC")))
    assert [p.Name for p in Seen(translation.items).service().Ports] == ["a"]
    assert "QUIC" in translation.problems[0]


def test_sctp_is_the_third_protocol() -> None:
    slices = endpoint_slice(endpoint(), ports=(EndpointPort(name="s", port=9, protocol="SCTP"),))
    seen = Seen(translate(service("web", port(9, 9, "s", protocol="SCTP")), slices).items)
    assert seen.service().Ports[0].Protocol == wire.SCTP
    assert len(seen.endpoints) == 1


def test_a_service_that_nothing_leads_to_is_told_of() -> None:
    translation = translate(service(cluster_ips=()), endpoint_slice(endpoint()))
    assert translation.items == ()
    assert "no address" in translation.problems[0]


def test_kubectls_copy_of_the_object_is_not_carried() -> None:
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "team": "a"}
    assert message(service(annotations=annotations)).Annotations == {"team": "a"}


def test_equal_services_have_equal_bytes() -> None:
    one = {f"key{i}": "x" for i in range(20)}
    other = dict(reversed(one.items()))
    assert translate(service(labels=one)).items == translate(service(labels=other)).items


class TestPorts:
    """Which number an endpoint has for a port: KPNG's rule, read as its Go client does."""

    @staticmethod
    def number(seen: Seen, index: int = 0) -> int | None:
        mapping = seen.service().Ports[index]
        (endpoint,) = seen.endpoints.values()
        if name := mapping.Name or mapping.TargetPortName:
            return next((o.Port for o in endpoint.PortOverrides if o.Name == name), None)
        return mapping.TargetPort

    @pytest.mark.parametrize(
        ("service_port", "slice_port", "number"),
        [
            pytest.param(port(80, 8080), EndpointPort(port=8080), 8080, id="nameless, as the service says"),
            pytest.param(port(80, 8080), EndpointPort(port=9000), 9000, id="nameless, another number"),
            pytest.param(port(80, "web"), EndpointPort(port=9000), 9000, id="nameless, named target"),
            pytest.param(port(80, 8080, "http"), EndpointPort(name="http", port=8080), 8080, id="named"),
            pytest.param(
                port(80, 8080, "http"), EndpointPort(name="http", port=9000), 9000, id="another number"
            ),
            pytest.param(
                port(80, "web", "http"), EndpointPort(name="http", port=9000), 9000, id="named target"
            ),
        ],
    )
    def test_number(self, service_port: ServicePort, slice_port: EndpointPort, number: int) -> None:
        seen = Seen(
            translate(service("web", service_port), endpoint_slice(endpoint(), ports=(slice_port,))).items
        )
        assert self.number(seen) == number

    def test_an_endpoint_that_lacks_a_port(self) -> None:
        subject = service("web", port(80, 8080, "http"), port(81, 8081, "metrics"))
        slices = endpoint_slice(endpoint(), ports=(EndpointPort(name="http", port=8080),))
        seen = Seen(translate(subject, slices).items)
        assert (self.number(seen, 0), self.number(seen, 1)) == (8080, None)

    def test_pods_may_differ_in_what_a_named_target_is(self) -> None:
        seen = Seen(
            translate(
                service("web", port(80, "web", "http")),
                endpoint_slice(
                    endpoint("10.0.0.1", "a"), name="1", ports=(EndpointPort(name="http", port=81),)
                ),
                endpoint_slice(
                    endpoint("10.0.0.2", "b"), name="2", ports=(EndpointPort(name="http", port=82),)
                ),
            ).items
        )
        numbers = {path: [o.Port for o in m.PortOverrides] for path, m in seen.endpoints.items()}
        assert numbers == {"default/web/a": [81], "default/web/b": [82]}

    @pytest.mark.parametrize(
        "ports",
        [
            pytest.param((), id="no ports"),
            pytest.param((EndpointPort(),), id="no number"),
            pytest.param((EndpointPort(name="other", port=1),), id="another name"),
            pytest.param((EndpointPort(port=8080, protocol="UDP"),), id="another protocol"),
        ],
    )
    def test_slices_without_the_port_have_no_endpoints(self, ports: tuple[EndpointPort, ...]) -> None:
        assert not Seen(translate(service(), endpoint_slice(endpoint(), ports=ports)).items).endpoints
