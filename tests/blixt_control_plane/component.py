"""One server of the control plane: started, killed, frozen, started again with the same data and ports."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from blixt_control_plane.processes import spawn
from blixt_lab.wait import WaitTimeoutError, wait_for


class ComponentError(Exception):
    """A server did not start; with the end of its log."""


class Component:
    """Its log goes on over restarts."""

    def __init__(self, argv: list[str], home: Path, log: Path, ready: Callable[[], bool]) -> None:
        """`ready` tells whether the server does its work."""
        self.name = log.stem
        self.log = log
        self._argv = argv
        self._home = home
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process, f"{self.name} was never started"
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it does its work. Raises ComponentError."""
        assert not self.running, f"{self.name} is running already"
        self._process = spawn(self._argv, self._home, self.log)
        self.wait_ready()

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Raises ComponentError if it ends instead, or does neither."""

        def settled() -> bool:
            return not self.running or self._ready()

        try:
            wait_for(settled, f"{self.name} to be ready", timeout)
        except WaitTimeoutError as error:
            raise ComponentError(f"{error}; its log ends with\n{self.log_tail()}") from None
        if not self.running:
            raise ComponentError(f"{self.name} ended; its log ends with\n{self.log_tail()}")

    def kill9(self) -> None:
        """SIGKILL: connections break, nothing is said."""
        self._signal(signal.SIGKILL)

    def stop(self, timeout: float = 90.0) -> None:
        """SIGTERM: the server takes its leave, which takes the API server until its watches have ended."""
        self._signal(signal.SIGTERM, timeout)

    def restart(self) -> None:
        """SIGKILL, and start again."""
        self.kill9()
        self.start()

    def pause(self) -> None:
        """Connections stay up, and nothing comes through them any more."""
        self._process_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process_signal(signal.SIGCONT)

    def log_tail(self, lines: int = 20) -> str:
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _process_signal(self, number: int) -> None:
        assert self._process, f"{self.name} was never started"
        self._process.send_signal(number)

    def _signal(self, number: int, timeout: float = 20.0) -> None:
        self._process_signal(number)
        assert self._process
        self._process.wait(timeout)
