"""Items as they come over the wire, put together with protobuf's own classes."""

from __future__ import annotations

from blixt_api import localv1_pb2 as pb

Key = tuple[int, str]


def service(path: str, ip: str = "192.0.2.1", port: int = 80) -> tuple[Key, bytes]:
    """A ClusterIP service with one TCP port: what a store would hold under its key."""
    namespace, name = path.split("/")
    message = pb.Service(
        Namespace=namespace,
        Name=name,
        Type="ClusterIP",
        IPs=pb.ServiceIPs(ClusterIPs=pb.IPSet(V4=[ip])),
        Ports=[pb.PortMapping(Protocol=pb.TCP, Port=port, TargetPort=8080)],
    )
    return (pb.ServicesSet, path), message.SerializeToString()


def endpoint(path: str, ip: str = "198.51.100.1", **fields: int | bool | str) -> tuple[Key, bytes]:
    """An endpoint that takes all new connections."""
    message = pb.Endpoint(
        IPs=pb.IPSet(V4=[ip]), Scopes=pb.EndpointScopes(Internal=True, External=True, Cluster=True)
    )
    for field, value in fields.items():
        setattr(message, field, value)
    return (pb.EndpointsSet, path), message.SerializeToString()


def set_op(key: Key, encoded: bytes) -> pb.OpItem:
    number, path = key
    return pb.OpItem(Set=pb.Value(Ref=pb.Ref(Set=pb.Set.Name(number), Path=path), Bytes=encoded))


def delete_op(key: Key) -> pb.OpItem:
    number, path = key
    return pb.OpItem(Delete=pb.Ref(Set=pb.Set.Name(number), Path=path))


SYNC = pb.OpItem(Sync=pb.EmptyOp())
RESET = pb.OpItem(Reset=pb.EmptyOp())
