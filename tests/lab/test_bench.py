"""The benchmark runs through, every candidate carries every load, and what it writes is what is promised."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import report
from bench.candidates import IPTABLES, NFTABLES, PLAIN, SOCKETS, TC, XDP, Way

pytestmark = pytest.mark.lab

_ROOT = Path(__file__).parents[2]


def run(folder: Path, *arguments: str) -> tuple[str, dict[str, Any], list[report.Row]]:
    """Its standard output, and results.json: all but the rows, and the rows."""
    done = subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(_ROOT / "tests")},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    content = json.loads((folder / "build" / "bench" / "results.json").read_text())
    return done.stdout, content, [report.Row(**row) for row in content.pop("rows")]


def test_every_candidate_carries_loads(tmp_path: Path) -> None:
    loads = ("crr", "udp-rr", "udp-bursts", "new-flows")
    only = [word for load in loads for word in ("--only", load)]
    once = ("--rounds", "1", "--warm-up", "0", "--seconds", "0.05", "--services", "2")
    output, content, rows = run(tmp_path, *only, *once)
    assert {(row.way, row.candidate) for row in rows} == {
        *((Way.IN.value, who) for who in (PLAIN, TC, XDP, NFTABLES, IPTABLES)),
        *((Way.POD.value, who) for who in (PLAIN, TC, SOCKETS, NFTABLES)),
        *((Way.NODE.value, who) for who in (PLAIN, TC, SOCKETS, NFTABLES)),
        *((Way.THROUGH.value, who) for who in (PLAIN, TC, XDP, NFTABLES)),
    }
    assert all(row.min <= row.median <= row.max and row.median > 0 for row in rows)
    plain = [row for row in rows if row.candidate == PLAIN and row.ratio_to_plain is not None]
    assert plain
    assert {row.ratio_to_plain for row in plain} == {1.0}
    assert "kube-proxy nftables: " in output
    assert all(goal["met"] is None for goal in content["goals"])  # they are for 10,000 services


def test_loads_of_ipv6_in_rounds(tmp_path: Path) -> None:
    """The tables are empty before each: else new flows would be found, and be counted as something else."""
    only = [word for load in ("new-flows", "tcp-rr", "udp-sends", "stream") for word in ("--only", load)]
    some = (*only, "--candidates", TC, "--services", "1", "--family", "6")
    _, _, rows = run(tmp_path, *some, "--rounds", "2", "--seconds", "0.05", "--warm-up", "0")
    assert {row.candidate for row in rows} == {PLAIN, TC}


def test_programs_and_changes(tmp_path: Path) -> None:
    arguments = ("--quick", "--only", "programs", "--only", "apply", "--services", "20", "--rounds", "1")
    output, _, rows = run(tmp_path, *arguments)
    metrics = {row.metric: row for row in rows}
    assert {"TC, new flow", "TC, not ours", "XDP, known flow, 1,024 flows"} <= metrics.keys()
    assert metrics["20 changed: Sync to map"].median > 0
    assert metrics["backend's memory with all services"].median > 20
    assert "not measured" in output
