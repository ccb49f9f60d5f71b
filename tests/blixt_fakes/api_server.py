"""A Kubernetes API server as clients see one: discovery, lists in pages, watches; and what can go wrong.

One process, one loop. State changes and faults are plain method calls between requests.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from aiohttp import web

from blixt_frontend.kubernetes.access import Access

Value = dict[str, Any]

GATEWAY = "gateway.networking.k8s.io"
CORE = {
    "services": "Service",
    "nodes": "Node",
    "namespaces": "Namespace",
    "endpointslices": "EndpointSlice",
    "secrets": "Secret",
}
CUSTOM = {
    "gatewayclasses": "GatewayClass",
    "gateways": "Gateway",
    "tcproutes": "TCPRoute",
    "udproutes": "UDPRoute",
    "httproutes": "HTTPRoute",
    "tlsroutes": "TLSRoute",
    "referencegrants": "ReferenceGrant",
}


@dataclass(frozen=True, slots=True)
class Change:
    revision: int
    plural: str
    type: str
    value: Value

    @property
    def line(self) -> bytes:
        return json.dumps({"type": self.type, "object": self.value}).encode() + b"\n"


@dataclass(eq=False)
class Watcher:
    """An open watch. What is put into `lines` is sent as it is; an exception is what happens to it."""

    plural: str
    since: int
    hangs: bool = False
    lines: asyncio.Queue[bytes | type[BaseException] | None] = field(default_factory=asyncio.Queue)


@dataclass
class Refusal:
    """The answer in place of the real one, `times` times."""

    status: int
    reason: str = ""
    retry_after: int | None = None
    times: int = 1

    def response(self) -> web.Response:
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return web.json_response(_status(self.status, self.reason), status=self.status, headers=headers)


class FakeApiServer:
    """Use as `async with FakeApiServer() as server:` and connect to `server.url`."""

    def __init__(self) -> None:
        self.revision = 1
        self.compacted = 0
        self.objects: dict[str, dict[tuple[str, str], Value]] = {p: {} for p in (*CORE, *CUSTOM)}
        #: Versions of the Gateway API group, and the plurals that each serves.
        self.served: dict[str, set[str]] = {}
        self.tokens: set[str] = set()
        self.refusals: dict[tuple[str, str], deque[Refusal]] = {}
        self.requests: Counter[tuple[str, str]] = Counter()
        #: (plural, query) of every list and watch.
        self.queries: list[tuple[str, dict[str, str]]] = []
        self.watchers: list[Watcher] = []
        #: Called after each page of a list, with its plural.
        self.page_served: Callable[[str], None] = lambda _: None
        self._history: list[Change] = []
        self._runner: web.AppRunner | None = None
        self._port = 0

    # -- state

    def put(self, plural: str, value: Mapping[str, Any]) -> None:
        """Create or replace; `value` needs metadata with a name, and is given a version."""
        metadata = dict(value["metadata"])
        key = (metadata.get("namespace", ""), metadata["name"])
        self.revision += 1
        metadata["resourceVersion"] = str(self.revision)
        whole = {**value, "metadata": metadata}
        self._tell(plural, "MODIFIED" if key in self.objects[plural] else "ADDED", whole)
        self.objects[plural][key] = whole

    def delete(self, plural: str, name: str, namespace: str = "") -> None:
        whole = self.objects[plural].pop((namespace, name))
        self.revision += 1
        metadata = {**whole["metadata"], "resourceVersion": str(self.revision)}
        self._tell(plural, "DELETED", {**whole, "metadata": metadata})

    def compact(self) -> None:
        """Forget what has happened so far: watches from before now are answered by 410."""
        self.compacted = self.revision
        self._history.clear()

    def bookmark(self, plural: str) -> None:
        value = {"kind": "x", "metadata": {"resourceVersion": str(self.revision), "creationTimestamp": None}}
        self._send(plural, json.dumps({"type": "BOOKMARK", "object": value}).encode() + b"\n", 0)

    def lose_everything(self) -> None:
        """As an etcd that was set up anew."""
        for plural in self.objects:
            self.objects[plural].clear()
        self.revision, self.compacted = 1, 0
        self._history.clear()

    # -- faults

    def refuse(self, verb: str, plural: str, status: int, reason: str = "", **more: Any) -> None:
        """`verb`: list, watch or get (discovery, with the path as `plural`)."""
        self.refusals.setdefault((verb, plural), deque()).append(Refusal(status, reason, **more))

    def send(self, plural: str, line: bytes) -> None:
        """The same bytes to every watch of a kind."""
        for watcher in self.watchers:
            if watcher.plural == plural:
                watcher.lines.put_nowait(line)

    def hang_watches(self) -> None:
        """Those that are open now never tell anything again."""
        for watcher in self.watchers:
            watcher.hangs = True

    def end_watches(self, *, reset: bool = False) -> None:
        for watcher in self.watchers:
            watcher.lines.put_nowait(ConnectionResetError if reset else None)

    def watching(self, plural: str) -> int:
        return sum(watcher.plural == plural for watcher in self.watchers)

    # -- the server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Again on the same port, if it was stopped."""
        app = web.Application(middlewares=[self._guard])
        for prefix in ("/api/v1", "/apis/{group}/{version}"):
            app.router.add_get(f"{prefix}/{{plural}}", self._serve)
        app.router.add_get("/apis/{group}", self._serve_group)
        app.router.add_get("/apis/{group}/{version}", self._serve_version)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        server: Any = site._server
        self._port = server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self.end_watches(reset=True)
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        verb, what = self._ask(request)
        self.requests[verb, what] += 1
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.tokens and token not in self.tokens:
            return Refusal(401, "Unauthorized").response()
        waiting = self.refusals.get((verb, what))
        if waiting:
            refusal = waiting[0]
            refusal.times -= 1
            if refusal.times <= 0:
                waiting.popleft()
            return refusal.response()
        response: web.StreamResponse = await handler(request)
        return response

    def _ask(self, request: web.Request) -> tuple[str, str]:
        plural = request.match_info.get("plural")
        if plural is None:
            return "get", request.path
        return ("watch" if request.query.get("watch") == "true" else "list"), plural

    async def _serve_group(self, request: web.Request) -> web.Response:
        if request.match_info["group"] != GATEWAY or not self.served:
            return Refusal(404, "NotFound").response()
        versions = [{"groupVersion": f"{GATEWAY}/{v}", "version": v} for v in self.served]
        return web.json_response({"kind": "APIGroup", "name": GATEWAY, "versions": versions})

    async def _serve_version(self, request: web.Request) -> web.Response:
        plurals = self.served.get(request.match_info["version"])
        if plurals is None:
            return Refusal(404, "NotFound").response()
        resources = [{"name": name, "verbs": []} for p in sorted(plurals) for name in (p, f"{p}/status")]
        return web.json_response({"kind": "APIResourceList", "resources": resources})

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        plural, version = request.match_info["plural"], request.match_info.get("version", "v1")
        self.queries.append((plural, dict(request.query)))
        if plural not in CORE and plural not in self.served.get(version, ()):
            return Refusal(404, "NotFound").response()
        if request.query.get("watch") == "true":
            return await self._watch(request, plural)
        return self._list(request, plural)

    def _list(self, request: web.Request, plural: str) -> web.Response:
        """A continue token is the revision of the first page and the key to go on after. Later pages show the
        state of now, which is enough: a client that is given 410 in time can't tell."""
        limit = int(request.query.get("limit", "0"))
        revision, after = self.revision, None
        if "continue" in request.query:
            revision, after = json.loads(request.query["continue"])
            if revision < self.compacted or revision != self.revision:
                return Refusal(410, "Expired").response()
        keys = sorted(
            key
            for key, value in self.objects[plural].items()
            if (after is None or key > tuple(after)) and _selects(request, value)
        )
        page = keys[:limit] if limit else keys
        metadata: Value = {"resourceVersion": str(revision)}
        if len(page) < len(keys):
            metadata["continue"] = json.dumps([revision, page[-1]])
        items = [self.objects[plural][key] for key in page]
        self.page_served(plural)
        return web.json_response({"kind": "List", "metadata": metadata, "items": items or None})

    async def _watch(self, request: web.Request, plural: str) -> web.StreamResponse:
        since = int(request.query["resourceVersion"])
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        if since < self.compacted:
            event = {"type": "ERROR", "object": _status(410, "Expired")}
            await response.write(json.dumps(event).encode() + b"\n")
            return response
        watcher = Watcher(plural, since)
        for change in self._history:
            if change.plural == plural and change.revision > since and _selects(request, change.value):
                watcher.lines.put_nowait(change.line)
        self.watchers.append(watcher)
        try:
            async with asyncio.timeout(float(request.query["timeoutSeconds"])):
                await self._stream(request, response, watcher)
        except TimeoutError:
            pass
        finally:
            self.watchers.remove(watcher)
        return response

    async def _stream(self, request: web.Request, response: web.StreamResponse, watcher: Watcher) -> None:
        while (line := await watcher.lines.get()) is not None:
            if not isinstance(line, bytes):
                if request.transport is not None:
                    request.transport.abort()
                return
            await response.write(line)

    def _tell(self, plural: str, type_: str, value: Value) -> None:
        change = Change(self.revision, plural, type_, value)
        self._history.append(change)
        self._send(plural, change.line, change.revision)

    def _send(self, plural: str, line: bytes, revision: int) -> None:
        for watcher in self.watchers:
            if watcher.plural == plural and not watcher.hangs and not 0 < revision <= watcher.since:
                watcher.lines.put_nowait(line)


@dataclass(frozen=True, slots=True)
class Plain:
    """The way to it; `token`, if any, is in a file, and read again when it is refused."""

    url: str
    token: Path | None = None
    renewal: ClassVar[float | None] = None

    def load(self) -> Access:
        authorization = f"Bearer {self.token.read_text()}" if self.token else ""
        return Access(self.url, authorization=authorization)


def _selects(request: web.Request, value: Value) -> bool:
    """By a field selector of one field, which watches that are open already don't look at."""
    field_name, _, wanted = request.query.get("fieldSelector", "").partition("=")
    return not field_name or value.get(field_name) == wanted


def _status(code: int, reason: str) -> Value:
    return {"kind": "Status", "code": code, "reason": reason, "message": f"no: {reason}"}


@asynccontextmanager
async def api_server(**served: set[str]) -> AsyncIterator[FakeApiServer]:
    """Serves these versions of the Gateway API, by default v1 of every kind."""
    server = FakeApiServer()
    server.served = served or {"v1": set(CUSTOM)}
    async with server:
        yield server
