"""Two frontends on the control host, and one address by which nodes reach whichever lives."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from blixt_control_plane import ApiError, ControlPlane, kubeconfig
from blixt_control_plane.programs import ROOT
from blixt_lab import Cluster, wait_for
from blixt_lab.daemon import Daemon, script
from blixt_lab.relay import Endpoint, Relay, relaying

#: The ServiceAccount that config/default/rbac.yaml gives rights to, and where its Lease is.
NAMESPACE, ACCOUNT = "blixt-system", "blixt-frontend"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/blixt-frontend"
POOL = "192.0.2.100-192.0.2.199,2001:db8:100::100-2001:db8:100::1ff"
_PORT = 12090


class Frontends:
    """As config/default runs them: two, of which one holds the Lease, and a Service in front of them.

    That Service's address is a relay here, which gives each new connection to the next one that takes it:
    in a cluster kube-proxy does so, for a backend's own way to its frontend can't be left to that backend.
    """

    def __init__(self, cluster: Cluster, plane: ControlPlane) -> None:
        self._cluster = cluster
        self._plane = plane
        address = cluster.control.address4
        self.api = Endpoint(address, _PORT)
        self._listen = {
            f"frontend-{letter}": Endpoint(address, _PORT + number) for number, letter in enumerate("ab", 1)
        }
        config = plane.service_account_kubeconfig(NAMESPACE, ACCOUNT)
        self.daemons = {name: self._daemon(name, [script("blixt-frontend")], config) for name in self._listen}
        relaying(cluster.lab, cluster.control, Relay(self.api, list(self._listen.values())))

    def start(self) -> None:
        for daemon in self.daemons.values():
            if not daemon.running:
                daemon.start()

    @property
    def leader(self) -> str:
        """The name of the frontend that holds the Lease; empty: none does.

        Raises OSError where the API server is away.
        """
        try:
            lease = self._plane.api().get(LEASE)
        except ApiError:
            return ""
        return str(lease["spec"].get("holderIdentity") or "").partition("_")[0]

    def await_leader(self, other_than: str = "") -> str:
        """Wait until one that lives holds the Lease, and another than that; its name."""

        def found() -> str:
            leader = self.leader
            return leader if leader not in ("", other_than) and self.daemons[leader].running else ""

        return wait_for(found, "a leader", 60)

    def redirect(self, server: Endpoint) -> None:
        """End both, and start them anew, impatient ones that reach the API server at another place."""
        token = self._plane.token(NAMESPACE, ACCOUNT)
        path = kubeconfig.write(
            self._plane.home / "redirected.kubeconfig",
            f"https://{server}",
            self._plane.layout.certificates.authority,
            token,
        )
        impatient = ["env", f"PYTHONPATH={ROOT / 'tests'}", sys.executable, "-m", "blixt_real.impatient"]
        self._replace({name: self._daemon(name, impatient, path) for name in self._listen})

    def restore(self) -> None:
        """Have both again as they were at the beginning."""
        config = self._plane.service_account_kubeconfig(NAMESPACE, ACCOUNT)
        self._replace({name: self._daemon(name, [script("blixt-frontend")], config) for name in self._listen})

    def _replace(self, daemons: dict[str, Daemon]) -> None:
        for daemon in self.daemons.values():
            daemon.terminate()
        self.daemons = daemons
        self.start()
        self.await_leader()

    def _daemon(self, name: str, program: list[str], config: Path) -> Daemon:
        """With a host's name of its own, as pods have one: the Lease tells who holds it by that."""
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', name]
        options = ["--kubeconfig", os.fspath(config), "--listen", str(self._listen[name])]
        return Daemon(
            self._cluster.lab,
            self._cluster.control,
            name,
            [*named, *program, *options, f"--address-pool=lan={POOL}"],
        )
