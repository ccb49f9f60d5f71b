"""An API server in memory, as far as writers of status and leases need it: versions, patches, faults."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from blixt_frontend.kubernetes.client import MERGE_PATCH, ApiError

Json = dict[str, Any]


class Request(NamedTuple):
    method: str
    path: str

    @property
    def is_write(self) -> bool:
        return self.method != "GET"


class FakeApi:
    """Objects by their path. `requests` are those that arrived; `fault` refuses them, `gate` holds them."""

    def __init__(self) -> None:
        self.objects: dict[str, Json] = {}
        self.requests: list[Request] = []
        self.fault: Callable[[Request], ApiError | None] = lambda request: None
        #: Awaited before a request is worked on.
        self.gate: Callable[[Request], asyncio.Event | None] = lambda request: None
        #: What an answer to a write that was carried out becomes.
        self.lost: Callable[[Request], ApiError | None] = lambda request: None
        #: Takes away what the definitions of another release don't have.
        self.prune: Callable[[Json], None] = lambda obj: None
        self._version = 100

    @property
    def writes(self) -> list[Request]:
        return [request for request in self.requests if request.is_write]

    def put(self, path: str, obj: Json) -> Json:
        """As somebody else does it."""
        obj = copy.deepcopy(obj)
        self.prune(obj)
        self._version += 1
        namespace, name = _names(path)
        metadata = obj.setdefault("metadata", {})
        metadata.update(name=name, resourceVersion=str(self._version))
        if namespace:
            metadata["namespace"] = namespace
        self.objects[path] = obj
        return obj

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        request = Request(method, path)
        self.requests.append(request)
        if (gate := self.gate(request)) is not None:
            await gate.wait()
        await asyncio.sleep(0)
        if (error := self.fault(request)) is not None:
            raise error
        answer = self._answer(method, path, query or {}, json.loads(body) if body else {}, content_type)
        if (error := self.lost(request)) is not None:
            raise error
        return json.dumps(answer).encode()

    def _answer(
        self, method: str, path: str, query: Mapping[str, str], body: Json, content_type: str
    ) -> Json:
        match method:
            case "GET" if path in self.objects:
                return self.objects[path]
            case "GET" if _names(path) == ("", "") or path.rpartition("/")[2].endswith("s"):
                return self._page(path, query)
            case "POST":
                full = f"{path}/{body['metadata']['name']}"
                if full in self.objects:
                    raise ApiError(409, "AlreadyExists", f"{full} is there")
                return self.put(full, body)
            case "DELETE" if path in self.objects:
                wanted = body.get("preconditions", {}).get("resourceVersion")
                if wanted not in (None, self.objects[path]["metadata"]["resourceVersion"]):
                    raise ApiError(409, "Conflict", f"{path} has been modified")
                return self.objects.pop(path)
            case "PATCH":
                assert content_type == MERGE_PATCH
                return self._patch(path, body)
        raise ApiError(404, "NotFound", f"{path} is not there")

    def _patch(self, path: str, body: Json) -> Json:
        subresource = path.endswith("/status")
        path = path.removesuffix("/status")
        if path not in self.objects:
            raise ApiError(404, "NotFound", f"{path} is not there")
        before = self.objects[path]
        wanted = body.get("metadata", {}).get("resourceVersion")
        if wanted is not None and wanted != before["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict", f"{path} has been modified")
        change = {"status": body.get("status", {})} if subresource else {**body, "status": {}}
        after = merge_patch(before, change)
        return before if after == before else self.put(path, after)

    def _page(self, path: str, query: Mapping[str, str]) -> Json:
        group, _, plural = path.rpartition("/")
        items = [
            obj
            for at, obj in sorted(self.objects.items())
            if at.startswith(group + "/") and at.split("/")[-2] == plural and _has_labels(obj, query)
        ]
        first, size = int(query.get("continue") or 0), int(query.get("limit") or len(items))
        more = {"continue": str(first + size)} if first + size < len(items) else {}
        return {"metadata": more, "items": items[first : first + size]}


def merge_patch(before: Json, change: Json) -> Json:
    """RFC 7386."""
    after = dict(before)
    for name, value in change.items():
        if value is None:
            after.pop(name, None)
        elif isinstance(value, dict):
            inner = after.get(name)
            after[name] = merge_patch(inner if isinstance(inner, dict) else {}, value)
        else:
            after[name] = value
    return after


def _has_labels(obj: Json, query: Mapping[str, str]) -> bool:
    wanted = [pair.split("=") for pair in query.get("labelSelector", "").split(",") if pair]
    labels = obj["metadata"].get("labels") or {}
    return all(labels.get(name) == value for name, value in wanted)


def _names(path: str) -> tuple[str, str]:
    """Namespace and name of the object there."""
    parts = path.split("/")
    if "namespaces" in parts:
        at = parts.index("namespaces")
        return parts[at + 1], parts[at + 3] if len(parts) > at + 3 else ""
    return "", parts[5] if len(parts) > 5 else ""
