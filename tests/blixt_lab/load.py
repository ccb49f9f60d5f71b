"""Traffic tools put on hosts: servers as processes of their own, clients as threads that can be watched."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

from blixt_lab.host import Host
from blixt_lab.lab import Lab
from blixt_lab.traffic import Hammered, Held, Target, hammer, hold
from blixt_lab.wait import wait_for

Watched = TypeVar("Watched")

_PACKAGES = Path(__file__).resolve().parent.parent


class Server:
    """A pod's server, TCP 8080 and UDP 5353 unless told otherwise, named like its host."""

    def __init__(self, lab: Lab, host: Host, tcp: int = 8080, udp: int = 5353) -> None:
        self.host = host
        self._log = lab.log_path(f"server-{host.name}")
        self._arguments = ["serve", host.name, "--tcp", str(tcp), "--udp", str(udp)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._log.write_bytes(b"")
        environment = {**os.environ, "PYTHONPATH": str(_PACKAGES), "PYTHONUNBUFFERED": "1"}
        self._process = self.host.popen(
            sys.executable, "-m", "blixt_lab.traffic", *self._arguments, log=self._log, env=environment
        )

    def wait_ready(self) -> None:
        wait_for(lambda: b"ready" in self._log.read_bytes(), f"the server of {self.host.name}")

    def kill(self) -> None:
        """End it at once; its open connections are reset by its kernel."""
        if self._process:
            self._process.kill()
            self._process.wait()


def start_servers(lab: Lab, hosts: Iterable[Host]) -> dict[str, Server]:
    """A server on each host, answering, by the host's name. They end with the lab."""
    servers = {host.name: Server(lab, host) for host in hosts}
    for server in servers.values():
        server.start()
        lab.stack.callback(_kill_unless_kept, lab, server)
    for server in servers.values():
        server.wait_ready()
    return servers


def _kill_unless_kept(lab: Lab, server: Server) -> None:
    if not lab.entry.kept:
        server.kill()


class Background(Generic[Watched]):
    """A client that runs on a host until stopped: a context manager. `result` may be read at any time."""

    def __init__(
        self,
        host: Host,
        result: Watched,
        work: Callable[[asyncio.Event, Watched], Coroutine[Any, Any, Watched]],
    ) -> None:
        self.result = result
        self._host = host
        self._work = work
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"client on {host.name}", daemon=True)
        self._thread.start()

    def stop(self) -> Watched:
        """Tell it to finish, and wait until it has. Raises what it raised."""
        if self._thread.is_alive():
            wait_for(lambda: self._loop or self._error, "the client's event loop")
            if self._loop and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(timeout=60)
            assert not self._thread.is_alive(), "the client did not finish within a minute"
        if self._error:
            raise self._error
        return self.result

    @property
    def failed(self) -> bool:
        """Whether it has ended by an error, which `stop` raises."""
        return self._error is not None

    def __enter__(self) -> Background[Watched]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            self._host.enter()
            asyncio.run(self._main())
        except BaseException as error:
            self._error = error

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._work(self._stop, self.result)


def hammering(host: Host, target: Target, rate: float = 200.0) -> Background[Hammered]:
    """Start new connections from a host at a steady rate, until stopped."""
    return Background(host, Hammered(), lambda stop, result: hammer(target, stop, rate, result=result))


def holding(
    host: Host, target: Target, count: int, interval: float = 0.5, udp_patience: float = 2.5
) -> Background[Held]:
    """Hold conversations from a host until stopped; returns once all are open. Raises AssertionError."""
    background = Background(
        host,
        Held(count),
        lambda stop, held: hold(target, count, stop, interval, result=held, udp_patience=udp_patience),
    )
    try:
        wait_for(
            lambda: len(background.result.servers) == count or background.result.unopened,
            f"{count} conversations with {target}",
        )
        assert not background.result.unopened, f"could not open: {dict(background.result.unopened)}"
    except BaseException:
        background.stop()
        raise
    return background
