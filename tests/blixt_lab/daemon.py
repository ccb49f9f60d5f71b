"""Real daemons on hosts: started, killed, started again, their output kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from blixt_lab.host import Host
from blixt_lab.lab import Lab


class Daemon:
    """A long-running program in a host's namespace. Its log goes on over restarts. Ends with its lab."""

    def __init__(self, lab: Lab, host: Host, name: str, argv: list[str]) -> None:
        self.host = host
        self.name = name
        self.argv = argv
        self.log = lab.log_path(name)
        self.log.touch()
        self._process: subprocess.Popen[bytes] | None = None
        lab.stack.callback(self._end, lab)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._process.poll() if self._process else None

    @property
    def pid(self) -> int:
        assert self._process, f"{self.name} was never started"
        return self._process.pid

    def start(self) -> None:
        assert not self.running, f"{self.name} is running already"
        self._process = self.host.popen(*self.argv, log=self.log, env={**os.environ, "PYTHONUNBUFFERED": "1"})

    def kill9(self) -> None:
        """SIGKILL: no chance to say goodbye to anyone."""
        self._signal(signal.SIGKILL)

    def terminate(self, timeout: float = 20.0) -> int:
        """SIGTERM; the exit code. Raises subprocess.TimeoutExpired."""
        return self._signal(signal.SIGTERM, timeout)

    def pause(self) -> None:
        """SIGSTOP: connections stay up, and nothing comes through them any more."""
        assert self._process, f"{self.name} was never started"
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process, f"{self.name} was never started"
        self._process.send_signal(signal.SIGCONT)

    def log_tail(self, lines: int = 20) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _signal(self, number: int, timeout: float = 20.0) -> int:
        assert self._process, f"{self.name} was never started"
        if self.running:
            self._process.send_signal(number)
        return self._process.wait(timeout)

    def _end(self, lab: Lab) -> None:
        if not lab.entry.kept and self.running:
            self.kill9()


def script(name: str) -> str:
    """The path of a command that is installed beside this Python. Raises FileNotFoundError."""
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise FileNotFoundError(f"{name} is not installed beside {sys.executable}")
    return str(path)
