"""Leases (coordination.k8s.io/v1), as far as they are read and written here."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

COLLECTION = "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"


class LeaseSpec(msgspec.Struct, rename="camel"):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class LeaseMetadata(msgspec.Struct, rename="camel", omit_defaults=True):
    name: str
    namespace: str
    resource_version: str = ""


class Lease(msgspec.Struct, rename="camel"):
    metadata: LeaseMetadata
    spec: LeaseSpec = msgspec.field(default_factory=LeaseSpec)
    api_version: str = "coordination.k8s.io/v1"
    kind: str = "Lease"


def micro_time() -> str:
    """Now, as metav1.MicroTime."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
