"""KPNG's own Go code, built once, and the daemons of ours that it talks to."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "blixt" / "interop"


def _built(module: str) -> Path:
    """The folder of a Go module's programs, outside the repository. Built if no earlier run has."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is missing: KPNG's code can't be built")
    source = _HERE / module
    digest = hashlib.sha256()
    for path in sorted(source.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(source)}\n".encode() + path.read_bytes())
    folder = _CACHE / f"{module}-{digest.hexdigest()[:16]}"
    if not folder.is_dir():
        beside = folder.with_name(f"{folder.name}.{os.getpid()}")
        subprocess.run([go, "build", "-o", f"{beside}/", "./..."], cwd=source, check=True, timeout=900)
        beside.rename(folder)
    return folder


@pytest.fixture(scope="session")
def kpng_client() -> Path:
    """Holds `state`, which prints what KPNG's decoders see."""
    return _built("kpng_client")


@pytest.fixture(scope="session")
def kpng_iptables() -> Path:
    """Holds `kpng-iptables`, KPNG's iptables backend for a node."""
    return _built("kpng_iptables")


@pytest.fixture(scope="session")
def kpng_server() -> Path:
    """Holds `server`, KPNG's own over a file."""
    return _built("kpng_server")
