"""HTTP to the API server: raw bytes in and out, on one event loop."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

import aiohttp
import msgspec

from blixt_frontend.kubernetes.access import Access, AccessError, Way

log = logging.getLogger(__name__)

#: Content types of PATCH.
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

#: A line of a watch is one object, and etcd takes no more than a few MB of it.
_LONGEST_LINE = 64 << 20
_CONNECT_SECONDS = 10.0

#: The reason of an ApiError for a watch on which nothing came for too long.
SILENT = "Silent"


class ApiError(Exception):
    """A request that failed.

    `status` is HTTP's, or 0 where no whole answer came. `reason` is Kubernetes' word for it (NotFound,
    Conflict, Forbidden, Expired ...), "Unreachable", or SILENT. `retry_after`: seconds, if the server says.
    """

    def __init__(self, status: int, reason: str, message: str, retry_after: float = 0.0) -> None:
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
        super().__init__(f"{message} ({status} {reason})" if status else message)


class _Explanation(msgspec.Struct):
    """metav1.Status, by which servers explain failures."""

    message: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    #: Until the answer was read; None: any time.
    seconds: float | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class ApiClient:
    """One API server, any number of requests at a time. Open it by `async with` on the loop that uses it.

    Credentials are read again, in a thread, when the server does not take them any more, and every minute
    where they are known to be rotated. Opening raises AccessError; later on, what can't be read any more is
    logged, and the old ones are used.
    """

    def __init__(self, way: Way, *, request_seconds: float = 60.0) -> None:
        self._way = way
        self._request_seconds = request_seconds
        self._access: Access | None = None
        self._loaded_at = 0.0
        self._loading = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._access = await asyncio.to_thread(self._way.load)
        self._loaded_at = asyncio.get_running_loop().time()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            # Compressing costs the server more than it saves on a cluster's network.
            headers={
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": "blixt-frontend",
            },
            read_bufsize=1 << 20,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        """The answer's body. `path` begins with a slash, e.g. `/api/v1/services`. Raises ApiError.

        `body` is JSON (which is YAML, too). For PATCH, `content_type` says of which kind it is: MERGE_PATCH,
        JSON_PATCH or APPLY_PATCH.
        """
        headers = {"Content-Type": content_type} if body is not None else {}
        request = _Request(method, path, query or {}, headers, body, self._request_seconds)
        async with self._answer(request) as answer:
            return await answer.read()

    async def watch(
        self, path: str, query: Mapping[str, str], *, silence: float
    ) -> AsyncGenerator[list[bytes], None]:
        """Whole lines, one event each, as many at a time as have come. Ends when the server ends it.

        Raises ApiError, also if no line comes for `silence` seconds, even if single bytes do. Close it
        (contextlib.aclosing) to let go of the connection.
        """
        loop = asyncio.get_running_loop()
        limit = loop.time() + silence
        unfinished: list[bytes] = []
        size = 0
        async with self._answer(_Request("GET", path, {**query, "watch": "true"}), limit) as answer:
            while True:
                try:
                    async with asyncio.timeout_at(limit):
                        chunk = await answer.content.readany()
                except TimeoutError as error:
                    problem = f"GET {path}: nothing for {silence:g} s"
                    raise ApiError(0, SILENT, problem) from error
                if not chunk:
                    return
                lines, newline, rest = chunk.rpartition(b"\n")
                if newline:
                    yield b"".join((*unfinished, lines)).split(b"\n")
                    unfinished, size = [], 0
                    limit = loop.time() + silence
                unfinished.append(rest)
                size += len(rest)
                if size > _LONGEST_LINE:
                    raise ApiError(0, "Unreachable", f"GET {path}: a line without an end")

    @asynccontextmanager
    async def _answer(
        self, request: _Request, limit: float | None = None
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """A good answer, which begins before `limit`. What goes wrong until it was read is an ApiError."""
        try:
            async with asyncio.timeout_at(limit):
                answer = await self._send(request)
            async with answer:
                if answer.status >= 300:
                    raise _refusal(request, answer, await answer.read())
                yield answer
        except TimeoutError as error:
            raise ApiError(0, "Unreachable", f"{request}: no answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ApiError(0, "Unreachable", f"{request}: {_problem(error)}") from error

    async def _send(self, request: _Request) -> aiohttp.ClientResponse:
        """Any answer; credentials that are refused are renewed once."""
        access = await self._current_access()
        answer = await self._send_as(access, request)
        if answer.status == 401 and await self._renew(access):
            answer.release()
            answer = await self._send_as(await self._current_access(), request)
        return answer

    async def _send_as(self, access: Access, request: _Request) -> aiohttp.ClientResponse:
        if self._session is None:
            raise RuntimeError("the API client is not open")
        authorization = {"Authorization": access.authorization} if access.authorization else {}
        try:
            return await self._session.request(
                request.method,
                access.server + request.path,
                params=request.query,
                data=request.body,
                headers={**request.headers, **authorization},
                timeout=aiohttp.ClientTimeout(total=request.seconds, sock_connect=_CONNECT_SECONDS),
                ssl=access.tls or True,
                server_hostname=access.server_name,
                proxy=access.proxy,
                allow_redirects=False,
            )
        except aiohttp.ClientConnectorCertificateError:
            await self._renew(access)  # for the next attempt: the authority may have been replaced
            raise

    async def _current_access(self) -> Access:
        access = self._access
        if access is None:
            raise RuntimeError("the API client is not open")
        renewal = self._way.renewal
        if renewal is not None and asyncio.get_running_loop().time() - self._loaded_at > renewal:
            await self._renew(access)
        return self._access or access

    async def _renew(self, used: Access) -> bool:
        """Read credentials again, unless that was done since `used` was. True if they differ from it."""
        async with self._loading:
            if self._access is used:
                self._loaded_at = asyncio.get_running_loop().time()
                try:
                    new = await asyncio.to_thread(self._way.load)
                except AccessError as error:
                    log.error("%s; going on with the credentials in hand", error)
                    return False
                if new.tls_digest == used.tls_digest:
                    new = replace(new, tls=used.tls)  # open connections are bound to their context
                self._access = used if new == used else new
            return self._access is not used


def _problem(error: Exception) -> str:
    """In a user's words: aiohttp's show its insides."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return str(error.certificate_error)
        case aiohttp.ClientConnectorError(os_error=cause):
            reason = os.strerror(cause.errno) if cause.errno and cause.errno > 0 else str(cause)
            return f"cannot connect to {error.host}:{error.port}: {reason}"
        case aiohttp.ClientPayloadError() | aiohttp.ServerDisconnectedError():
            return "the connection broke off"
        case _:
            return str(error) or type(error).__name__


def _refusal(request: _Request, answer: aiohttp.ClientResponse, body: bytes) -> ApiError:
    try:
        explanation = msgspec.json.decode(body, type=_Explanation)
    except (msgspec.DecodeError, UnicodeDecodeError):
        explanation = _Explanation()
    try:
        retry_after = max(0.0, float(answer.headers.get("Retry-After", "0")))
    except ValueError:
        retry_after = 0.0  # a date, which no API server sends
    message = explanation.message or answer.reason or "refused"
    reason = explanation.reason or answer.reason or "Unknown"
    return ApiError(answer.status, reason, f"{request}: {message}", retry_after)
