"""The demo for whoever is not root."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534
#: All that nobody may is to read, since this copy may be in a folder of root's.
_READS = "+dac_read_search"


def as_nobody() -> list[str]:
    if os.geteuid() != 0:
        return []
    return [
        *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"),
        *(f"--{kind}-caps=-all,{_READS}" for kind in ("inh", "ambient")),
        f"--bounding-set=-all,{_READS}",
    ]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of nobody's; pytest's own are in one that is root's alone."""
    with tempfile.TemporaryDirectory(prefix="blixt-test-") as made:
        if os.geteuid() == 0:
            os.chown(made, NOBODY, NOBODY)
        yield Path(made)


def test_the_demo_runs_without_root_and_says_so(folder: Path) -> None:
    done = subprocess.run(
        [*as_nobody(), sys.executable, "hack/demo.py"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder), "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(
        "Not root: this is the demo on loopback, where the userspace plane carries all"
    )
    assert done.stdout.endswith("demo: ok\n")
    assert not list(folder.iterdir()), "nothing is left behind"
