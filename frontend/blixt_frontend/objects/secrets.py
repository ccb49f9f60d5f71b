"""core/v1: Secret, as far as listeners refer to it: whether it holds a certificate and its key.

Neither is kept. They are looked at while an object is made from what the API server sent, and let go.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import ClassVar

from msgspec import field
from msgspec.structs import force_setattr

from blixt_frontend.objects.meta import ObjectMeta, Resource
from blixt_frontend.objects.pem import certificate_flaw, key_flaw

TLS_SECRET_TYPE = "kubernetes.io/tls"  # noqa: S105  # a type's name

_PARTS: Mapping[str, Callable[[str], str]] = {"tls.crt": certificate_flaw, "tls.key": key_flaw}


class Secret(Resource, frozen=True, kw_only=True):
    kind: ClassVar[str] = "Secret"
    confidential: ClassVar[bool] = True

    type: str = "Opaque"
    #: Both are empty in every Secret that was made: see `flaw`.
    data: dict[str, str] = field(default_factory=dict)
    string_data: dict[str, str] = field(default_factory=dict)
    #: What was found when the Secret was made.
    found: str | None = None

    def __post_init__(self) -> None:
        if self.found is None:
            force_setattr(self, "found", _flaw(self.type, self.data, self.string_data))
        # Annotations are let go as well: kubectl's copy of the whole object is one of them.
        force_setattr(
            self, "metadata", ObjectMeta(name=self.metadata.name, namespace=self.metadata.namespace)
        )
        force_setattr(self, "data", {})
        force_setattr(self, "string_data", {})

    @property
    def flaw(self) -> str:
        """Why it can't be a listener's certificate, for people; empty: it can."""
        return self.found or ""


def _flaw(type_: str, data: Mapping[str, str], plain: Mapping[str, str]) -> str:
    if type_ != TLS_SECRET_TYPE:
        return f"is not of type {TLS_SECRET_TYPE}"
    return "; ".join(
        f"{name} {flaw}" for name, check in _PARTS.items() if (flaw := _part_flaw(name, check, data, plain))
    )


def _part_flaw(
    name: str, check: Callable[[str], str], data: Mapping[str, str], plain: Mapping[str, str]
) -> str:
    """stringData counts before data, which is in base64."""
    if name in plain:
        return check(plain[name])
    if name not in data:
        return "is not there"
    try:
        return check(base64.b64decode("".join(data[name].split()), validate=True).decode("ascii"))
    except (binascii.Error, ValueError):
        return "is no PEM in base64"
