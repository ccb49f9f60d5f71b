"""The wire's bytes, written down by hand from protobuf's encoding and the models' field numbers."""

import pytest
from google.protobuf.message import Message

from blixt_api import blixtv1_pb2 as blixt
from blixt_api import localv1_pb2 as local


def words(text: str) -> bytes:
    """Bytes from a line for each field: hex, and strings in quotes for themselves."""
    out = b""
    for word in text.split():
        out += word[1:-1].encode() if word.startswith("'") else bytes.fromhex(word)
    return out


GOLDEN: list[tuple[Message, str]] = [
    (local.WatchReq(NodeName="n1"), "0a 02 'n1'"),
    (local.EmptyOp(), ""),
    (local.OpItem(Sync=local.EmptyOp()), "0a 00"),
    (local.OpItem(Reset=local.EmptyOp()), "22 00"),
    (local.Ref(Set=local.ServicesSet, Path="a/b"), "08 01  12 03 'a/b'"),
    (local.Ref(Set=local.EndpointsSet, Path="a/b/c"), "08 02  12 05 'a/b/c'"),
    (local.Ref(Set=local.GlobalServiceInfos), "08 0a"),
    (local.Ref(Set=local.GlobalEndpointInfos), "08 0b"),
    (local.Ref(Set=local.GlobalNodeInfos), "08 0c"),
    (
        local.Value(Ref=local.Ref(Set=local.ServicesSet, Path="a/b"), Bytes=b"\xff"),
        "0a 07 08 01 12 03 'a/b'  12 01 ff",
    ),
    (
        local.OpItem(Set=local.Value(Ref=local.Ref(Set=local.ServicesSet, Path="a/b"), Bytes=b"\xff")),
        "12 0c  0a 07 08 01 12 03 'a/b'  12 01 ff",
    ),
    (
        local.OpItem(Delete=local.Ref(Set=local.EndpointsSet, Path="a/b/c")),
        "1a 09  08 02 12 05 'a/b/c'",
    ),
    (local.IPSet(V4=["1.2.3.4", "1"], V6=["::1"]), "0a 07 '1.2.3.4'  0a 01 '1'  12 03 '::1'"),
    (local.ClientIPAffinity(TimeoutSeconds=10800), "08 b0 54"),
    (
        local.ServiceIPs(
            ClusterIPs=local.IPSet(V4=["1"]),
            ExternalIPs=local.IPSet(V4=["2"]),
            Headless=True,
            LoadBalancerIPs=local.IPSet(V6=["3"]),
        ),
        "0a 03 0a 01 '1'  12 03 0a 01 '2'  18 01  22 03 12 01 '3'",
    ),
    (
        local.IPFilter(TargetIPs=local.IPSet(V4=["1"]), SourceRanges=["0/0", "::/0"]),
        "0a 03 0a 01 '1'  12 03 '0/0'  12 04 '::/0'",
    ),
    (
        local.PortMapping(
            Name="web", Protocol=local.TCP, Port=80, NodePort=30000, TargetPort=8080, TargetPortName="http"
        ),
        "0a 03 'web'  10 01  18 50  20 b0 ea 01  28 90 3f  32 04 'http'",
    ),
    (local.PortMapping(Protocol=local.UDP), "10 02"),
    (local.PortMapping(Protocol=local.SCTP), "10 03"),
    (local.PortName(Name="http", Port=8080), "0a 04 'http'  10 90 3f"),
    (local.EndpointScopes(Internal=True, External=True), "08 01  10 01"),
    (local.EndpointScopes(Cluster=True), "a0 06 01"),
    (
        local.Service(
            Namespace="ns",
            Name="svc",
            Type="ClusterIP",
            IPs=local.ServiceIPs(Headless=True),
            MapIP=True,
            Ports=[local.PortMapping(Port=1), local.PortMapping(Port=2)],
            ExternalTrafficToLocal=True,
            Labels={"l": "v"},
            Annotations={"a": "w"},
            IPFilters=[local.IPFilter(SourceRanges=["0/0"])],
            ClientIP=local.ClientIPAffinity(TimeoutSeconds=5),
            InternalTrafficToLocal=True,
            HealthCheckNodePort=30001,
        ),
        """0a 02 'ns'  12 03 'svc'  1a 09 'ClusterIP'  22 02 18 01  28 01
           32 02 18 01  32 02 18 02  38 01
           42 06 0a 01 'l' 12 01 'v'  4a 06 0a 01 'a' 12 01 'w'
           52 05 12 03 '0/0'  5a 02 08 05  60 01  68 b1 ea 01""",
    ),
    (
        local.Service(Origin=local.GatewayListener, Algorithm=local.LeastConnections),
        "a0 06 01  a8 06 02",
    ),
    (local.Service(Algorithm=local.Maglev), "a8 06 01"),
    (local.Service(Announce=True), "b0 06 01"),
    (
        local.Endpoint(
            Hostname="h",
            IPs=local.IPSet(V4=["1"]),
            Local=True,
            PortOverrides=[local.PortName(Name="p", Port=1)],
            Scopes=local.EndpointScopes(Internal=True),
        ),
        "0a 01 'h'  12 03 0a 01 '1'  18 01  22 05 0a 01 'p' 10 01  2a 02 08 01",
    ),
    (
        local.Endpoint(
            Group=3,
            Weight=0,
            Reject=True,
            Terminating=True,
            NotServing=True,
            Node="n",
            Zone="z",
            TriggerTime=300,
        ),
        "a0 06 03  a8 06 00  b0 06 01  b8 06 01  c0 06 01  ca 06 01 'n'  d2 06 01 'z'  d8 06 ac 02",
    ),
    (local.Node(Leaving=True), "a0 06 01"),
    (blixt.WatchRequest(node_name="n1", applied_revision=300), "0a 02 'n1'  10 ac 02"),
    (
        blixt.Batch(
            items=[local.OpItem(Reset=local.EmptyOp()), local.OpItem(Sync=local.EmptyOp())], revision=300
        ),
        "0a 02 22 00  0a 02 0a 00  10 ac 02",
    ),
]


@pytest.mark.parametrize(("message", "expected"), GOLDEN, ids=lambda v: v if isinstance(v, str) else None)
def test_bytes(message: Message, expected: str) -> None:
    assert message.SerializeToString(deterministic=True).hex(" ") == words(expected).hex(" ")
    assert type(message).FromString(words(expected)) == message


def test_every_message_and_field_has_bytes() -> None:
    written = {
        (message.DESCRIPTOR.full_name, field.name)
        for message, _ in GOLDEN
        for field, _ in message.ListFields()
    }
    defined = {
        (message.full_name, field.name)
        for module in (local, blixt)
        for message in module.DESCRIPTOR.message_types_by_name.values()
        for field in message.fields
    }
    assert written == defined
