"""Programs on loopback whose output is lines of JSON."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Program:
    """Runs from entering to leaving, or to `kill`; what it prints goes to a file."""

    def __init__(self, log: Path, *command: str | Path) -> None:
        self._log = log
        self._command = [str(part) for part in command]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as out, self._log.with_suffix(".err").open("ab") as errors:
            environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
            self._process = subprocess.Popen(self._command, stdout=out, stderr=errors, env=environment)

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()

    def lines(self) -> list[Any]:
        """What it printed, whole lines only."""
        text = self._log.read_text() if self._log.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
