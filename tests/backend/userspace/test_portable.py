"""The plane without what only Linux has.

That it runs on other systems can't be shown here; that it calls nothing they lack can.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]

#: Takes away, before anything else is imported, what Python has on Linux and lacks on macOS.
ELSEWHERE = r"""
import importlib.abc, os, select, socket, _socket, sys

NAMES = {
    socket: "AF_NETLINK NETLINK_ AF_PACKET PACKET_ AF_ALG ALG_ AF_VSOCK VM AF_CAN CAN_ SOCK_CLOEXEC "
    "SOCK_NONBLOCK SO_BINDTODEVICE SO_MARK SO_DOMAIN SO_PROTOCOL SO_PRIORITY SO_PASSCRED SO_PEERSEC "
    "TCP_USER_TIMEOUT TCP_QUICKACK TCP_DEFER_ACCEPT TCP_CORK TCP_INFO IP_TRANSPARENT IP_RECVTOS",
    select: "epoll EPOLL",
    os: "sched_ eventfd EFD_ memfd MFD_ pidfd setns unshare pipe2 accept4",
}
NAMES[_socket] = NAMES[socket]
for module, names in NAMES.items():
    for name in [name for name in vars(module) if name.startswith(tuple(names.split()))]:
        delattr(module, name)
# Python's own start may have imported it: let it find out anew.
sys.modules.pop("selectors", None)


class Lacks(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in ("pyroute2", "blixt_backend.planes.ebpf", "blixt_backend.planes.nftables", "bcc"):
            raise ImportError(f"{name} is of Linux only")


sys.meta_path.insert(0, Lacks())
"""

CARRIES = r"""
import asyncio
from blixt_proxied import ask, datagrams, endpoint, proxied, saying, service, serving

async def main():
    async with proxied() as node, serving(saying("one")) as port, datagrams("two") as (_, other):
        await node.apply(service(endpoint(port)))
        reader, writer = await node.connect()
        print(await ask(reader, writer))
        writer.close()
        await node.apply(service(endpoint(other)))
        async with datagrams(to=node.place("udp")) as (client, _):
            client.transport.sendto(b"hello")
            print(await client.got.get())

asyncio.run(main())
"""

STARTS = r"""
from blixt_backend.cli import main

main(["--plane", "userspace", "--api", "unix:/no/such/socket", "--healthz-address", "off"])
"""


def started(script: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", ELSEWHERE + script],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_it_carries_connections_and_datagrams() -> None:
    with started(CARRIES) as running:
        out, errors = running.communicate(timeout=60)
    assert out.splitlines() == ["one hello", "two hello"], errors


def test_the_whole_daemon_starts_and_stops() -> None:
    with started(STARTS) as running:
        assert running.stderr is not None
        lines = []
        for line in running.stderr:
            lines.append(line)
            if "trying again in" in line:
                running.terminate()
                break
        lines += running.stderr
    assert running.returncode == 0, "".join(lines)
    assert "stopped; what was applied ended with this process" in lines[-1]
