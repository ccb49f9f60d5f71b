"""The API server as status sees it: where objects are, and what of them is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import msgspec

from blixt_frontend.kubernetes.kinds import GATEWAY, Kind
from blixt_frontend.source import ObjectKey

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

#: Which of the Gateway API's kinds the server serves, in which version. Raises ApiError.
Discover = Callable[[], Awaitable[Mapping[Kind, str]]]

_BY_NAME = {kind.name: kind for kind in GATEWAY}


class Api(Protocol):
    """As kubernetes.client.ApiClient. Raises its ApiError."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> bytes: ...


class Paths:
    """Where objects are, in the version that is served."""

    def __init__(self, discover: Discover) -> None:
        self._discover = discover
        self._served: Mapping[Kind, str] = {}

    async def collection(self, kind: str) -> str | None:
        """All objects of the kind; None: it isn't served. Raises ApiError."""
        known = _BY_NAME[kind]
        if known not in self._served:
            self._served = await self._discover()
        version = self._served.get(known)
        return version and known.path(version)

    async def of(self, key: ObjectKey) -> str | None:
        """Raises ApiError."""
        collection = await self.collection(key.kind)
        if collection is None or not key.namespace:
            return collection and f"{collection}/{key.name}"
        group, _, plural = collection.rpartition("/")
        return f"{group}/namespaces/{key.namespace}/{plural}/{key.name}"

    def doubt(self) -> None:
        """Something wasn't there: ask anew, for a kind may have gone, or its version."""
        self._served = {}


class Metadata(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    resource_version: str = ""
    finalizers: tuple[str, ...] | None = None
    deletion_timestamp: str | None = None
    annotations: dict[str, str] | None = None


class Raw(msgspec.Struct):
    """Any object, its status left as it came."""

    metadata: Metadata
    status: msgspec.Raw = msgspec.Raw(b"{}")


class ListMetadata(msgspec.Struct):
    next: str = msgspec.field(name="continue", default="")


class RawList(msgspec.Struct):
    metadata: ListMetadata
    items: list[Raw] | None = None
