"""Objects as the server has them: reading them, and writing their status and finalizers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from blixt_frontend.kubernetes.client import MERGE_PATCH, ApiError
from blixt_frontend.status.api import DEFINITIONS, Api, Raw, RawList
from blixt_frontend.status.bundle import BUNDLE_VERSION_ANNOTATION, NAMES, Bundle
from blixt_frontend.status.election import Term
from blixt_frontend.status.merging import Json


@dataclass(frozen=True, slots=True)
class Stored:
    """One version of an object, as far as it matters here."""

    name: str
    namespace: str
    resource_version: str
    finalizers: tuple[str, ...]
    being_deleted: bool
    #: JSON, as that is what takes the least memory.
    status_json: bytes

    @classmethod
    def of(cls, raw: Raw) -> Stored:
        metadata = raw.metadata
        return cls(
            metadata.name,
            metadata.namespace,
            metadata.resource_version,
            metadata.finalizers or (),
            metadata.deletion_timestamp is not None,
            bytes(raw.status),
        )

    @property
    def status(self) -> Json:
        value = msgspec.json.decode(self.status_json)
        return value if isinstance(value, dict) else {}

    def is_older_than(self, resource_version: str) -> bool:
        ours = self.resource_version
        if ours.isdecimal() and resource_version.isdecimal():
            return int(ours) < int(resource_version)
        return ours != resource_version


class Objects:
    """The API server during one term. Everything raises ApiError; writes raise LostLeaseError."""

    def __init__(self, api: Api, term: Term) -> None:
        self._api = api
        self._term = term

    async def get(self, path: str) -> Stored:
        return Stored.of(_decode(await self._api.request("GET", path), Raw))

    async def page(self, path: str, size: int, after: str) -> tuple[list[Stored], str]:
        """A part of a collection, and the token that the next part is `after`; empty: that was all."""
        query = {"limit": str(size)} | ({"continue": after} if after else {})
        listed = _decode(await self._api.request("GET", path, query=query), RawList)
        return [Stored.of(item) for item in listed.items or ()], listed.metadata.next

    async def write_status(self, path: str, before: Stored, parts: Json) -> Stored:
        return await self._patch(f"{path}/status", before, {}, {"status": parts})

    async def write_finalizers(self, path: str, before: Stored, finalizers: tuple[str, ...]) -> Stored:
        return await self._patch(path, before, {"finalizers": finalizers}, {})

    async def bundle(self) -> Bundle:
        """What the definitions say of their version; those that aren't there are left out."""
        versions = {}
        for name in NAMES:
            try:
                raw = _decode(await self._api.request("GET", f"{DEFINITIONS}/{name}"), Raw)
            except ApiError as error:
                if error.status != 404:
                    raise
            else:
                versions[name] = (raw.metadata.annotations or {}).get(BUNDLE_VERSION_ANNOTATION, "")
        return Bundle(versions)

    async def _patch(self, path: str, before: Stored, metadata: Json, change: Json) -> Stored:
        version = {"resourceVersion": before.resource_version}
        body = msgspec.json.encode({"metadata": version | metadata, **change})
        self._term.check()
        answer = await self._api.request("PATCH", path, body=body, content_type=MERGE_PATCH)
        return Stored.of(_decode(answer, Raw))


def _decode(answer: bytes, as_type: type[Any]) -> Any:
    try:
        return msgspec.json.decode(answer, type=as_type)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(0, "Unreachable", f"no API server's answer: {error}") from error
