"""What a client's certificate says about which node it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

#: How kubelets' certificates name their node (Kubernetes: "Using Node Authorization").
NODE_USER = "system:node:"


def allowed_nodes(auth_context: Mapping[str, Iterable[bytes]]) -> frozenset[str] | None:
    """The nodes that a call's peer may watch: the common name and DNS names of its certificate.

    `system:node:<name>` stands for `<name>`. None: the peer has shown no certificate and isn't held to any.
    """
    if not any(auth_context.get("x509_pem_cert", ())):
        return None
    names = [*auth_context.get("x509_common_name", ()), *auth_context.get("peer_dns", ())]
    return frozenset(name.decode(errors="replace").removeprefix(NODE_USER) for name in names) - {""}


def may_watch(node: str, allowed: frozenset[str] | None) -> bool:
    """Whether a peer with these allowed nodes (None: any) may watch this one."""
    return allowed is None or node in allowed
