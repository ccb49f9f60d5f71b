"""The images' build files, as far as they can be checked without a container engine."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SIDES = ("frontend", "backend")


def instructions(side: str) -> list[tuple[str, str]]:
    """Each instruction with its arguments, continued lines joined."""
    text = (ROOT / "build" / f"Containerfile.{side}").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, " ".join(rest.split())) for word, _, rest in (line.partition(" ") for line in lines)]


def project() -> dict[str, Any]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return dict(tomllib.load(file)["project"])


@pytest.mark.parametrize("side", SIDES)
def test_what_is_copied_is_there(side: str) -> None:
    copied = [rest for word, rest in instructions(side) if word == "COPY" and not rest.startswith("--from")]
    sources = [source for rest in copied for source in rest.split()[:-1]]
    assert sources
    assert [source for source in sources if not list(ROOT.glob(source))] == []


@pytest.mark.parametrize("side", SIDES)
def test_all_that_the_package_is_built_from_is_copied(side: str) -> None:
    copied = " ".join(rest for word, rest in instructions(side) if word == "COPY").split()
    with (ROOT / "pyproject.toml").open("rb") as file:
        wheel = tomllib.load(file)["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert {package.split("/")[0] for package in wheel["packages"]} <= set(copied)
    assert project()["readme"] in copied
    licences = set(project()["license-files"])
    assert "LICENSE" in copied
    assert licences == {"LICENSE", "bpf/LICENSE*"}
    assert {"bpf", "bpf/LICENSE.*"} & set(copied)


@pytest.mark.parametrize("side", SIDES)
def test_each_image_has_its_own_sides_dependencies_only(side: str) -> None:
    steps = [rest for word, rest in instructions(side) if word == "RUN"]
    (extra,) = re.findall(r"'\.\[(\w+)\]'", " ".join(steps))
    assert extra == side
    assert extra in project()["optional-dependencies"]
    assert not [one for one in project()["optional-dependencies"]["backend"] if one.startswith("kubernetes")]


@pytest.mark.parametrize("side", SIDES)
def test_the_last_stage_runs_the_program_that_was_installed(side: str) -> None:
    found = instructions(side)
    last = found[max(i for i, (word, _) in enumerate(found) if word == "FROM") :]
    assert last[0][1] == "debian:12-slim"
    assert ("ENTRYPOINT", f'["/opt/blixt/bin/blixt-{side}"]') in last
    assert f"blixt-{side}" in project()["scripts"]
    installed = " ".join(rest for word, rest in last if word == "RUN")
    # No compiler and no package installer gets onto a node.
    assert not re.search(r"\b(clang|make|gcc|pip|venv)\b", installed)
    assert ("libbpf1" in installed) == (side == "backend")


def test_the_frontend_is_nobody() -> None:
    users = [rest for word, rest in instructions("frontend") if word == "USER"]
    assert users == ["65532:65532"]
