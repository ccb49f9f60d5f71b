"""`blixt-frontend --kubeconfig`, as a user runs it."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from blixt_fakes.api_server import FakeApiServer, api_server
from blixt_fakes.until import until
from blixt_watcher import Watcher

TIMEOUT = 60
COMMAND = str(Path(sys.executable).parent / "blixt-frontend")


def service(name: str, address: str) -> dict[str, Any]:
    spec = {"clusterIP": address, "clusterIPs": [address], "ports": [{"port": 80, "name": "http"}]}
    return {"metadata": {"name": name, "namespace": "demo"}, "spec": spec}


def kubeconfig(folder: Path, server: FakeApiServer) -> str:
    config = {
        "clusters": [{"name": "c", "cluster": {"server": server.url}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "here",
    }
    (folder / "config").write_text(yaml.safe_dump(config))
    return str(folder / "config")


async def test_a_cluster_is_served(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/s"
    async with api_server() as server:
        server.tokens = {"t"}
        server.put("services", service("web", "10.0.0.1"))
        options = ["--kubeconfig", kubeconfig(tmp_path, server), "--context", "here", "--listen", address]
        process = await asyncio.create_subprocess_exec(COMMAND, *options, stderr=PIPE)
        try:
            await until((tmp_path / "s").exists, TIMEOUT)
            async with grpc.aio.insecure_channel(address) as channel, asyncio.timeout(TIMEOUT):
                watcher = Watcher(channel, "n1")
                await watcher.pull()
                assert set(watcher.held) == {"demo/web"}
                await watcher.ask()
                server.put("services", service("api", "10.0.0.2"))
                assert set((await watcher.answer()).sets) == {"demo/api"}
            process.terminate()
            assert await asyncio.wait_for(process.wait(), TIMEOUT) == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--kubeconfig", "none"], "Error: cannot read the kubeconfig none: No such file or directory"),
        (["--kubeconfig", "config", "--context", "elsewhere"], "elsewhere"),
        (["--in-cluster"], "Error: the pod's service account can't be used: Service host/port is not set."),
    ],
)
async def test_one_clear_line_where_there_is_no_way_in(tmp_path: Path, options: list[str], text: str) -> None:
    async with api_server() as server:
        kubeconfig(tmp_path, server)
    process = await asyncio.create_subprocess_exec(
        COMMAND, *options, "--listen", "127.0.0.1:0", stderr=PIPE, cwd=tmp_path, env={}
    )
    _, errors = await asyncio.wait_for(process.communicate(), TIMEOUT)
    lines = errors.decode().splitlines()
    assert process.returncode == 1
    assert len(lines) == 1
    assert text in lines[0]
