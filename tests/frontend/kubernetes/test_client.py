"""Requests and watches: what comes back, what is raised, what is renewed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import trustme
from aiohttp import web

from blixt_frontend.kubernetes.access import Access, AccessError
from blixt_frontend.kubernetes.client import MERGE_PATCH, ApiClient, ApiError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def server(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    inside: Any = site._server
    try:
        yield f"{'https' if tls else 'http'}://localhost:{inside.sockets[0].getsockname()[1]}"
    finally:
        await runner.cleanup()


@dataclass
class Way:
    """Answers that were prepared, in their order; the last one for ever."""

    answers: list[Access | AccessError]
    renewal: float | None = None
    loads: int = field(default=0)

    def load(self) -> Access:
        answer = self.answers[min(self.loads, len(self.answers) - 1)]
        self.loads += 1
        if isinstance(answer, AccessError):
            raise answer
        return answer


async def test_a_request_as_it_was_asked_for() -> None:
    seen: list[Any] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.method, request.path_qs, request.content_type, await request.read()))
        return web.Response(body=b"\x00raw")

    async with server(handler) as url, ApiClient(Way([Access(url)])) as client:
        patch = b'{"status": {}}'
        query = {"fieldManager": "blixt", "continue": "a=/+ä"}
        path = "/api/v1/namespaces/x/services/y/status"
        answer = await client.request("PATCH", path, query=query, body=patch, content_type=MERGE_PATCH)
        await client.request("DELETE", path)
    assert answer == b"\x00raw"
    assert seen[0] == ("PATCH", path + "?fieldManager=blixt&continue=a%3D/%2B%C3%A4", MERGE_PATCH, patch)
    assert (seen[1][0], seen[1][3]) == ("DELETE", b"")


@pytest.mark.parametrize(
    ("status", "body", "headers", "reason", "message", "retry_after"),
    [
        (409, b'{"reason": "Conflict", "message": "was modified"}', {}, "Conflict", "was modified", 0),
        (429, b"{}", {"Retry-After": "7"}, "Too Many Requests", "Too Many Requests", 7),
        (503, b"<html>", {"Retry-After": "soon"}, "Service Unavailable", "Service Unavailable", 0),
        (302, b"", {"Location": "http://elsewhere/"}, "Found", "Found", 0),
        (500, b'{"message": null}', {}, "Internal Server Error", "Internal Server Error", 0),
    ],
)
async def test_refusals(
    status: int, body: bytes, headers: dict[str, str], reason: str, message: str, retry_after: float
) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=status, body=body, headers=headers)

    async with server(handler) as url, ApiClient(Way([Access(url)])) as client:
        with pytest.raises(ApiError) as refused:
            await client.request("GET", "/x")
    error = refused.value
    assert (error.status, error.reason, error.retry_after) == (status, reason, retry_after)
    assert str(error) == f"GET /x: {message} ({status} {reason})"


async def test_nobody_there_and_no_answer() -> None:
    async def handler(_: web.Request) -> web.Response:
        await asyncio.sleep(1000)
        return web.Response()

    async with server(handler) as url:
        async with ApiClient(Way([Access(url)]), request_seconds=0.1) as client:
            with pytest.raises(ApiError, match="GET /x: no answer in time") as late:
                await client.request("GET", "/x")
            with pytest.raises(ApiError, match="GET /y: no answer in time"):
                async for _ in client.watch("/y", {}, silence=0.1):
                    pass
        assert (late.value.status, late.value.reason) == (0, "Unreachable")
    async with ApiClient(Way([Access(url)])) as client:
        with pytest.raises(ApiError, match=r"\AGET /x: cannot connect to localhost:\d+: .+ refused\Z"):
            await client.request("GET", "/x")


class TestCredentials:
    @staticmethod
    async def only_new(request: web.Request) -> web.Response:
        return web.Response(status=200 if request.headers.get("Authorization") == "Bearer new" else 401)

    async def test_renewed_when_they_are_refused(self) -> None:
        """Once for all requests that were refused, and once only for each."""
        async with server(self.only_new) as url:
            way = Way([Access(url, authorization="Bearer old"), Access(url, authorization="Bearer new")])
            async with ApiClient(way) as client:
                await asyncio.gather(*(client.request("GET", "/x") for _ in range(5)))
            assert way.loads == 2

    async def test_still_refused(self) -> None:
        async with server(self.only_new) as url:
            way = Way([Access(url, authorization=f"Bearer {number}") for number in range(5)])
            async with ApiClient(way) as client:
                with pytest.raises(ApiError, match="401"):
                    await client.request("GET", "/x")
            assert way.loads == 2

    async def test_the_old_ones_are_kept_if_there_are_no_new_ones(self, caplog: Any) -> None:
        async with server(self.only_new) as url:
            way = Way(
                [
                    Access(url, authorization="Bearer old"),
                    AccessError("token: no such file"),
                    Access(url, authorization="Bearer new"),
                ]
            )
            async with ApiClient(way) as client:
                with pytest.raises(ApiError, match="401"):
                    await client.request("GET", "/x")
                await client.request("GET", "/x")
        assert "token: no such file; going on with the credentials in hand" in caplog.text

    async def test_renewed_in_time_where_they_are_rotated(self) -> None:
        async with server(self.only_new) as url:
            way = Way([Access(url, authorization="Bearer new")], renewal=0.0)
            async with ApiClient(way) as client:
                for _ in range(3):
                    await client.request("GET", "/x")
            assert way.loads == 4

    async def test_unusable_from_the_start(self) -> None:
        with pytest.raises(AccessError, match="nothing"):
            async with ApiClient(Way([AccessError("nothing")])):
                pass


class TestTls:
    async def test_certificates_of_both_sides_and_a_new_authority(self) -> None:
        old, new = trustme.CA(), trustme.CA()
        inside = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        inside.verify_mode = ssl.CERT_REQUIRED
        new.issue_cert("localhost").configure_cert(inside)
        new.configure_trust(inside)

        async def handler(_: web.Request) -> web.Response:
            return web.Response(body=b"in")

        async with server(handler, inside) as url:
            way = Way([Access(url, trusting(old), b"1"), Access(url, trusting(new), b"2")])
            async with ApiClient(way) as client:
                with pytest.raises(ApiError, match="certificate verify failed"):
                    await client.request("GET", "/x")
                assert await client.request("GET", "/x") == b"in"

    async def test_another_name_in_the_certificate(self) -> None:
        authority = trustme.CA()
        inside = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("kubernetes").configure_cert(inside)

        async def handler(_: web.Request) -> web.Response:
            return web.Response(body=b"in")

        async with server(handler, inside) as url:
            async with ApiClient(Way([Access(url, trusting(authority))])) as client:
                with pytest.raises(ApiError, match="certificate"):
                    await client.request("GET", "/x")
            way = Way([Access(url, trusting(authority), server_name="kubernetes")])
            async with ApiClient(way) as client:
                assert await client.request("GET", "/x") == b"in"


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    authority.issue_cert("client").configure_cert(context)
    return context


async def test_a_connection_that_breaks_off() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response

    async with server(handler) as url, ApiClient(Way([Access(url)])) as client:
        with pytest.raises(ApiError, match="GET /x: the connection broke off"):
            await client.request("GET", "/x")


async def test_a_watch_that_falls_silent() -> None:
    """Bytes that never become a line are silence, too."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"one\ntw")
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.01)

    async with server(handler) as url, ApiClient(Way([Access(url)])) as client:
        watch = client.watch("/x", {}, silence=0.2)
        received = await anext(watch)
        with pytest.raises(ApiError, match=r"GET /x: nothing for 0\.2 s") as silent:
            await anext(watch)
    assert received == [b"one"]
    assert silent.value.reason == "Silent"


async def test_lines_are_whole_however_they_are_cut() -> None:
    lines = [b'{"n": %d}' % number * (1 + number % 7) for number in range(200)]
    text = b"".join(line + b"\n" for line in lines)

    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.query["watch"] == "true"
        assert request.query["resourceVersion"] == "7"
        response = web.StreamResponse()
        await response.prepare(request)
        size = 1
        position = 0
        while position < len(text):
            await response.write(text[position : position + size])
            position, size = position + size, size % 61 + 1
        await response.write(b'{"unfinished')
        return response

    async with (
        server(handler) as url,
        ApiClient(Way([Access(url)])) as client,
        aclosing(client.watch("/x", {"resourceVersion": "7"}, silence=30)) as batches,
    ):
        received = [line async for batch in batches for line in batch]
    assert received == lines
