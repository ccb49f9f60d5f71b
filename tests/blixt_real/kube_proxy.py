"""The real kube-proxy, in nftables mode, on a node of the lab whose planes are swapped.

It is told of manifests by bench.api_stand_in: what kube-proxy makes of a Service is the same without a
control plane. That it serves is told by a counter between our own chains and its: what comes there is
nobody's yet.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable

import yaml

from bench import daemons
from bench.kube_proxy import fetch_metrics, last_sync_of
from blixt_control_plane.programs import find_programs
from blixt_lab import wait_for
from blixt_lab.daemon import Daemon
from blixt_lab.manifests import Manifest
from blixt_lab.rules import objects
from blixt_lab.swapping import CLUSTER, OUTSIDE, Swapped

_API_PORT, _METRICS_PORT, _HEALTH_PORT = 7998, 7997, 7996
_COUNTER = "blixt_lab_passed"


class KubeProxy:
    """Not started yet. Its rules stay when it is stopped; `clean_up` takes them away."""

    def __init__(self, swapped: Swapped, manifests: Iterable[Manifest]) -> None:
        self._host, self._lab = swapped.node, swapped.built.lab
        collections = self._lab.folder / "kube-proxy-objects.json"
        collections.write_text(json.dumps(_collections(swapped, list(manifests))))
        access = self._lab.folder / "kube-proxy-access.yaml"
        access.write_text(yaml.safe_dump(_access()))
        self._config = self._lab.folder / "kube-proxy.yaml"
        self._config.write_text(yaml.safe_dump(_configuration(self._host.name, str(access))))
        self._objects = collections
        self._program = str(find_programs().path("kube-proxy"))
        self._daemons: list[Daemon] = []

    def start(self) -> None:
        """Until its rules of both families are in the kernel."""
        arguments = (str(_API_PORT), str(self._objects))
        self._daemons = [daemons.module(self._lab, self._host, "api", "bench.api_stand_in", *arguments)]
        command = [self._program, f"--config={self._config}"]
        self._daemons.append(daemons.started(self._lab, self._host, "kube-proxy", command))
        daemons.wait_while_running(self._daemons, self._synced, "kube-proxy's rules", 0.1)
        self._count()

    def stop(self) -> None:
        for daemon in self._daemons:
            daemon.kill9()
        self._daemons = []

    def clean_up(self) -> None:
        """As an operator does. The counter goes first: it is a chain of type nat."""
        self._host.run("nft", "delete", "table", "inet", _COUNTER)
        self._host.run(self._program, "--cleanup", f"--config={self._config}", timeout=60)
        wait_for(lambda: "kube-proxy" not in self._host.run("nft", "list", "tables").stdout, "it to be gone")

    def passed(self) -> int:
        """New flows that came to its chains."""
        (found,) = (
            entry["counter"]["packets"]
            for entry in objects(self._host, "list", "counter", "inet", _COUNTER, "passed")
            if "counter" in entry
        )
        return int(found)

    def _count(self) -> None:
        """The last one to come is the first of those with the same priority."""
        four, six = ((CLUSTER[n], OUTSIDE[n]) for n in (0, 1))
        rules = f"""
        table inet {_COUNTER} {{
            counter passed {{ }}
            chain between {{
                type nat hook prerouting priority -100
                ip daddr {{ {", ".join(four)} }} counter name passed
                ip6 daddr {{ {", ".join(six)} }} counter name passed
            }}
        }}
        """
        self._host.run("nft", "-f", "-", stdin=rules)

    def _synced(self) -> bool | None:
        try:
            metrics = self._host.call(lambda: fetch_metrics(_METRICS_PORT))
        except (OSError, http.client.HTTPException):
            return None
        return all(metrics.get(last_sync_of(family), 0) > 0 for family in ("IPv4", "IPv6")) or None


def _collections(swapped: Swapped, manifests: list[Manifest]) -> dict[str, list[Manifest]]:
    node = swapped.node
    addresses = [{"type": "InternalIP", "address": address} for address in (node.address4, node.address6)]
    described = {"metadata": {"name": node.name}, "status": {"addresses": addresses}}
    ranges = {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/12", "fd00:10:96::/108"]}}
    return {
        "/api/v1/nodes": [{"apiVersion": "v1", "kind": "Node", **described}],
        "/api/v1/services": [one for one in manifests if one["kind"] == "Service"],
        "/apis/discovery.k8s.io/v1/endpointslices": [
            one for one in manifests if one["kind"] == "EndpointSlice"
        ],
        "/apis/networking.k8s.io/v1/servicecidrs": [
            {"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", **ranges}
        ],
    }


def _access() -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "stand-in", "cluster": {"server": f"http://127.0.0.1:{_API_PORT}"}}],
        "users": [{"name": "stand-in", "user": {}}],
        "contexts": [{"name": "stand-in", "context": {"cluster": "stand-in", "user": "stand-in"}}],
        "current-context": "stand-in",
    }


def _configuration(node: str, access: str) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {
            "kubeconfig": access,
            "contentType": "application/json",
            "acceptContentTypes": "application/json",
        },
        "hostnameOverride": node,
        "metricsBindAddress": f"127.0.0.1:{_METRICS_PORT}",
        "healthzBindAddress": f"127.0.0.1:{_HEALTH_PORT}",
        "nftables": {"minSyncPeriod": "10ms", "syncPeriod": "10h"},
        # The kernel's limits are the machine's, not the lab's, to set.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
