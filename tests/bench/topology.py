"""The network that packets are timed in: client - node - pods, joined by veths, all neighbours permanent.

No bridge and no address resolution: what is measured is the node's path and two hosts' stacks. Each
candidate has one of its own, all up at once, and so all have the same addresses.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blixt_lab import Host, Lab

UPLINK = "eth0"
POD_DEVICES = "pod*"
_SETTINGS: dict[str, str | int] = {
    # Without random offsets a SYN to a port in TIME_WAIT is accepted at once, not after a second.
    "ipv4/tcp_timestamps": 2,
    "ipv4/ip_local_port_range": "10240 65000",
}


@dataclass(frozen=True, slots=True)
class Topology:
    """One client, one node, its pods: `pods` are endpoints, `neighbour` is one more, which isn't."""

    name: str
    client: Host
    node: Host
    pods: tuple[Host, ...]
    neighbour: Host

    def pod_addresses(self, family: int) -> list[str]:
        return [pod.address4 if family == 4 else pod.address6 for pod in self.pods]

    def leave_no_checksum(self) -> None:
        """Senders sum their packets up, as what comes in by a NIC is, and receivers take what XDP redirects.

        XDP can't tell a whole checksum from one that was left to the device, and a veth takes redirected
        frames only while its peer has GRO.
        """
        for host in (self.client, *self.pods):
            host.offload_checksums("eth0", False)
            host.run("ethtool", "-K", "eth0", "gro", "on")


def build(lab: Lab, name: str, pods: int, cgroup: Path | None = None) -> Topology:
    """Make the hosts, with their programs in that cgroup if given, and wire them."""

    def host(role: str, address4: str, address6: str, mac: int) -> Host:
        full, written = f"{name}-{role}", f"02:00:00:00:00:{mac:02x}"
        return Host(full, lab.namespace(full), address4, address6, written, cgroup=cgroup)

    client = host("client", "172.18.0.2", "fd00:172:18::2", 2)
    node = host("node", "172.18.0.1", "fd00:172:18::1", 1)
    listed = tuple(
        host(f"pod{n}", f"10.244.1.{10 + n}", f"fd00:10:244:1::{n}", 16 + n) for n in range(1, pods + 2)
    )
    forwarding: dict[str, str | int] = {"ipv4/ip_forward": 1, "ipv6/conf/all/forwarding": 1}
    lab.add(client, *listed, settings=_SETTINGS)
    lab.add(node, settings=_SETTINGS | forwarding)
    _wire(node, UPLINK, client)
    for number, pod in enumerate(listed, 1):
        _wire(node, f"pod{number}", pod)
    for sender in (client, *listed):
        # Many datagrams may be handed over at once; they must be packets before the node sees them.
        sender.run("ethtool", "-K", "eth0", "tx-udp-segmentation", "off")
    # What isn't a pod's goes out: the node's own connections to a service must have a way.
    node.ip(
        f"route add default via {client.address4} dev {UPLINK} onlink",
        f"route add default via {client.address6} dev {UPLINK} onlink",
    )
    *endpoints, neighbour = listed
    return Topology(name, client, node, tuple(endpoints), neighbour)


def _wire(node: Host, device: str, host: Host) -> None:
    """A veth from `device` of the node to eth0 of the host, routes and neighbours of both."""
    node.ip(
        f"link add {device} address {node.mac} type veth "
        f"peer name eth0 address {host.mac} netns {host.namespace}",
        f"link set {device} up",
    )
    if device == UPLINK:
        node.ip(f"addr add {node.address4}/32 dev {device}", f"addr add {node.address6}/128 dev {device}")
    host.ip(
        f"addr add {host.address4}/32 dev eth0",
        f"addr add {host.address6}/128 dev eth0",
        "link set eth0 up",
        *(_neighbour(node, "eth0")),
        f"route add {node.address4} dev eth0 scope link",
        f"route add {node.address6} dev eth0",
        f"route add default via {node.address4} dev eth0",
        f"route add default via {node.address6} dev eth0",
    )
    node.ip(
        *(_neighbour(host, device)),
        f"route add {host.address4}/32 dev {device}",
        f"route add {host.address6}/128 dev {device}",
    )


def _neighbour(of: Host, device: str) -> list[str]:
    return [
        f"neigh add {address} lladdr {of.mac} dev {device} nud permanent"
        for address in (of.address4, of.address6)
    ]
