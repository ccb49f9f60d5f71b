"""An authority of the control plane's own, and all that it issues. One place, one library: trustme."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme

#: Whoever has a certificate of this organization may do everything.
ADMINS = "system:masters"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Paths of a certificate chain and its key, PEM."""

    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Certificates:
    authority: Path
    #: For etcd, the API server and the controller manager, at the loopback address.
    server: KeyPair
    #: For the API server at etcd.
    etcd_client: KeyPair
    admin: KeyPair
    controller_manager: KeyPair
    #: Signs the tokens of ServiceAccounts.
    service_accounts: KeyPair


def issue(folder: Path, address: str) -> Certificates:
    """Make everything anew in that folder. `address`: where the servers listen."""
    folder.mkdir(mode=0o700)
    authority = trustme.CA(organization_name="blixt control plane")
    path = folder / "ca.crt"
    authority.cert_pem.write_to_path(path)

    def pair(name: str, common_name: str, *names: str, organization: str = "blixt") -> KeyPair:
        # Go refuses a certificate without any name, as trustme makes it.
        names = names or (f"{name}.blixt.example",)
        leaf = authority.issue_cert(*names, common_name=common_name, organization_name=organization)
        made = KeyPair(folder / f"{name}.crt", folder / f"{name}.key")
        made.cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(made.key)
        return made

    manager = "system:kube-controller-manager"
    return Certificates(
        authority=path,
        server=pair("server", "control-plane", address, "localhost", "kubernetes.default.svc"),
        etcd_client=pair("etcd-client", "kube-apiserver"),
        admin=pair("admin", "admin", organization=ADMINS),
        controller_manager=pair("controller-manager", manager),
        service_accounts=pair("service-accounts", "service-accounts"),
    )
