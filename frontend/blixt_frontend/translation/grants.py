"""References across namespaces: who may point where (GEP-709)."""

from __future__ import annotations

from collections.abc import Iterable

from blixt_frontend.objects import ReferenceGrant
from blixt_frontend.objects.gateway import GATEWAY_GROUP


def permits(grants: Iterable[ReferenceGrant], kind: str, namespace: str, core_kind: str, name: str) -> bool:
    """Whether any of the grants, all in the target's namespace, lets objects of the Gateway API's `kind` in
    `namespace` refer to the target: a Service or a Secret (`core_kind`) of that name."""
    return any(_is_from(grant, kind, namespace) and _is_to(grant, core_kind, name) for grant in grants)


def _is_from(grant: ReferenceGrant, kind: str, namespace: str) -> bool:
    return any(
        origin.group == GATEWAY_GROUP and origin.kind == kind and origin.namespace == namespace
        for origin in grant.spec.from_
    )


def _is_to(grant: ReferenceGrant, kind: str, name: str) -> bool:
    return any(
        target.group == "" and target.kind == kind and target.name in ("", name) for target in grant.spec.to
    )
