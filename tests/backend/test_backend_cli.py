"""blixt-backend as a process: options, exit codes, signals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from blixt_backend import cli
from blixt_backend.planes import registry
from blixt_fakes.frontend import Frontend
from blixt_fakes.items import endpoint, service

PRINT = ("--plane", "print")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, arguments)


def test_help_shows_the_options_of_the_chosen_plane() -> None:
    result = run(*PRINT, "--help")
    assert result.exit_code == 0
    assert "--print [json|table]" in result.output
    assert "--api ADDRESS" in result.output
    assert "--announce INTERFACE" in result.output
    assert "blixt-backend --interface eth0" in result.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--plane", "nope"), "there is no plane 'nope' here, only: ebpf, nftables, print, userspace"),
        (("--plane=nope", "--help"), "there is no plane 'nope'"),
        ((*PRINT, "--api", "somewhere"), "'somewhere' is not HOST:PORT"),
        ((*PRINT, "--api", "host:0"), "no port from 1 to 65535"),
        ((*PRINT, "--api", "::1:12090"), "'::1:12090' is not HOST:PORT, [IPV6]:PORT"),
        ((*PRINT, "--api", "unix:"), "lacks a path"),
        ((*PRINT, "--node-name", ""), "--node-name is empty"),
        ((*PRINT, "--announce", ""), "'' is no name of an interface"),
        ((*PRINT, "--announce", "eth*"), "'eth*' is no name of an interface"),
        ((*PRINT, "--announce", "sixteen-letters-"), "'sixteen-letters-' is no name of an interface"),
        ((*PRINT, "--announce", "eth0", "--announce-group", ""), "it is empty"),
        ((*PRINT, "--announce", "eth0", "--node-name", "n" * 254), "longer than 253 bytes"),
        ((*PRINT, "--healthz-address", "localhost:80"), "'localhost:80' is not IPV4:PORT or [IPV6]:PORT"),
        ((*PRINT, "--healthz-address", "[::]:0"), "no port from 1 to 65535"),
        ((*PRINT, "--healthz-address", "off", "--healthz-address", "0.0.0.0:1"), "goes with no address"),
        ((*PRINT, "--print", "xml"), "'xml' is not one of 'json', 'table'"),
        ((*PRINT, "--no-such-option"), "No such option"),
        ((*PRINT, "--tls-ca", "/no/such/file"), "does not exist"),
        ((*PRINT, "--tls-cert", os.devnull), "--tls-cert and --tls-key go together"),
    ],
)
def test_bad_usage_is_exit_2(arguments: tuple[str, ...], says: str) -> None:
    result = run(*arguments)
    assert says in result.output
    assert result.exit_code == 2


def test_a_certificate_that_is_none_is_exit_1(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("not a certificate")
    result = run(*PRINT, "--tls-ca", str(file))
    assert result.exit_code == 1
    assert f"{file} holds no PEM certificates" in result.output


def test_cleanup_needs_no_frontend() -> None:
    assert run(*PRINT, "--cleanup").exit_code == 0


def test_version() -> None:
    assert run(*PRINT, "--version").output.startswith("blixt-backend, version ")


@asynccontextmanager
async def backend(*arguments: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from blixt_backend.cli import main; main()",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout
    async with asyncio.timeout(60):
        return (await process.stdout.readline()).decode()


async def ended(process: asyncio.subprocess.Process) -> tuple[int | None, str]:
    async with asyncio.timeout(60):
        _, errors = await process.communicate()
    return process.returncode, errors.decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_follows_the_frontend_until_a_signal(number: signal.Signals) -> None:
    async with Frontend() as frontend:
        frontend.set(service("ns/a"), endpoint("ns/a/1"))
        arguments = (*PRINT, "--api", frontend.address)
        async with backend(*arguments, NODE_NAME="node-7") as process:
            first = json.loads(await line(process))
            assert list(first["added"]) == ["ns/a"]
            frontend.set(service("ns/b"))
            assert list(json.loads(await line(process))["added"]) == ["ns/b"]
            process.send_signal(number)
            code, errors = await ended(process)
    assert code == 0
    assert "Traceback" not in errors
    assert {request.node for request in frontend.requests} == {"node-7"}


async def test_it_ends_cleanly_without_a_frontend(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        missing = f"unix:{tmp_path}/missing.sock"
        async with backend(*PRINT, "--api", missing, NOTIFY_SOCKET=str(tmp_path / "notify")) as process:
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(60):
                assert await loop.sock_recv(manager, 100) == b"READY=1"
                assert process.stderr
                while b"trying again" not in await process.stderr.readline():
                    pass
            process.terminate()
            code, _ = await ended(process)
        assert code == 0
        assert manager.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("name", registry.names())
def test_no_planes_option_is_called_as_one_that_all_have(name: str) -> None:
    own = [word for each in registry.load(name).options() for word in (each.name, *each.opts)]
    common = {word for each in cli.main.params for word in (each.name, *each.opts)}
    assert not common.intersection(own)
