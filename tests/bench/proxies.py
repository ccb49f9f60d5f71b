"""kube-proxy's rules on a node of the lab: the real program's, or rules of the same shape where it isn't
built.

The real one is given the manifests by bench.api_stand_in, and ended once its rules are there: they stay. In
iptables mode it is given the legacy programs where Debian has them, which are the faster ones: they load
10,000 services in two seconds rather than in minutes, and new connections pay half as much.
"""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from bench import daemons, kube_proxy, proxy_rules, service
from bench.topology import Topology
from blixt_control_plane.programs import MissingError, find_programs
from blixt_lab import Lab
from blixt_lab.daemon import Daemon
from blixt_lab.scale import Manifest

NFTABLES, IPTABLES = "nftables", "iptables"
_LEGACY = (
    "iptables",
    "iptables-save",
    "iptables-restore",
    "ip6tables",
    "ip6tables-save",
    "ip6tables-restore",
)
_API_PORT, _METRICS_PORT, _HEALTH_PORT = 7998, 7997, 7996
#: struct nlmsghdr and struct nfgenmsg: IPCTNL_MSG_CT_DELETE of all there is, with an answer.
_FLUSH = struct.pack("=IHHIIBBH", 20, (1 << 8) | 2, 0x1 | 0x4, 1, 0, 0, 0, 0)
_NETLINK_NETFILTER = 12


@dataclass(frozen=True, slots=True)
class Proxy:
    """A mode on a topology, and where its rules come from."""

    mode: str
    #: "real kube-proxy ..." or "rules of kube-proxy's shape": the results tell.
    origin: str
    daemons: tuple[Daemon, ...] = field(default=())

    @property
    def name(self) -> str:
        return f"kube-proxy {self.mode}"


def real_proxy() -> Path | None:
    """The program, if it was built."""
    try:
        return find_programs().path("kube-proxy")
    except MissingError:
        return None


def start(lab: Lab, built: Topology, mode: str, manifests: Sequence[Manifest]) -> Proxy:
    """Begin to bring the rules; `wait` for them.

    Raises MissingError when the mode's own programs aren't there.
    """
    needed = "nft" if mode == NFTABLES else "iptables-restore"
    if shutil.which(needed) is None:
        raise MissingError(f"there is no {needed}: hack/setup.sh packages bench")
    program = real_proxy()
    if program is None:
        proxy_rules.load(built.node, mode, manifests)
        return Proxy(mode, f"rules of kube-proxy's shape, {_variant(lab, mode)[1]}")
    objects = lab.folder / f"{built.name}-objects.json"
    objects.write_text(json.dumps(_collections(built, manifests)))
    api = daemons.module(lab, built.node, "api", "bench.api_stand_in", str(_API_PORT), str(objects))
    config = lab.folder / f"{built.name}-kube-proxy.yaml"
    config.write_text(yaml.safe_dump(_configuration(lab, mode)))
    path, variant = _variant(lab, mode)
    command = ["env", f"PATH={path}", str(program), f"--config={config}"]
    version = built.node.run(str(program), "--version").stdout.split()[-1]
    daemon = daemons.started(lab, built.node, "kube-proxy", command)
    return Proxy(mode, f"the real kube-proxy {version}, {variant}", (daemon, api))


def wait(proxy: Proxy) -> None:
    """Until its rules of both families are in the kernel; then it is ended."""
    if not proxy.daemons:
        return
    host = proxy.daemons[0].host

    def synced() -> bool | None:
        try:
            metrics = host.call(lambda: kube_proxy.fetch_metrics(_METRICS_PORT))
        except (OSError, http.client.HTTPException):
            return None
        return all(metrics.get(kube_proxy.last_sync_of(family), 0) > 0 for family in ("IPv4", "IPv6")) or None

    daemons.wait_while_running(proxy.daemons, synced, f"{proxy.name}'s rules", 0.2)
    for daemon in proxy.daemons:
        daemon.kill9()


def flush_conntrack(built: Topology) -> None:
    """Forget all connections that the node's kernel tracks. Raises OSError."""

    def flush() -> None:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
            netlink.send(_FLUSH)
            (code,) = struct.unpack_from("=i", netlink.recv(4096), 16)
        if code:
            raise OSError(-code, "conntrack could not be flushed")

    built.node.call(flush)


def _variant(lab: Lab, mode: str) -> tuple[str, str]:
    """PATH for kube-proxy, and what it finds there."""
    inherited = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    if mode == NFTABLES:
        return inherited, "nft"
    legacy = shutil.which("xtables-legacy-multi", path=inherited)
    if legacy is None:
        return inherited, "iptables as installed"
    folder = lab.folder / "iptables-legacy"
    folder.mkdir(exist_ok=True)
    for name in _LEGACY:
        if not (folder / name).exists():
            (folder / name).symlink_to(legacy)
    return f"{folder}:{inherited}", "iptables-legacy"


def _collections(built: Topology, manifests: Sequence[Manifest]) -> Mapping[str, list[Manifest]]:
    def of(kind: str) -> list[Manifest]:
        return [one for one in manifests if one["kind"] == kind]

    addresses = (built.node.address4, built.node.address6)
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": service.NODE},
        "status": {"addresses": [{"type": "InternalIP", "address": address} for address in addresses]},
    }
    cidr = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": ["10.96.0.0/12", "fd00:10:96::/108"]},
    }
    return {
        "/api/v1/nodes": [node],
        "/api/v1/services": of("Service"),
        "/apis/discovery.k8s.io/v1/endpointslices": of("EndpointSlice"),
        "/apis/networking.k8s.io/v1/servicecidrs": [cidr],
    }


def _configuration(lab: Lab, mode: str) -> dict[str, object]:
    """Without a cluster CIDR it masquerades nothing that is sent to a cluster IP."""
    access = lab.folder / "kubeconfig-of-stand-in.yaml"
    named = {"name": "stand-in"}
    access.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{**named, "cluster": {"server": f"http://127.0.0.1:{_API_PORT}"}}],
                "users": [{**named, "user": {}}],
                "contexts": [{**named, "context": {"cluster": "stand-in", "user": "stand-in"}}],
                "current-context": "stand-in",
            }
        )
    )
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": mode,
        "clientConnection": {
            "kubeconfig": str(access),
            "contentType": "application/json",
            "acceptContentTypes": "application/json",
        },
        "hostnameOverride": service.NODE,
        "metricsBindAddress": f"127.0.0.1:{_METRICS_PORT}",
        "healthzBindAddress": f"127.0.0.1:{_HEALTH_PORT}",
        mode: {"minSyncPeriod": "10ms", "syncPeriod": "10h"},
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
