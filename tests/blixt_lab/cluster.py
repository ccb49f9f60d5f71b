"""A cluster's network: clients, nodes and pods around one fabric, as host-routed CNIs lay it out.

    client1 ─┐            ┌─ eth0 node1 veth1 ── eth0 pod-1-1
    control ─┴─  fabric  ─┤             veth2 ── eth0 pod-1-2
             (a bridge)   └─ eth0 node2 veth1 ── eth0 pod-2-1 ...

Every pod has a /32 and a /128 and reaches the world by a gateway address that its node answers for
(IPv4: by proxy ARP; IPv6: the veth's link-local address): a node's end of a veth has no address of its own.
Nodes route to each other's pods.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import Enum

from blixt_lab.host import Host
from blixt_lab.lab import Lab, open_lab

#: Where clients send what is meant for services: load balancer addresses and cluster IPs.
SERVICE_NETWORKS = ("192.0.2.0/24", "10.96.0.0/12", "2001:db8:100::/64", "fd00:10:96::/112", "198.18.0.0/15")

_CONTROL4, _CONTROL6 = "172.18.0.1", "fd00:172:18::1"
_GATEWAY4 = "169.254.1.1"
#: All nodes' ends of pods' veths have one address, so a pod's gateway is the same everywhere.
_GATEWAY_MAC, _GATEWAY6 = "ee:ee:ee:ee:ee:ee", "fe80::ecee:eeff:feee:eeee"


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a cluster is, and how its network behaves.

    `permanent_neighbours` leaves nothing to ARP and neighbour discovery; `timestamps` is the sysctl
    tcp_timestamps (2: without random offsets, so that a benchmark's SYNs don't stall on TIME_WAIT). With
    `cgroups`, each node has one, for itself and its pods.
    """

    nodes: int = 2
    pods: int = 2
    clients: int = 1
    permanent_neighbours: bool = False
    timestamps: int = 1
    cgroups: bool = False


class Checksums(Enum):
    """Who computes TCP's and UDP's checksums. A dataplane must be right with each."""

    #: Nobody: veth leaves them partial all the way, and wrong ones can go unseen.
    PARTIAL = "partial"
    #: The nodes' devices as they send, from what the sender left partial: what a real NIC makes of a node.
    FINALISED = "finalised"
    #: The senders: packets come to the nodes complete, as from a real wire.
    FULL = "full"


class Cluster:
    """A lab with `nodes`, their `pods`, `clients`, and `control`, the control plane's host."""

    def __init__(self, lab: Lab, shape: Shape) -> None:
        self.lab = lab
        self.shape = shape
        self.fabric = Host("fabric", lab.namespace("fabric"))
        self.control = _on_fabric(lab, "control", 1)
        self.clients = [_on_fabric(lab, f"client{n}", 100 + n) for n in range(1, shape.clients + 1)]
        uplinks = ("eth0", *(f"veth{p}" for p in range(1, shape.pods + 1)))
        numbers = range(1, shape.nodes + 1)
        groups = {n: lab.entry.add_cgroup(f"node{n}") if shape.cgroups else None for n in numbers}
        self.nodes = [
            replace(_on_fabric(lab, f"node{n}", 10 + n), devices=uplinks, cgroup=groups[n]) for n in numbers
        ]
        self.pods = [
            replace(_pod(lab, n, p), cgroup=groups[n]) for n in numbers for p in range(1, shape.pods + 1)
        ]

    @property
    def client(self) -> Host:
        return self.clients[0]

    @property
    def hosts(self) -> list[Host]:
        return [self.fabric, self.control, *self.clients, *self.nodes, *self.pods]

    def __getitem__(self, name: str) -> Host:
        return self.lab[name]

    def pods_of(self, node: Host) -> list[Host]:
        first = self.nodes.index(node) * self.shape.pods
        return self.pods[first : first + self.shape.pods]

    def node_of(self, pod: Host) -> Host:
        return self.nodes[self.pods.index(pod) // self.shape.pods]

    def pod_by_address(self, address: str) -> Host:
        """The pod of an IPv4 or IPv6 address. Raises KeyError."""
        for pod in self.pods:
            if address in (pod.address4, pod.address6):
                return pod
        raise KeyError(address)

    def route_services(self, *nodes: Host, of: Iterable[Host] = ()) -> None:
        """Let clients (all, or `of`) send services' packets to one node, or by equal cost to several."""
        via4 = " ".join(f"nexthop via {node.address4}" for node in nodes)
        via6 = " ".join(f"nexthop via {node.address6}" for node in nodes)
        lines = [f"route replace {net} {via6 if ':' in net else via4}" for net in SERVICE_NETWORKS]
        for client in of or self.clients:
            client.ip(*lines)

    def set_checksums(self, checksums: Checksums) -> None:
        """Choose where packets get their transport checksums."""
        dataplane = [(node, device) for node in self.nodes for device in node.devices]
        others = [(host, "eth0") for host in (self.control, *self.clients, *self.pods)]
        finishing = {
            Checksums.PARTIAL: [],
            Checksums.FINALISED: dataplane,
            Checksums.FULL: dataplane + others,
        }[checksums]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda at: at[0].offload_checksums(at[1], at not in finishing), dataplane + others))

    def checksum_errors(self) -> dict[str, int]:
        """Hosts that dropped packets for a wrong checksum, and how many."""
        counts = {host.name: host.checksum_errors() for host in (*self.clients, *self.nodes, *self.pods)}
        return {name: count for name, count in counts.items() if count}

    def unplug(self, pod: Host) -> None:
        """Take a pod's veth away, as its node does when the pod ends."""
        self.node_of(pod).ip(f"link del {_veth(pod)}")

    def plug(self, pod: Host) -> None:
        """Give a pod its veth, addresses and routes."""
        node = self.node_of(pod)
        node.ip(*_veth_lines(pod, self.shape))
        node.sysctl(_veth_settings(pod))
        pod.ip(*_pod_lines(pod))


@contextlib.contextmanager
def cluster(
    nodes: int = 2,
    pods: int = 2,
    clients: int = 1,
    *,
    permanent_neighbours: bool = False,
    timestamps: int = 1,
    cgroups: bool = False,
) -> Iterator[Cluster]:
    """A cluster's network, ready for packets; clients send services' packets to node1. Gone at the end."""
    shape = Shape(nodes, pods, clients, permanent_neighbours, timestamps, cgroups)
    with open_lab() as lab:
        built = Cluster(lab, shape)
        _build(built)
        yield built


def _on_fabric(lab: Lab, name: str, number: int) -> Host:
    return Host(
        name,
        lab.namespace(name),
        f"172.18.0.{number}",
        f"fd00:172:18::{number}",
        f"02:00:ac:12:00:{number:02x}",
    )


def _pod(lab: Lab, node: int, pod: int) -> Host:
    name = f"pod-{node}-{pod}"
    number = 10 + pod
    return Host(
        name,
        lab.namespace(name),
        f"10.244.{node}.{number}",
        f"fd00:10:244:{node}::{number}",
        f"02:00:0a:f4:{node:02x}:{number:02x}",
    )


def _build(built: Cluster) -> None:
    lab, shape = built.lab, built.shape
    forwarding: dict[str, str | int] = {
        "ipv4/ip_forward": 1,
        "ipv6/conf/all/forwarding": 1,
        "ipv6/conf/default/forwarding": 1,
    }
    stamps: dict[str, str | int] = {"ipv4/tcp_timestamps": shape.timestamps}
    lab.add(built.fabric, built.control, *built.clients, *built.pods, settings=stamps)
    lab.add(*built.nodes, settings=stamps | forwarding)
    attached = [built.control, *built.clients, *built.nodes]
    built.fabric.ip("link add br0 type bridge forward_delay 0 mcast_snooping 0", "link set br0 up")
    built.fabric.ip(*(line for host in attached for line in _port_lines(host)))

    def configure(host: Host) -> None:
        if host in built.nodes:
            host.ip(*_node_lines(built, host))
            pods = built.pods_of(host)
            host.sysctl({name: value for pod in pods for name, value in _veth_settings(pod).items()})
            for pod in pods:
                pod.ip(*_pod_lines(pod))
        else:
            host.ip(*_edge_lines(built, host))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(configure, attached))
    built.route_services(built.nodes[0])
    built.route_services(built.nodes[0], of=[built.control])
    _await_links(built)


def _port_lines(host: Host) -> list[str]:
    port = f"to-{host.name}"
    return [
        f"link add {port} type veth peer name eth0 address {host.mac} netns {host.namespace}",
        f"link set {port} master br0 up",
    ]


def _edge_lines(built: Cluster, host: Host) -> list[str]:
    """A client, or the control host: with routes to pods, to compare with plain routing."""
    return _fabric_lines(built, host) + [
        line for node in built.nodes for line in _routes_to_pods(built, node)
    ]


def _node_lines(built: Cluster, node: Host) -> list[str]:
    lines = _fabric_lines(built, node)
    lines += [f"route add default via {_CONTROL4}", f"route add default via {_CONTROL6}"]
    for other in built.nodes:
        if other is not node:
            lines += _routes_to_pods(built, other)
    for pod in built.pods_of(node):
        lines += _veth_lines(pod, built.shape)
    return lines


def _fabric_lines(built: Cluster, host: Host) -> list[str]:
    lines = [
        f"addr add {host.address4}/24 dev eth0",
        f"addr add {host.address6}/64 dev eth0",
        "link set eth0 up",
    ]
    if built.shape.permanent_neighbours:
        for other in (built.control, *built.clients, *built.nodes):
            if other is not host:
                lines += [
                    f"neigh add {address} lladdr {other.mac} dev eth0 nud permanent"
                    for address in (other.address4, other.address6)
                ]
    return lines


def _routes_to_pods(built: Cluster, node: Host) -> list[str]:
    number = built.nodes.index(node) + 1
    return [
        f"route add 10.244.{number}.0/24 via {node.address4}",
        f"route add fd00:10:244:{number}::/64 via {node.address6}",
    ]


def _veth(pod: Host) -> str:
    return f"veth{pod.name.rpartition('-')[2]}"


def _veth_settings(pod: Host) -> dict[str, str | int]:
    veth = _veth(pod)
    return {f"ipv4/conf/{veth}/proxy_arp": 1, f"ipv4/neigh/{veth}/proxy_delay": 0}


def _veth_lines(pod: Host, shape: Shape) -> list[str]:
    veth = _veth(pod)
    lines = [
        f"link add {veth} address {_GATEWAY_MAC} type veth"
        f" peer name eth0 address {pod.mac} netns {pod.namespace}",
        f"link set {veth} up",
        f"route add {pod.address4}/32 dev {veth}",
        f"route add {pod.address6}/128 dev {veth}",
    ]
    if shape.permanent_neighbours:
        lines += [
            f"neigh add {address} lladdr {pod.mac} dev {veth} nud permanent"
            for address in (pod.address4, pod.address6)
        ]
    return lines


def _pod_lines(pod: Host) -> list[str]:
    return [
        f"addr add {pod.address4}/32 dev eth0",
        f"addr add {pod.address6}/128 dev eth0",
        "link set eth0 up",
        f"neigh add {_GATEWAY4} lladdr {_GATEWAY_MAC} dev eth0 nud permanent",
        f"route add {_GATEWAY4} dev eth0 scope link",
        f"route add default via {_GATEWAY4} dev eth0",
        f"route add default via {_GATEWAY6} dev eth0",
    ]


def _await_links(built: Cluster) -> None:
    """Wait until bridge ports forward: they do so a moment after their peers came up."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        shown = built.fabric.run("bridge", "link", "show").stdout
        if shown.count("state forwarding") == shown.count("master br0") > 0:
            return
        time.sleep(0.01)
    raise RuntimeError("the fabric's bridge ports did not come up")
