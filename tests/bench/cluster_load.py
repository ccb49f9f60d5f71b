"""A client of the API server for bulk and for stopwatches: asyncio, raw bytes, the admin's certificate."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncGenerator, Iterable
from types import TracebackType
from typing import Any, Self

import aiohttp

from bench.cluster_objects import Creation
from blixt_control_plane import ControlPlane

JSON_PATCH = "application/json-patch+json"
#: Requests at a time.
_WIDTH = 24


class LoadError(Exception):
    """The API server refused something that it should not."""


class Load:
    """Open it on the loop, and in the network namespace, that use it."""

    def __init__(self, plane: ControlPlane) -> None:
        self._server = plane.server
        certificates = plane.layout.certificates
        self._tls = ssl.create_default_context(cafile=str(certificates.authority))
        self._tls.load_cert_chain(certificates.admin.cert, certificates.admin.key)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            self._server,
            connector=aiohttp.TCPConnector(limit=0, ssl=self._tls),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
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
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> bytes:
        """The answer. Raises LoadError."""
        sent = None if body is None else json.dumps(body)
        headers = {"Content-Type": content_type}
        async with self._opened().request(method, path, data=sent, headers=headers) as answer:
            text = await answer.read()
            if answer.status >= 300:
                raise LoadError(f"{method} {path}: {answer.status} {text[:300].decode(errors='replace')}")
            return text

    async def get(self, path: str) -> Any:
        return json.loads(await self.request("GET", path))

    async def create(self, objects: Iterable[Creation]) -> int:
        """Post all of them, many at a time, about in their order; how many they were. Raises LoadError."""
        todo = iter(objects)
        done = 0

        async def work() -> None:
            nonlocal done
            for creation in todo:
                await self.request("POST", creation.path, creation.body)
                done += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(_WIDTH):
                group.create_task(work())
        return done

    async def watch(self, path: str) -> AsyncGenerator[tuple[float, bytes], None]:
        """Every change from now on, as a watch's line, with the time at which it came."""
        version = (await self.get(f"{path}?limit=1"))["metadata"]["resourceVersion"]
        query = {"watch": "true", "resourceVersion": version}
        unfinished = b""
        async with self._opened().get(path, params=query) as answer:
            while chunk := await answer.content.readany():
                came = time.monotonic()
                *lines, unfinished = (unfinished + chunk).split(b"\n")
                for line in lines:
                    yield came, line

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the load's session is not open")
        return self._session
