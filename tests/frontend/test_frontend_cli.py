"""The command as a user runs it."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
import trustme
from click.testing import CliRunner, Result

from blixt_frontend.cli import main
from blixt_watcher import Watcher

TIMEOUT = 60
COMMAND = str(Path(sys.executable).parent / "blixt-frontend")

SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  type: ClusterIP
  clusterIP: 10.0.0.1
  clusterIPs: [10.0.0.1]
  ports: [{name: http, port: 80, protocol: TCP}]
"""


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "web.yaml").write_text(SERVICE)
    return folder


@asynccontextmanager
async def running(*arguments: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(COMMAND, *arguments, stderr=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def line_with(process: Process, text: str) -> str:
    assert process.stderr is not None
    lines = []
    async with asyncio.timeout(TIMEOUT):
        while line := (await process.stderr.readline()).decode():
            lines.append(line)
            if text in line:
                return line
    raise AssertionError(f"{text!r} was never said, but: {lines}")


async def failure(*arguments: str) -> tuple[int, list[str]]:
    """The exit code and the lines on stderr."""
    async with running(*arguments) as process:
        _, errors = await asyncio.wait_for(process.communicate(), TIMEOUT)
        return process.returncode or 0, errors.decode().splitlines()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_serves_until_it_is_told_to_end(manifests: Path, tmp_path: Path, number: int) -> None:
    address = f"unix:{tmp_path}/s"
    async with running(
        "--manifests", str(manifests), "--listen", address, "--listen", "127.0.0.1:0"
    ) as process:
        await line_with(process, "listening on")
        async with grpc.aio.insecure_channel(address) as channel:
            watcher = Watcher(channel, "n1")
            await asyncio.wait_for(watcher.pull(), TIMEOUT)
            assert set(watcher.held) == {"default/web"}
            await watcher.ask()
            (manifests / "api.yaml").write_text(SERVICE.replace("web", "api").replace("0.1", "0.2"))
            assert set((await asyncio.wait_for(watcher.answer(), TIMEOUT)).sets) == {"default/api"}
            await watcher.ask()
            process.send_signal(number)
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await watcher.answer()
            assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
        assert await asyncio.wait_for(process.wait(), TIMEOUT) == 0


async def test_it_can_be_ended_at_once(manifests: Path) -> None:
    async with running("--manifests", str(manifests), "--listen", "127.0.0.1:0") as process:
        await line_with(process, "listening on")
        process.terminate()
        assert await asyncio.wait_for(process.wait(), TIMEOUT) == 0


async def test_mutual_tls(manifests: Path, tmp_path: Path) -> None:
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost")
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "tls.crt")
    leaf.private_key_pem.write_to_path(tmp_path / "tls.key")
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    options = ["--tls-cert", f"{tmp_path}/tls.crt", "--tls-key", f"{tmp_path}/tls.key"]
    options += ["--tls-client-ca", f"{tmp_path}/ca.crt", "--listen", "localhost:0"]
    async with running("--manifests", str(manifests), *options) as process:
        port = (await line_with(process, "listening on")).rpartition(":")[2].strip()
        client = authority.issue_cert("n1")
        credentials = grpc.ssl_channel_credentials(
            authority.cert_pem.bytes(), client.private_key_pem.bytes(), client.cert_chain_pems[0].bytes()
        )
        async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
            assert (await asyncio.wait_for(Watcher(channel, "n1").pull(), TIMEOUT)).reset
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await asyncio.wait_for(Watcher(channel, "n2").pull(), TIMEOUT)
            assert ended.value.code() == grpc.StatusCode.PERMISSION_DENIED


class TestFailures:
    """One clear line, and exit code 1."""

    async def test_a_missing_path(self, tmp_path: Path) -> None:
        code, lines = await failure("--manifests", f"{tmp_path}/none", "--listen", "127.0.0.1:0")
        assert (code, lines) == (1, [f"Error: cannot read {tmp_path}/none: No such file or directory"])

    async def test_a_port_in_use(self, manifests: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            address = f"127.0.0.1:{other.getsockname()[1]}"
            code, lines = await failure("--manifests", str(manifests), "--listen", address)
        assert (code, lines) == (1, [f"Error: cannot listen on {address}: Address already in use"])

    async def test_a_certificate_that_is_not_there(self, manifests: Path, tmp_path: Path) -> None:
        options = ["--tls-cert", f"{tmp_path}/none.crt", "--tls-key", f"{tmp_path}/none.key"]
        code, lines = await failure("--manifests", str(manifests), "--listen", "127.0.0.1:0", *options)
        assert (code, lines) == (1, [f"Error: {tmp_path}/none.crt: No such file or directory"])


class TestUsage:
    """Exit code 2 for wrong usage, and help that teaches."""

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "Give one of --kubeconfig, --in-cluster and --manifests"),
            (["--manifests", "a", "--in-cluster"], "Give one of"),
            (["--manifests", "a", "--kubeconfig", "b"], "Give one of"),
            (["--manifests", "a", "--context", "b"], "--context needs --kubeconfig"),
            (["--in-cluster", "--context", "b"], "--context needs --kubeconfig"),
            (["--manifests", "a", "--lease-namespace", "b"], "--lease-namespace goes with a cluster"),
            (["--manifests", "a", "--manifests", "b"], "give one path"),
            (["--manifests", "a", "--listen", "12090"], "not HOST:PORT"),
            (["--manifests", "a", "--tls-cert", "c"], "--tls-cert and --tls-key go together"),
            (["--manifests", "a", "--tls-key", "k"], "--tls-cert and --tls-key go together"),
            (["--manifests", "a", "--tls-client-ca", "c"], "needs --tls-cert and --tls-key"),
            (["--manifests", "a", "--log-level", "loud"], "'loud' is not one of"),
            (["--manifests", "a", "b"], "unexpected extra argument"),
        ],
    )
    def test_wrong_usage(self, arguments: list[str], message: str) -> None:
        result = invoke(*arguments)
        assert result.exit_code == 2
        assert message in result.output

    def test_help(self) -> None:
        result = invoke("--help")
        assert result.exit_code == 0
        for option in main.params:
            assert option.opts[0] in result.output
        assert "blixt-frontend --manifests config/samples --listen 127.0.0.1:12090" in result.output

    def test_version(self) -> None:
        result = invoke("--version")
        assert result.exit_code == 0
        assert result.output.startswith("blixt-frontend 0.")


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="blixt-frontend")
