"""The certificates that listeners refer to. Blixt ends no TLS: they are looked at for status only."""

from __future__ import annotations

from collections.abc import Iterator

from blixt_frontend.objects import CertificateRef, Gateway, Listener, Secret
from blixt_frontend.translation.cluster import Cluster, NamespacedName
from blixt_frontend.translation.grants import permits
from blixt_frontend.translation.results import Condition, Reason

#: Reasons of ResolvedRefs for a listener that has no certificate to show.
LACKING: frozenset[Reason | None] = frozenset({"InvalidCertificateRef", "RefNotPermitted"})


def ends_tls(listener: Listener) -> bool:
    """Whether clients' TLS ends at the listener, which takes a certificate."""
    if listener.protocol not in ("HTTPS", "TLS"):
        return False
    return listener.tls is None or listener.tls.mode != "Passthrough"


def references(listener: Listener) -> tuple[CertificateRef, ...]:
    """Those that count: in other modes they are ignored."""
    return listener.tls.certificate_refs if listener.tls and ends_tls(listener) else ()


def secret_names(gateway: Gateway) -> Iterator[NamespacedName]:
    """The Secrets that its listeners refer to, there or not."""
    for listener in gateway.spec.listeners:
        for ref in references(listener):
            if _names_secret(ref):
                yield _target(gateway, ref)


def unresolved(gateway: Gateway, listener: Listener, cluster: Cluster) -> Condition | None:
    """ResolvedRefs of a listener whose certificates are not all good, or not known; None: they are good."""
    bad: list[tuple[Reason, str]] = []
    unknown = ""
    for ref in references(listener):
        if flaw := _forbidden(gateway, ref, cluster):
            bad.append(flaw)
        elif Secret.kind in cluster.unread:
            unknown = f"Secrets can't be read: {cluster.unread[Secret.kind]}"
        elif text := _flaw(_target(gateway, ref), cluster):
            bad.append(("InvalidCertificateRef", text))
    if bad:
        return Condition("ResolvedRefs", False, bad[0][0], "; ".join(text for _, text in bad))
    return Condition("ResolvedRefs", None, "Pending", unknown) if unknown else None


def _forbidden(gateway: Gateway, ref: CertificateRef, cluster: Cluster) -> tuple[Reason, str] | None:
    """What is wrong with the reference, whatever it leads to."""
    namespace, name = _target(gateway, ref)
    if not _names_secret(ref):
        return "InvalidCertificateRef", f"{ref.group or 'core'}/{ref.kind} {namespace}/{name} is no Secret"
    own = gateway.metadata.namespace
    grants = cluster.grants.get(namespace, {}).values()
    if namespace != own and not permits(grants, Gateway.kind, own, Secret.kind, name):
        message = f"no ReferenceGrant lets a Gateway of {own} refer to Secret {namespace}/{name}"
        return "RefNotPermitted", message
    return None


def _flaw(target: NamespacedName, cluster: Cluster) -> str:
    """Why the Secret is no certificate; empty: it is."""
    secret = cluster.secrets.get(target)
    if secret is None:
        return f"Secret {target.namespace}/{target.name} is not there, or not of type kubernetes.io/tls"
    return f"Secret {target.namespace}/{target.name}: {secret.flaw}" if secret.flaw else ""


def _target(gateway: Gateway, ref: CertificateRef) -> NamespacedName:
    return NamespacedName(ref.namespace or gateway.metadata.namespace, ref.name)


def _names_secret(ref: CertificateRef) -> bool:
    return ref.group == "" and ref.kind == Secret.kind
