"""What every object has: a key, metadata, an age; and label selectors."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta, field

from blixt_frontend.source import ObjectKey

Port = Annotated[int, Meta(ge=1, le=65535)]
#: RFC 3339 with an offset. Without one it could not be compared.
Timestamp = Annotated[datetime, Meta(tz=True)]

#: What an object that was never created by an API server is taken for: younger than every other.
NEVER = datetime.max.replace(tzinfo=UTC)


# gc=False: these hold only strings, numbers and each other, never a cycle; tens of thousands of them
# would otherwise be walked at every collection.
class Model(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, gc=False):
    """Base of every part of an object: camelCase on the wire, unknown fields ignored."""


class ObjectMeta(Model, frozen=True, kw_only=True):
    name: str
    namespace: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    creation_timestamp: Timestamp | None = None
    deletion_timestamp: Timestamp | None = None
    generation: int = 0
    uid: str = ""


class Resource(Model, frozen=True, kw_only=True):
    """Base of the objects themselves."""

    kind: ClassVar[str]
    #: No value of it may be shown to anybody, as in a complaint about it.
    confidential: ClassVar[bool] = False

    metadata: ObjectMeta

    @property
    def key(self) -> ObjectKey:
        return ObjectKey(self.kind, self.metadata.namespace, self.metadata.name)

    @property
    def age_key(self) -> tuple[datetime, str, str]:
        """Sorts the oldest first, ties by namespace and name (Gateway API's rule for conflicts)."""
        return self.metadata.creation_timestamp or NEVER, self.metadata.namespace, self.metadata.name


class SelectorRequirement(Model, frozen=True, kw_only=True):
    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """An unknown operator matches nothing."""
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels
            case _:
                return False


class LabelSelector(Model, frozen=True, kw_only=True):
    """metav1.LabelSelector; an empty one matches everything."""

    match_labels: dict[str, str] = field(default_factory=dict)
    match_expressions: tuple[SelectorRequirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            requirement.matches(labels) for requirement in self.match_expressions
        )
