"""The benchmark runs through on a very small cluster, and what it says of correctness holds there as well."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from blixt_control_plane.programs import ROOT, find_programs

SIZE = {
    "small": 10,
    "large": 20,
    "endpoints": 3,
    "backends": 4,
    "starts": 1,
    "changes": 6,
    "crowd-changes": 3,
    "steady-seconds": 5,
}


@pytest.mark.lab
@pytest.mark.timeout(300)
def test_it_runs_through(tmp_path: Path) -> None:
    with_proxy = (find_programs().folder / "kube-proxy").exists() and bool(shutil.which("nft"))
    size = [f"--{name}={value}" for name, value in SIZE.items()] + [f"--proxy-changes={int(with_proxy)}"]
    done = subprocess.run(
        [sys.executable, "-m", "bench.cluster", *size],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert "goals missed" in done.stdout
    figures = json.loads((tmp_path / "build" / "bench" / "cluster.json").read_text())["figures"]
    subjects = {figure["subject"].split()[0].strip(",") for figure in figures}
    assert subjects == ({"blixt", "kube-proxy"} if with_proxy else {"blixt"})
    (writes,) = (figure["value"] for figure in figures if "API writes but for leases" in figure["what"])
    assert writes == 0
    (every,) = (
        figure["what"]
        for figure in figures
        if figure["what"].startswith("first to last backend of one change: most")
    )
    assert every.endswith("most of 3")
