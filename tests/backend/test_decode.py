"""decode: protobuf to the model, item by item."""

from __future__ import annotations

import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt_api import localv1_pb2 as pb
from blixt_backend import decode, model
from blixt_backend.decode import DecodeError, Dialect
from blixt_backend.model import PackedAddress, PortMapping, Protocol, Scope


def packed(text: str) -> PackedAddress:
    return PackedAddress(ipaddress.ip_address(text).packed)


def test_a_services_cluster_ips() -> None:
    ips = pb.ServiceIPs(ClusterIPs=pb.IPSet(V4=["192.0.2.1"], V6=["2001:db8::1"]))
    message = pb.Service(Namespace="shop", Name="web", IPs=ips)
    decoded = decode.service("shop/web", message.SerializeToString())
    assert decoded.cluster_ips == (packed("192.0.2.1"), packed("2001:db8::1"))


def test_a_service_with_everything() -> None:
    message = pb.Service(
        Namespace="shop",
        Name="gw.web",
        Type="LoadBalancer",
        IPs=pb.ServiceIPs(
            ClusterIPs=pb.IPSet(V4=["192.0.2.1"], V6=["2001:db8::1"]),
            ExternalIPs=pb.IPSet(V4=["192.0.2.2"]),
            LoadBalancerIPs=pb.IPSet(V6=["2001:db8::3"]),
        ),
        Ports=[
            pb.PortMapping(Name="http", Protocol=pb.TCP, Port=80, NodePort=30080, TargetPortName="web"),
            pb.PortMapping(Name="dns", Protocol=pb.UDP, Port=53, TargetPort=5353),
            pb.PortMapping(Name="sig", Protocol=pb.SCTP, Port=2905, TargetPort=2905),
        ],
        ExternalTrafficToLocal=True,
        InternalTrafficToLocal=True,
        IPFilters=[
            pb.IPFilter(
                TargetIPs=pb.IPSet(V6=["2001:db8::3"]), SourceRanges=[" 10.0.0.0/8 ", "2001:db8:9::/48"]
            )
        ],
        ClientIP=pb.ClientIPAffinity(TimeoutSeconds=60),
        HealthCheckNodePort=31000,
        Labels={"app": "web"},
        Annotations={"note": "x"},
        Origin=pb.GatewayListener,
        Algorithm=pb.Maglev,
        Announce=True,
    )
    assert decode.service("shop/gw.web", message.SerializeToString()) == model.Service(
        namespace="shop",
        name="gw.web",
        type="LoadBalancer",
        origin=model.Origin.GATEWAY_LISTENER,
        algorithm=model.Algorithm.MAGLEV,
        cluster_ips=(),  # only placeholders, of a listener
        external_ips=(packed("192.0.2.2"),),
        load_balancer_ips=(packed("2001:db8::3"),),
        ports=(
            PortMapping("http", Protocol.TCP, 80, 30080, 0, "web"),
            PortMapping("dns", Protocol.UDP, 53, 0, 5353),
            PortMapping("sig", Protocol.SCTP, 2905, 0, 2905),
        ),
        external_traffic_local=True,
        internal_traffic_local=True,
        source_filters=(
            model.SourceFilter(
                (packed("2001:db8::3"),), ((packed("10.0.0.0"), 8), (packed("2001:db8:9::"), 48))
            ),
        ),
        affinity_seconds=60,
        health_check_node_port=31000,
        announce=True,
        labels={"app": "web"},
        annotations={"note": "x"},
    )


def test_an_affinity_without_a_timeout_has_kubernetes_default() -> None:
    message = pb.Service(Namespace="a", Name="b", ClientIP=pb.ClientIPAffinity())
    assert decode.service("a/b", message.SerializeToString()).affinity_seconds == 10800


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (pb.Service(Namespace="a", Name="other"), "calls itself a/other"),
        (
            pb.Service(Namespace="a", Name="b", IPs=pb.ServiceIPs(ClusterIPs=pb.IPSet(V4=["192.0.2"]))),
            "'192.0.2' is no IPv4",
        ),
        (
            pb.Service(Namespace="a", Name="b", IPs=pb.ServiceIPs(ClusterIPs=pb.IPSet(V4=["::1"]))),
            "'::1' is no IPv4",
        ),
        (
            pb.Service(Namespace="a", Name="b", IPs=pb.ServiceIPs(ExternalIPs=pb.IPSet(V6=["1.2.3.4"]))),
            "'1.2.3.4' is no IPv6",
        ),
        (pb.Service(Namespace="a", Name="b", Ports=[pb.PortMapping(Protocol=pb.TCP)]), "port 0 is 0: not in"),
        (
            pb.Service(Namespace="a", Name="b", Ports=[pb.PortMapping(Protocol=pb.TCP, Port=65536)]),
            "not in 1..65535",
        ),
        (
            pb.Service(Namespace="a", Name="b", Ports=[pb.PortMapping(Name="x", Port=1)]),
            "protocol of port x 0 is unknown",
        ),
        (
            pb.Service(Namespace="a", Name="b", IPFilters=[pb.IPFilter(SourceRanges=["10.0.0.0/33"])]),
            "'10.0.0.0/33' is no CIDR",
        ),
    ],
)
def test_a_service_that_cannot_be_meant(message: pb.Service, says: str) -> None:
    with pytest.raises(DecodeError, match=says):
        decode.service("a/b", message.SerializeToString())


def test_an_algorithm_from_the_future_is_named() -> None:
    encoded = pb.Service(Namespace="a", Name="b").SerializeToString() + b"\xa8\x06\x07"
    with pytest.raises(DecodeError, match="algorithm 7 is unknown"):
        decode.service("a/b", encoded)


def test_an_endpoint_with_everything() -> None:
    message = pb.Endpoint(
        Hostname="db-0",
        IPs=pb.IPSet(V4=["198.51.100.1"], V6=["2001:db8:1::1"]),
        Local=True,
        PortOverrides=[pb.PortName(Name="http", Port=8080)],
        Scopes=pb.EndpointScopes(External=True),
        Group=2,
        Weight=0,
        Terminating=True,
        NotServing=True,
        Node="n1",
        Zone="z1",
        TriggerTime=17,
    )
    assert decode.endpoint("pod", message.SerializeToString(), Dialect.BLIXT) == model.Endpoint(
        key="pod",
        addresses=(packed("198.51.100.1"), packed("2001:db8:1::1")),
        hostname="db-0",
        local=True,
        port_overrides=(("http", 8080),),
        scopes=Scope.EXTERNAL,
        group=2,
        weight=0,
        serving=False,
        terminating=True,
        node="n1",
        zone="z1",
        trigger_time_ns=17,
    )


def test_a_reject_share() -> None:
    encoded = pb.Endpoint(Reject=True, Weight=3).SerializeToString()
    decoded = decode.endpoint("reject", encoded, Dialect.BLIXT)
    assert (decoded.addresses, decoded.reject, decoded.weight) == ((), True, 3)


def test_an_unset_weight_is_one() -> None:
    assert decode.endpoint("pod", b"", Dialect.LOCALV1).weight == 1


@pytest.mark.parametrize(
    ("scopes", "blixt", "localv1"),
    [
        (None, decode.EVERY_SCOPE, decode.EVERY_SCOPE),
        ((False, False, False), Scope.NONE, Scope.NONE),
        ((True, False, False), Scope.INTERNAL, Scope.INTERNAL | Scope.CLUSTER),
        ((False, True, False), Scope.EXTERNAL, Scope.EXTERNAL | Scope.CLUSTER),
        ((True, True, False), Scope.INTERNAL | Scope.EXTERNAL, decode.EVERY_SCOPE),
        ((False, False, True), Scope.CLUSTER, Scope.CLUSTER),
        ((True, True, True), decode.EVERY_SCOPE, decode.EVERY_SCOPE),
    ],
)
def test_scopes_by_dialect(scopes: tuple[bool, bool, bool] | None, blixt: Scope, localv1: Scope) -> None:
    message = pb.Endpoint()
    if scopes is not None:
        message.Scopes.SetInParent()
        message.Scopes.Internal, message.Scopes.External, message.Scopes.Cluster = scopes
    encoded = message.SerializeToString()
    assert decode.endpoint("pod", encoded, Dialect.BLIXT).scopes == blixt
    assert decode.endpoint("pod", encoded, Dialect.LOCALV1).scopes == localv1


@pytest.mark.parametrize("path", ["", "a", "a/", "/b", "a/b/c", "//"])
def test_bad_service_paths(path: str) -> None:
    with pytest.raises(DecodeError, match="namespace/name"):
        decode.service_path(path)


@pytest.mark.parametrize("path", ["", "a/b", "a/b/", "/b/c", "a//c", "a/b/c/d", "//c"])
def test_bad_endpoint_paths(path: str) -> None:
    with pytest.raises(DecodeError, match="namespace/name/key"):
        decode.endpoint_path(path)


def test_good_paths() -> None:
    assert decode.service_path("a/b") == "a/b"
    assert decode.endpoint_path("a/b/c") == ("a/b", "c")


@given(st.binary(max_size=200), st.sampled_from(Dialect))
def test_any_bytes_decode_or_raise_decode_error(encoded: bytes, dialect: Dialect) -> None:
    with contextlib.suppress(DecodeError):
        assert decode.endpoint("pod", encoded, dialect).key == "pod"
    with contextlib.suppress(DecodeError):
        assert decode.service("a/b", encoded).path == "a/b"
