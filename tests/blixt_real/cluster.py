"""The whole cluster: control plane, frontends, nodes with backends, pods' servers."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator

from blixt_control_plane import STANDARD, ControlPlane, Place, control_plane, workloads
from blixt_control_plane.place import LOOPBACK
from blixt_control_plane.programs import ROOT
from blixt_lab import Cluster, cluster
from blixt_lab.daemon import Daemon, script
from blixt_lab.host import Host
from blixt_lab.load import start_servers
from blixt_lab.relay import Endpoint, Relay, Tls, relaying
from blixt_real.frontends import Frontends

_DEFAULT = ROOT / "config" / "default"


class RealCluster:
    """The control plane is on the loopback device of the lab's control host, where the frontends run, too."""

    def __init__(self, lab: Cluster, plane: ControlPlane) -> None:
        self.lab = lab
        self.plane = plane
        self.servers = start_servers(lab.lab, lab.pods)
        self.install()
        for node in lab.nodes:
            workloads.add_node(plane.api(), node.name, [node.address4, node.address6])
        self.frontends = Frontends(lab, plane)
        self.backends = {node.name: self._backend(node) for node in lab.nodes}

    @property
    def daemons(self) -> list[Daemon]:
        return [*self.frontends.daemons.values(), *self.backends.values()]

    def install(self) -> None:
        """The Gateway API, and of config/default what is not a workload: nothing runs containers here."""
        self.plane.install(STANDARD)
        for name in ("namespace", "rbac", "gatewayclass"):
            self.plane.apply(_DEFAULT / f"{name}.yaml")

    def relay_to_api_server(self) -> Relay:
        """Another place on the control host to reach the API server at, which can go wrong."""
        certificates = self.plane.layout.certificates
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server.load_cert_chain(certificates.server.cert, certificates.server.key)
        client = ssl.create_default_context(cafile=str(certificates.authority))
        target = Endpoint(LOOPBACK, self.plane.layout.ports.api)
        listen = Endpoint(LOOPBACK, *self.plane.place.free_ports(1))
        return relaying(self.lab.lab, self.lab.control, Relay(listen, [target], Tls(server, client)))

    def start(self) -> None:
        self.frontends.start()
        for backend in self.backends.values():
            backend.start()
        self.frontends.await_leader()

    def logs(self) -> list[tuple[str, str]]:
        """What the nodes dropped, and the ends of the daemons' and the servers' logs, by name."""
        told = [
            (
                f"drops of {node.name}",
                node.run(script("blixt-backend"), "drops", *self._pins(node), check=False).stdout,
            )
            for node in self.lab.nodes
        ]
        told += [(daemon.name, daemon.log_tail(12)) for daemon in self.daemons]
        return told + [(part.name, part.log_tail(12)) for part in self.plane.components]

    def _pins(self, node: Host) -> list[str]:
        return ["--pin-root", str(self.lab.lab.bpffs / node.name)]

    def _backend(self, node: Host) -> Daemon:
        arguments = ["--interface", "eth0", "--api", str(self.frontends.api), "--node-name", node.name]
        arguments += ["--socket-lb", "off"]  # the machine's root cgroup is not this node's alone
        return Daemon(
            self.lab.lab,
            node,
            f"backend-{node.name}",
            [script("blixt-backend"), *arguments, *self._pins(node)],
        )


@contextlib.contextmanager
def real_cluster() -> Iterator[RealCluster]:
    """Two nodes with two pods each, and a client whose packets for services reach both nodes."""
    with cluster(nodes=2, pods=2) as lab, control_plane(Place(lab.control.namespace)) as plane:
        lab.route_services(*lab.nodes)
        made = RealCluster(lab, plane)
        made.start()
        yield made
