"""References across namespaces: who may point where (GEP-709)."""

from __future__ import annotations

from collections.abc import Iterable

from blixt_frontend.objects import ReferenceGrant
from blixt_frontend.objects.gateway import GATEWAY_GROUP


def permits_service(
    grants: Iterable[ReferenceGrant], route_kind: str, route_namespace: str, service_name: str
) -> bool:
    """Whether any of the grants, all in the Service's namespace, lets the route refer to the Service."""
    return any(
        _is_from(grant, route_kind, route_namespace) and _is_to(grant, service_name) for grant in grants
    )


def _is_from(grant: ReferenceGrant, kind: str, namespace: str) -> bool:
    return any(
        origin.group == GATEWAY_GROUP and origin.kind == kind and origin.namespace == namespace
        for origin in grant.spec.from_
    )


def _is_to(grant: ReferenceGrant, name: str) -> bool:
    return any(
        target.group == "" and target.kind == "Service" and target.name in ("", name)
        for target in grant.spec.to
    )
