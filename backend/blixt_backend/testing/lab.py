"""The network that a plane is tried in: a node with two pods, and what a cluster has around it.

    client ───┐            ┌─ eth0 node  veth1 ── eth0 pod1
    stranger ─┴─ a bridge ─┤             veth2 ── eth0 pod2
                           └─ eth0 other veth1 ── eth0 far

Pods have a /32 and a /128 and reach the world by a gateway that has no address of its own, as host-routed
CNIs lay it out. Clients send service addresses to the node, the node what it doesn't know to the bridge,
where that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from blixt_backend.testing.host import Host
from blixt_backend.testing.traffic import TalkError, Target, ask, serve

#: What every pod's server listens on.
TCP_PORT, UDP_PORT = 8080, 5353
#: What is listened on for SCTP while a check needs it.
SCTP_PORT = 9000
#: Where clients send what is for services.
SERVICE_NETWORKS: Final = ("10.96.0.0/16", "192.0.2.0/24", "fd00:10:96::/64", "2001:db8:100::/64")

_GATEWAY4, _GATEWAY6, _GATEWAY_MAC = "169.254.1.1", "fe80::ecee:eeff:feee:eeee", "ee:ee:ee:ee:ee:ee"
_EVERYWHERE = {
    # Strict reverse path filtering drops what was translated; CNIs switch it off.
    "ipv4/conf/all/rp_filter": 0,
    "ipv4/conf/default/rp_filter": 0,
    # Without duplicate address detection, IPv6 addresses work at once.
    "ipv6/conf/all/accept_dad": 0,
    "ipv6/conf/default/accept_dad": 0,
    "ipv6/conf/default/dad_transmits": 0,
    # The checks ask for many ICMP errors in a short time.
    "ipv4/icmp_ratelimit": 0,
    "ipv6/icmp/ratelimit": 0,
}
_FORWARDING = {"ipv4/ip_forward": 1, "ipv6/conf/all/forwarding": 1, "ipv6/conf/default/forwarding": 1}


class Lab:
    """Hosts by what they are. Every pod, and `far`, answers on TCP_PORT and UDP_PORT with its name."""

    #: A node's device to the outside, and a pattern for those to its pods.
    uplink: Final = "eth0"
    pod_devices: Final = "veth*"

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        #: For files that are gone with the lab, and for what must be undone before.
        self.folder, self.stack = folder, stack
        self.fabric = Host("fabric")
        self.client = Host("client", "172.18.0.101", "fd00:172:18::101")
        self.stranger = Host("stranger", "172.18.0.102", "fd00:172:18::102")
        self.node = Host("node", "172.18.0.11", "fd00:172:18::11")
        self.other = Host("other", "172.18.0.12", "fd00:172:18::12")
        self.pod1 = Host("pod1", "10.244.1.11", "fd00:10:244:1::11", local=True)
        self.pod2 = Host("pod2", "10.244.1.12", "fd00:10:244:1::12", local=True)
        self.far = Host("far", "10.244.2.11", "fd00:10:244:2::11")

    @property
    def hosts(self) -> list[Host]:
        return [self.fabric, self.client, self.stranger, self.node, self.other, *self.pods]

    @property
    def pods(self) -> list[Host]:
        """All that endpoints can be made of."""
        return [self.pod1, self.pod2, self.far]


@contextlib.contextmanager
def lab() -> Iterator[Lab]:
    """A lab that is ready for packets. Raises OSError unless root, RuntimeError if it fails."""
    with tempfile.TemporaryDirectory(prefix="blixt-lab-") as folder, contextlib.ExitStack() as stack:
        built = Lab(Path(folder), stack)
        for host in built.hosts:
            stack.callback(host.close)
        _build(built)
        for pod in built.pods:
            _serve(pod)
        _await_links(built)
        yield built


def _build(built: Lab) -> None:
    for host in built.hosts:
        host.sysctl(_EVERYWHERE)
        host.ip("link set lo up")
    for node in (built.node, built.other):
        node.sysctl(_FORWARDING)
    built.fabric.ip(
        "link add br0 type bridge forward_delay 0 mcast_snooping 0",
        "link set br0 up",
        "addr add 172.18.0.1/24 dev br0",
        "addr add fd00:172:18::1/64 dev br0",
    )
    for host in (built.client, built.stranger, built.node, built.other):
        built.fabric.ip(
            f"link add to-{host.name} type veth peer name eth0 netns {host.thread_id}",
            f"link set to-{host.name} master br0 up",
        )
        host.ip(
            "link set eth0 up",
            f"addr add {host.address4}/24 dev eth0",
            f"addr add {host.address6}/64 dev eth0",
        )
    for number, pod in enumerate((built.pod1, built.pod2), 1):
        _plug(built.node, pod, f"veth{number}")
    _plug(built.other, built.far, "veth1")
    for client in (built.client, built.stranger):
        client.ip(*_routes(built.node, *SERVICE_NETWORKS, "10.244.1.0/24", "fd00:10:244:1::/64"))
    built.other.ip(*_routes(built.node, "10.244.1.0/24", "fd00:10:244:1::/64"))
    built.node.ip(*_routes(built.other, "10.244.2.0/24", "fd00:10:244:2::/64"))
    for node in (built.node, built.other):
        node.ip("route add default via 172.18.0.1", "route add default via fd00:172:18::1")


def _routes(via: Host, *networks: str) -> list[str]:
    return [f"route add {net} via {via.address6 if ':' in net else via.address4}" for net in networks]


def _plug(node: Host, pod: Host, device: str) -> None:
    node.ip(
        f"link add {device} address {_GATEWAY_MAC} type veth peer name eth0 netns {pod.thread_id}",
        f"link set {device} up",
        f"route add {pod.address4}/32 dev {device}",
        f"route add {pod.address6}/128 dev {device}",
    )
    pod.ip(
        f"addr add {pod.address4}/32 dev eth0",
        f"addr add {pod.address6}/128 dev eth0",
        "link set eth0 up",
        f"neigh add {_GATEWAY4} lladdr {_GATEWAY_MAC} dev eth0 nud permanent",
        f"neigh add {_GATEWAY6} lladdr {_GATEWAY_MAC} dev eth0 nud permanent",
        f"route add {_GATEWAY4} dev eth0 scope link",
        f"route add default via {_GATEWAY4} dev eth0",
        f"route add default via {_GATEWAY6} dev eth0",
    )


def _serve(pod: Host) -> None:
    pod.start(lambda: asyncio.run(serve(pod.name, TCP_PORT, UDP_PORT, lambda: None, asyncio.Event())))


def _await_links(built: Lab) -> None:
    """A bridge's ports forward a moment after they are up, and servers listen a moment after their start."""
    ways = [
        (host, Target("tcp", address, TCP_PORT))
        for host, pods in ((built.client, [built.pod1, built.pod2]), (built.node, built.pods))
        for pod in pods
        for address in (pod.address4, pod.address6)
    ]
    deadline = time.monotonic() + 10
    for host, target in ways:
        while True:
            try:
                asyncio.run(ask(target, patience=1.0, make=host.socket))
            except TalkError as error:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{host.name} does not reach {target}: {error.reason}") from error
                time.sleep(0.02)
            else:
                break
