"""TLS and mutual TLS over real handshakes, and certificates that change."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
import trustme

from blixt_frontend.items import Item, ItemKind
from blixt_frontend.listeners import TcpAddress, UnixAddress
from blixt_frontend.server import Server, ServerConfig
from blixt_frontend.store import Store
from blixt_frontend.tls import Certificates, TlsError, TlsFiles
from blixt_watcher import Watcher

Ended = grpc.aio.AioRpcError


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def write(certificate: trustme.LeafCert, folder: Path) -> TlsFiles:
    chain = b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
    (folder / "tls.crt").write_bytes(chain)
    certificate.private_key_pem.write_to_path(folder / "tls.key")
    return TlsFiles(folder / "tls.crt", folder / "tls.key")


@pytest.fixture
def files(authority: trustme.CA, tmp_path: Path) -> TlsFiles:
    return write(authority.issue_cert("localhost"), tmp_path)


@pytest.fixture
def mutual(authority: trustme.CA, files: TlsFiles, tmp_path: Path) -> TlsFiles:
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    return TlsFiles(files.certificate, files.key, tmp_path / "ca.crt")


@asynccontextmanager
async def serving(files: TlsFiles, *more: UnixAddress) -> AsyncIterator[Server]:
    store = Store()
    store.replace("a", [Item(ItemKind.SERVICE, "ns/a", b"x")])
    store.set_ready()
    server = Server(store, ServerConfig((TcpAddress("localhost", 0), *more), tls=files, grace=0.5))
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def dialled(
    server: Server, authority: trustme.CA, client: trustme.LeafCert | None = None
) -> AsyncIterator[grpc.aio.Channel]:
    credentials = grpc.ssl_channel_credentials(
        authority.cert_pem.bytes(),
        client.private_key_pem.bytes() if client else None,
        b"".join(pem.bytes() for pem in client.cert_chain_pems) if client else None,
    )
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(server.addresses[0], credentials, options=options) as channel:
        yield channel


async def watch(
    server: Server, authority: trustme.CA, client: trustme.LeafCert | None = None, node: str = "n1"
) -> None:
    async with dialled(server, authority, client) as channel:
        assert (await Watcher(channel, node).pull()).reset


async def test_tls_without_client_certificates(authority: trustme.CA, files: TlsFiles) -> None:
    async with serving(files) as server:
        await watch(server, authority, node="any")
        with pytest.raises(Ended):
            await watch(server, trustme.CA())
        async with grpc.aio.insecure_channel(server.addresses[0]) as channel:
            with pytest.raises(Ended):
                await Watcher(channel, "n1").pull()


@pytest.mark.parametrize(
    "issue",
    [
        lambda ca: ca.issue_cert(common_name="n1"),
        lambda ca: ca.issue_cert(common_name="system:node:n1"),
        lambda ca: ca.issue_cert("n1"),
        lambda ca: ca.issue_cert("n0", "n1", common_name="x"),
    ],
    ids=["common name", "kubelet's common name", "DNS name", "second DNS name"],
)
async def test_a_node_may_watch_itself(
    authority: trustme.CA, mutual: TlsFiles, issue: Callable[[trustme.CA], trustme.LeafCert]
) -> None:
    async with serving(mutual) as server:
        await watch(server, authority, issue(authority))


async def test_a_node_may_not_watch_another(authority: trustme.CA, mutual: TlsFiles) -> None:
    client = authority.issue_cert("n1", common_name="system:node:n3")
    async with serving(mutual) as server:
        with pytest.raises(Ended) as ended:
            await watch(server, authority, client, node="n2")
        assert ended.value.code() == grpc.StatusCode.PERMISSION_DENIED
        assert ended.value.details() == (
            "node 'n2' was asked for, but the client's certificate allows only: n1, n3"
        )
        assert server.streams == {}


async def test_a_stream_can_not_change_to_another_node(authority: trustme.CA, mutual: TlsFiles) -> None:
    async with serving(mutual) as server, dialled(server, authority, authority.issue_cert("n1")) as channel:
        watcher = Watcher(channel, "n1")
        await watcher.pull()
        watcher.node = "n2"
        with pytest.raises(Ended) as ended:
            await watcher.pull()
        assert ended.value.code() == grpc.StatusCode.PERMISSION_DENIED


async def test_an_address_in_a_certificate_is_no_node_name(authority: trustme.CA, mutual: TlsFiles) -> None:
    async with serving(mutual) as server:
        with pytest.raises(Ended) as ended:
            await watch(server, authority, authority.issue_cert("192.0.2.1"), node="192.0.2.1")
        assert ended.value.code() == grpc.StatusCode.PERMISSION_DENIED
        assert "no name" in (ended.value.details() or "")


async def test_clients_without_a_certificate_of_ours_are_not_let_in(
    authority: trustme.CA, mutual: TlsFiles
) -> None:
    async with serving(mutual) as server:
        with pytest.raises(Ended):
            await watch(server, authority)
        with pytest.raises(Ended):
            await watch(server, authority, trustme.CA().issue_cert("n1"))
        await watch(server, authority, authority.issue_cert("n1"))


async def test_unix_sockets_are_without_tls(mutual: TlsFiles, tmp_path: Path) -> None:
    async with (
        serving(mutual, UnixAddress(tmp_path / "s")) as server,
        grpc.aio.insecure_channel(server.addresses[1]) as channel,
    ):
        assert (await Watcher(channel, "n1").pull()).reset


async def test_renewed_certificates_are_used_and_open_streams_stay(
    authority: trustme.CA, files: TlsFiles, tmp_path: Path
) -> None:
    other = trustme.CA()
    async with serving(files) as server, dialled(server, authority) as channel:
        watcher = Watcher(channel, "n1")
        await watcher.pull()
        write(other.issue_cert("localhost"), tmp_path)
        await watch(server, other)
        with pytest.raises(Ended):
            await watch(server, authority)
        await watcher.ask()
        server._store.replace("b", [Item(ItemKind.SERVICE, "ns/b", b"x")])
        assert (await watcher.answer()).sets == {"ns/b": b"x"}


@pytest.mark.parametrize("broken", ["tls.crt", "tls.key"])
async def test_broken_files_change_nothing(
    authority: trustme.CA, files: TlsFiles, tmp_path: Path, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(files) as server:
        (tmp_path / broken).write_text("rubbish")
        with caplog.at_level(logging.ERROR):
            await watch(server, authority)
            await watch(server, authority)
        assert len([r for r in caplog.records if "certificates in force stay" in r.getMessage()]) == 1
        (tmp_path / broken).unlink()
        await watch(server, authority)
        write(authority.issue_cert("localhost"), tmp_path)
        await watch(server, authority)


async def test_every_port_learns_of_renewed_certificates(
    authority: trustme.CA, files: TlsFiles, tmp_path: Path
) -> None:
    other = trustme.CA()
    store = Store()
    store.set_ready()
    ports = (TcpAddress("localhost", 0), TcpAddress("localhost", 0))
    server = Server(store, ServerConfig(ports, tls=files, grace=0.5))
    await server.start()
    try:
        for ca in (authority, other):
            write(ca.issue_cert("localhost"), tmp_path)
            for address in server.addresses:
                credentials = grpc.ssl_channel_credentials(ca.cert_pem.bytes())
                async with grpc.aio.secure_channel(address, credentials) as channel:
                    assert (await Watcher(channel, "n1").pull()).reset
    finally:
        await server.stop()


def test_unchanged_files_are_not_read_again(files: TlsFiles) -> None:
    certificates = Certificates(files)
    assert certificates.renewed() is None
    write(trustme.CA().issue_cert("localhost"), files.certificate.parent)
    assert certificates.renewed() is certificates.current
    assert certificates.renewed() is None


def test_a_certificate_of_another_key(authority: trustme.CA, files: TlsFiles) -> None:
    authority.issue_cert("localhost").private_key_pem.write_to_path(files.key)
    with pytest.raises(TlsError, match="not a certificate and its key"):
        Certificates(files)


def test_a_missing_file(files: TlsFiles) -> None:
    files.key.unlink()
    with pytest.raises(TlsError, match=r"tls\.key: No such file or directory"):
        Certificates(files)


def test_an_authority_that_is_none(mutual: TlsFiles) -> None:
    assert mutual.client_ca is not None
    for content in ("", "rubbish", "\N{SNOWMAN}"):
        mutual.client_ca.write_text(content)
        with pytest.raises(TlsError, match=r"ca\.crt: not a certificate authority"):
            Certificates(mutual)
