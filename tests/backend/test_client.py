"""client: against a real gRPC server, with its faults."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import grpc
import pytest
import trustme

from blixt_api import localv1_pb2 as pb
from blixt_backend.client import Client, Patience
from blixt_backend.decode import EVERY_SCOPE
from blixt_backend.driver import Driver
from blixt_backend.model import ChangeSet, Scope
from blixt_backend.planes.fake import RecordingPlane
from blixt_backend.rounds import Round
from blixt_backend.tls import Api, TlsFiles
from blixt_fakes.frontend import Frontend, Request
from blixt_fakes.items import endpoint, service
from blixt_fakes.until import until

EAGER = Patience(first=0.01, most=0.05, jitter=0.01)
METHODS = pytest.mark.parametrize("methods", [("blixt.v1", "localv1"), ("localv1",)], ids=["blixt", "kpng"])
A, B, A1 = service("ns/a"), service("ns/b"), endpoint("ns/a/1")


def watching(frontend: Frontend, tls: TlsFiles | None = None) -> Client:
    return Client(Api(frontend.address, tls), "node-1", EAGER)


async def next_round(client: Client) -> Round:
    async with asyncio.timeout(30):
        return await client.next_round()


@METHODS
async def test_rounds_come_when_asked_for(methods: tuple[str, ...]) -> None:
    async with Frontend(methods) as frontend:
        frontend.set(A, A1, *(service(f"ns/{n}") for n in range(10)))
        async with watching(frontend) as client:
            first = await next_round(client)
            assert first.reset
            assert len(first.services) == 11
            assert first.endpoints_of("ns/a").keys() == {"1"}
            frontend.delete(A1[0])
            second = await next_round(client)
            assert not second.reset
            assert (second.services, second.endpoints) == ({}, {"ns/a": {"1": None}})
        assert {request.node for request in frontend.requests} == {"node-1"}


async def test_a_server_without_our_stream_is_watched_as_kpngs() -> None:
    async with Frontend(("localv1",)) as frontend:
        frontend.set(A)
        async with watching(frontend) as client:
            assert (await next_round(client)).revision == 0
        assert [request.method for request in frontend.requests] == ["localv1"]


async def test_our_stream_is_taken_where_it_is_offered() -> None:
    async with Frontend() as frontend:
        frontend.set(A)
        async with watching(frontend) as client:
            received = await next_round(client)
            assert received.revision == frontend.revision
            client.applied_revision = received.revision
            frontend.set(B)
            await next_round(client)
        assert frontend.requests == [Request("blixt.v1", "node-1", 0), Request("blixt.v1", "node-1", 2)]


@pytest.mark.parametrize(
    ("methods", "expected"),
    [(("blixt.v1",), Scope.INTERNAL), (("localv1",), Scope.INTERNAL | Scope.CLUSTER)],
)
async def test_kpngs_endpoints_serve_the_cluster(methods: tuple[str, ...], expected: Scope) -> None:
    internal = pb.Endpoint(Scopes=pb.EndpointScopes(Internal=True)).SerializeToString()
    async with Frontend(methods) as frontend:
        frontend.set(((pb.EndpointsSet, "ns/a/1"), internal), ((pb.EndpointsSet, "ns/a/old"), b""))
        async with watching(frontend) as client:
            endpoints = (await next_round(client)).endpoints_of("ns/a")
    decoded = {key: packed.kind.like.scopes for key, packed in endpoints.items() if packed}
    assert decoded == {"1": expected, "old": EVERY_SCOPE}


@METHODS
async def test_a_first_round_is_a_full_set_even_if_nobody_says_so(methods: tuple[str, ...]) -> None:
    async with Frontend(methods) as frontend:
        frontend.faults.no_reset = True
        frontend.set(A)
        async with watching(frontend) as client:
            assert (await next_round(client)).reset
            frontend.set(B)
            assert not (await next_round(client)).reset


@METHODS
async def test_a_round_that_breaks_in_the_middle_leaves_no_trace(
    methods: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    async with Frontend(methods) as frontend:
        frontend.set(A, B, A1)
        frontend.faults.broken_rounds = 3
        async with watching(frontend) as client:
            received = await next_round(client)
        assert received.reset
        assert received.services.keys() == {"ns/a", "ns/b"}
        assert len(frontend.requests) == 4
    assert "UNAVAILABLE: told to break; trying again" in caplog.text


@METHODS
async def test_a_message_that_is_none_breaks_the_stream(
    methods: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    async with Frontend(methods) as frontend:
        frontend.set(A, B)
        frontend.faults.garbage = b"\xff\xff"
        async with watching(frontend) as client:
            assert (await next_round(client)).services.keys() == {"ns/a", "ns/b"}
    assert "a message that can't be decoded" in caplog.text


@METHODS
async def test_a_server_that_comes_late_goes_and_comes_back(methods: tuple[str, ...]) -> None:
    async with Frontend(methods) as probe:
        address = probe.address
    frontend = Frontend(methods, address=address)
    frontend.set(A)
    async with watching(frontend) as client:
        first = asyncio.create_task(next_round(client))
        await asyncio.sleep(0.1)
        await frontend.start()
        assert (await first).reset
        await frontend.stop()
        frontend.set(B)
        second = asyncio.create_task(next_round(client))
        await frontend.start()
        received = await second
        assert received.reset
        assert received.services.keys() == {"ns/a", "ns/b"}
    await frontend.stop()


async def test_a_stream_that_ended_between_rounds_is_opened_again() -> None:
    async with Frontend() as frontend:
        frontend.set(A)
        async with watching(frontend) as client:
            await next_round(client)
            await frontend.stop()
            await frontend.start()
            assert (await next_round(client)).reset
            assert frontend.streams == 2


async def test_a_frontend_that_turns_into_kpngs_and_back() -> None:
    frontend = Frontend()
    frontend.set(A)
    await frontend.start()
    async with watching(frontend) as client:
        client.applied_revision = (await next_round(client)).revision
        for methods, revision in ((("localv1",), 0), (("blixt.v1",), frontend.revision)):
            await frontend.stop()
            frontend.methods = methods
            await frontend.start()
            received = await next_round(client)
            assert (received.reset, received.revision) == (True, revision)
            client.applied_revision = received.revision
    await frontend.stop()


async def test_a_server_with_no_stream_at_all_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    async with Frontend(()) as frontend, watching(frontend) as client:
        waiting = asyncio.create_task(next_round(client))
        await until(lambda: "none of the streams" in caplog.text)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_a_cancelled_wait_closes_the_stream() -> None:
    async with Frontend() as frontend, watching(frontend) as client:
        frontend.set(A)
        await next_round(client)
        waiting = asyncio.create_task(next_round(client))
        await until(lambda: len(frontend.requests) == 2)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (await next_round(client)).reset


async def test_a_unix_socket(tmp_path: Path) -> None:
    async with Frontend(address=f"unix:{tmp_path}/api.sock") as frontend:
        frontend.set(A)
        async with watching(frontend) as client:
            assert (await next_round(client)).services.keys() == {"ns/a"}


async def test_a_large_round() -> None:
    async with Frontend(batch=1000) as frontend:
        frontend.set(*(service(f"ns/{n}") for n in range(5000)))
        async with watching(frontend) as client:
            assert len((await next_round(client)).services) == 5000


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def serving(authority: trustme.CA, name: str) -> grpc.ServerCredentials:
    issued = authority.issue_cert(name)
    return grpc.ssl_server_credentials(
        [(issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes())],
        root_certificates=authority.cert_pem.bytes(),
        require_client_auth=True,
    )


def node_files(authority: trustme.CA, folder: Path, server_name: str = "") -> TlsFiles:
    files = TlsFiles(folder / "ca.pem", folder / "node.pem", folder / "node.key", server_name)
    assert files.authority
    assert files.certificate
    assert files.key
    issued = authority.issue_cert("node-1")
    authority.cert_pem.write_to_path(files.authority)
    issued.cert_chain_pems[0].write_to_path(files.certificate)
    issued.private_key_pem.write_to_path(files.key)
    return files


@pytest.mark.parametrize(("certified", "name"), [("127.0.0.1", ""), ("api.example", "api.example")])
async def test_mutual_tls(authority: trustme.CA, tmp_path: Path, certified: str, name: str) -> None:
    async with Frontend(credentials=serving(authority, certified)) as frontend:
        frontend.set(A)
        async with watching(frontend, node_files(authority, tmp_path, name)) as client:
            assert (await next_round(client)).services.keys() == {"ns/a"}


async def test_renewed_certificates_are_taken_at_the_next_attempt(
    authority: trustme.CA, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Frontend(credentials=serving(authority, "127.0.0.1")) as frontend:
        frontend.set(A)
        files = node_files(trustme.CA(), tmp_path)  # of an authority that the frontend does not know
        async with watching(frontend, files) as client:
            waiting = asyncio.create_task(next_round(client))
            await until(lambda: "trying again" in caplog.text)
            assert not waiting.done()
            node_files(authority, tmp_path)
            assert (await waiting).services.keys() == {"ns/a"}


async def test_what_was_applied_stays_while_the_server_is_gone_or_never_ends_a_round(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    frontend, plane, stop = Frontend(), RecordingPlane(), asyncio.Event()
    frontend.set(A, A1)
    await frontend.start()
    running = asyncio.create_task(Driver(watching(frontend), plane).run(stop))
    await until(lambda: plane.held.keys() == {"ns/a"})
    await frontend.stop()
    frontend.faults.no_sync = True
    frontend.set(B)
    asked = len(frontend.requests)
    await frontend.start()
    await until(lambda: len(frontend.requests) > asked)
    await asyncio.sleep(0.1)
    assert len(plane.applied) == 1
    await frontend.stop()
    frontend.faults.no_sync = False
    await frontend.start()
    await until(lambda: plane.held.keys() == {"ns/a", "ns/b"})
    assert plane.applied[-1].resync
    stop.set()
    await running
    await frontend.stop()


async def test_a_slow_plane_gets_one_merged_difference() -> None:
    go_on = asyncio.Event()

    class Slow(RecordingPlane):
        async def apply(self, change: ChangeSet) -> None:
            await go_on.wait()
            await super().apply(change)

    frontend, plane, stop = Frontend(), Slow(), asyncio.Event()
    frontend.set(A)
    await frontend.start()
    running = asyncio.create_task(Driver(watching(frontend), plane).run(stop))
    await until(lambda: len(frontend.requests) == 1)
    for n in range(50):
        frontend.set(service(f"ns/{n}"))
        await asyncio.sleep(0)
    go_on.set()
    await until(lambda: len(plane.held) == 51)
    assert len(plane.applied) <= 2
    stop.set()
    await running
    await frontend.stop()
