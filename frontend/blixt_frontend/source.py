"""Where Kubernetes objects come from: the seam between a source and the translation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from blixt_frontend.errors import FrontendError


class ObjectKey(NamedTuple):
    """An object's identity. `namespace` is empty for cluster-scoped kinds."""

    kind: str
    namespace: str
    name: str


class KubernetesObject(Protocol):
    """Any object that a source yields."""

    @property
    def key(self) -> ObjectKey: ...


#: Why a kind is unread that is just not listed yet.
NOT_YET = "not listed yet"


@dataclass(frozen=True, slots=True)
class Batch:
    """Changes that became known together, and are to be translated together.

    An object is in `upserts` or in `deletions`, never in both, and at most once.
    """

    upserts: tuple[KubernetesObject, ...] = ()
    deletions: tuple[ObjectKey, ...] = ()
    #: All that traffic hangs on was listed once, with this batch or before it. Never false again after it was
    #: true.
    complete: bool = False
    #: Kinds that only status needs and that were never listed, with the reason, for people: NOT_YET, or what
    #: stands in the way. Nodes are served without them. None: as before.
    unread: Mapping[str, str] | None = None


class Source(ABC):
    """A cluster, or a folder of manifests."""

    @abstractmethod
    def events(self) -> AsyncIterator[Batch]:
        """The objects as they are now, then every change, until the caller closes the iterator.

        Implement it as an async generator. Bad input is reported by the source and never ends it. Raises
        SourceError where there is nothing to go on with.
        """


class SourceError(FrontendError):
    """A source can't be read at all."""
