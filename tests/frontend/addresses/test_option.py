"""--address-pool on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from blixt_frontend.cli import main


@pytest.mark.parametrize(
    ("pools", "problem"),
    [
        (["192.0.2.0/24"], "not NAME=CIDR|RANGE"),
        (["a=192.0.2.1/24"], "did you mean 192.0.2.0/24?"),
        (["a=192.0.2.0/24", "b=192.0.2.9"], "address pools overlap"),
    ],
)
def test_a_pool_that_can_t_be_is_bad_usage(tmp_path: Path, pools: list[str], problem: str) -> None:
    arguments = [f"--address-pool={pool}" for pool in pools]
    done = CliRunner().invoke(main, ["--manifests", str(tmp_path), *arguments])
    assert done.exit_code == 2
    assert problem in " ".join(done.output.split())
