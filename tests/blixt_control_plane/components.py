"""How the servers are started: pure functions from a layout to arguments.

They are Kubernetes as its users have it (RBAC, admission, all controllers), with two differences: no node
is found dead for want of heartbeats, since there is no kubelet, and the Service default/kubernetes has no
endpoints, which would be at a loopback address.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blixt_control_plane.certificates import Certificates
from blixt_control_plane.place import LOOPBACK

#: Of Services: IPv4 first, and IPv6.
SERVICE_RANGES = "10.96.0.0/12,fd00:10:96::/112"

#: What is written, and by whom; reads are not.
AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  verbs: [create, update, patch, delete, deletecollection]
- level: None
"""


@dataclass(frozen=True, slots=True)
class Ports:
    etcd: int
    etcd_peers: int
    api: int
    controller_manager: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Where in its folder a control plane keeps what."""

    home: Path
    ports: Ports
    certificates: Certificates

    @property
    def server(self) -> str:
        return f"https://{LOOPBACK}:{self.ports.api}"

    @property
    def audit_log(self) -> Path:
        return self.home / "audit.log"

    @property
    def audit_policy(self) -> Path:
        return self.home / "audit-policy.yaml"

    @property
    def manager_kubeconfig(self) -> Path:
        return self.home / "controller-manager.kubeconfig"

    @property
    def admin_kubeconfig(self) -> Path:
        return self.home / "admin.kubeconfig"

    def log(self, component: str) -> Path:
        return self.home / f"{component}.log"


def etcd(layout: Layout) -> list[str]:
    """The data outlives the process, not the machine: nothing is synced to disk."""
    ports, certificates = layout.ports, layout.certificates
    clients = f"https://{LOOPBACK}:{ports.etcd}"
    peers = f"https://{LOOPBACK}:{ports.etcd_peers}"
    return [
        "--name=blixt",
        f"--data-dir={layout.home / 'etcd'}",
        f"--listen-client-urls={clients}",
        f"--advertise-client-urls={clients}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=blixt={peers}",
        f"--cert-file={certificates.server.cert}",
        f"--key-file={certificates.server.key}",
        f"--trusted-ca-file={certificates.authority}",
        "--client-cert-auth",
        f"--peer-cert-file={certificates.server.cert}",
        f"--peer-key-file={certificates.server.key}",
        f"--peer-trusted-ca-file={certificates.authority}",
        "--peer-client-cert-auth",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def api_server(layout: Layout) -> list[str]:
    certificates = layout.certificates
    return [
        f"--bind-address={LOOPBACK}",
        f"--advertise-address={LOOPBACK}",
        f"--secure-port={layout.ports.api}",
        f"--cert-dir={layout.home / 'apiserver'}",
        f"--etcd-servers=https://{LOOPBACK}:{layout.ports.etcd}",
        f"--etcd-cafile={certificates.authority}",
        f"--etcd-certfile={certificates.etcd_client.cert}",
        f"--etcd-keyfile={certificates.etcd_client.key}",
        f"--tls-cert-file={certificates.server.cert}",
        f"--tls-private-key-file={certificates.server.key}",
        f"--client-ca-file={certificates.authority}",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={certificates.service_accounts.key}",
        f"--service-account-signing-key-file={certificates.service_accounts.key}",
        f"--service-cluster-ip-range={SERVICE_RANGES}",
        "--endpoint-reconciler-type=none",
        "--allow-privileged",
        f"--audit-policy-file={layout.audit_policy}",
        f"--audit-log-path={layout.audit_log}",
        "--audit-log-mode=blocking",
        "--audit-log-maxsize=10000",
    ]


def controller_manager(layout: Layout) -> list[str]:
    certificates, kubeconfig = layout.certificates, layout.manager_kubeconfig
    return [
        f"--bind-address={LOOPBACK}",
        f"--secure-port={layout.ports.controller_manager}",
        f"--tls-cert-file={certificates.server.cert}",
        f"--tls-private-key-file={certificates.server.key}",
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--use-service-account-credentials",
        f"--root-ca-file={certificates.authority}",
        f"--service-account-private-key-file={certificates.service_accounts.key}",
        "--controllers=*,-node-lifecycle-controller",
        "--leader-elect=false",
        # The defaults of 20 and 30 a second would make tests wait for what they load.
        "--kube-api-qps=2000",
        "--kube-api-burst=4000",
    ]
