"""kube-proxy in nftables mode, the real one, as a node of the same cluster would run it.

It programs nftables, and so must be kept in a network namespace of the lab. When a change is in the ruleset
it says itself: sync_proxy_rules_last_timestamp_seconds is set right after nft's transaction, on the clock of
time.time(). It syncs only if something has changed (its periodic sync is put off beyond the run), so that
this is the time of the change's own transaction.
"""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from bench import daemons
from bench.processes import cpu_seconds, peak_mb, resident_mb
from blixt_control_plane import ControlPlane
from blixt_control_plane.place import LOOPBACK
from blixt_lab import Host, Lab, wait_for
from blixt_lab.daemon import Daemon

#: What it syncs at most once in, unless it is told otherwise.
DEFAULT_MIN_SYNC = "1s"
QUICK_MIN_SYNC = "10ms"

_PATIENCE = 300.0
_SAMPLE = re.compile(r"^(kubeproxy_\w+(?:\{[^}]*\})?) (\S+)$", re.MULTILINE)
_CHANGES = "kubeproxy_sync_proxy_rules_endpoint_changes_total"
_PENDING = "kubeproxy_sync_proxy_rules_endpoint_changes_pending"


@dataclass(frozen=True, slots=True)
class Sync:
    """What its metrics say: when it last synced (time.time()), and the endpoint changes it has heard of."""

    at: float
    changes: float
    pending: float


class KubeProxy:
    """One process on a node of the cluster. Its rules are in the host's namespace until `end`."""

    def __init__(self, lab: Lab, host: Host, plane: ControlPlane, node: str, min_sync: str) -> None:
        self._host = host
        self._port, health_port = plane.place.free_ports(2)
        config = lab.folder / f"kube-proxy-{min_sync}.yaml"
        config.write_text(yaml.safe_dump(_configuration(plane, node, min_sync, self._port, health_port)))
        command = [str(plane.programs.path("kube-proxy")), f"--config={config}"]
        self._started_at = time.time()
        self.daemon: Daemon = daemons.started(lab, host, f"kube-proxy-{min_sync}-{self._port}", command)

    def wait_first_sync(self) -> float:
        """Seconds from its start until the rules of all Services were there."""
        synced = daemons.wait_while_running([self.daemon], self._look, "kube-proxy's first sync", 0.1)
        return synced.at - self._started_at

    def wait_applied(self, before: Sync, sent_at: float) -> float:
        """When the ruleset showed what was written at `sent_at`, after `before`; times are time.time()'s."""

        def applied() -> float:
            now = self.last_sync()
            done = now.changes > before.changes and not now.pending and now.at > max(before.at, sent_at)
            return now.at if done else 0.0

        return wait_for(applied, "kube-proxy to sync a change", _PATIENCE, 0.1)

    def last_sync(self) -> Sync:
        """Raises OSError where it doesn't answer."""
        metrics = self._metrics()
        return Sync(
            metrics.get(last_sync_of("IPv4"), 0.0), metrics.get(_CHANGES, 0.0), metrics.get(_PENDING, 0.0)
        )

    def cpu_seconds(self) -> float:
        """Its own, and that of the `nft` that it calls."""
        return cpu_seconds(self.daemon.pid)

    def memory_mb(self) -> tuple[float, float]:
        """Now, and at most."""
        return resident_mb(self.daemon.pid), peak_mb(self.daemon.pid)

    def end(self) -> None:
        """End it, and take its rules away."""
        self.daemon.kill9()
        self._host.run("nft", "flush", "ruleset", timeout=_PATIENCE)

    def _look(self) -> Sync | None:
        try:
            synced = self.last_sync()
        except OSError:
            return None
        return synced if synced.at > self._started_at else None

    def _metrics(self) -> Mapping[str, float]:
        return self._host.call(lambda: fetch_metrics(self._port))


def fetch_metrics(port: int) -> Mapping[str, float]:
    """What a kube-proxy of this network namespace says of itself. Raises OSError where it doesn't answer."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=30)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    return {name: float(value) for name, value in _SAMPLE.findall(text)}


def last_sync_of(family: str) -> str:
    """The metric that tells when the rules of IPv4 or IPv6 were last brought into the kernel."""
    return f'kubeproxy_sync_proxy_rules_last_timestamp_seconds{{ip_family="{family}"}}'


def _configuration(
    plane: ControlPlane, node: str, min_sync: str, port: int, health_port: int
) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(plane.kubeconfig)},
        "hostnameOverride": node,
        "clusterCIDR": "10.128.0.0/9",
        "metricsBindAddress": f"{LOOPBACK}:{port}",
        "healthzBindAddress": f"{LOOPBACK}:{health_port}",
        "nftables": {"minSyncPeriod": min_sync, "syncPeriod": "10h"},
        # The kernel's limits are the machine's, not the lab's, to set.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
