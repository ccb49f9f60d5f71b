"""Builds the control plane's programs from their pinned Go modules, once; brings the Gateway API's CRDs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from blixt_control_plane import programs
from blixt_control_plane.programs import BUNDLES, MODULE, PACKAGES, Bundle, Programs

#: The oldest Go that brings another toolchain by itself.
OLDEST_GO = (1, 21)
Say = Callable[[str], None]


class BuildError(Exception):
    """What could not be built, and what to do."""


def build(say: Say) -> Programs:
    """Build what is missing; nothing when all is there. Raises BuildError and programs.MissingError."""
    with _locked():
        for bundle in BUNDLES.values():
            if not bundle.folder.is_dir():
                say(f"bringing the CRDs of Gateway API {bundle.version} ({bundle.channel})")
                _bring_crds(bundle)
        if not os.environ.get(programs.ASSETS) and Programs(programs.built_folder()).missing():
            say(
                f"building Kubernetes {programs.kubernetes_version()} and etcd {programs.etcd_version()} "
                f"with {programs.toolchain()}: once, some 10 minutes and 4 GB of Go's cache"
            )
            _build_programs(programs.built_folder())
    return programs.find_programs()


def _build_programs(folder: Path) -> None:
    with _replaced(folder) as fresh:
        for name, package in PACKAGES.items():
            flags = ["-trimpath", "-ldflags", programs.link_flags()]
            _go("build", *flags, "-o", str(fresh / name), package, where=MODULE)


def _bring_crds(bundle: Bundle) -> None:
    """Copy them out of the Go module, so that a test run needs no Go."""
    named = f"sigs.k8s.io/gateway-api@{bundle.version}"
    module = json.loads(_go("mod", "download", "-json", named))
    if module["Sum"] != bundle.checksum:
        raise BuildError(f"{named} has the checksum {module['Sum']}, and {bundle.checksum} is expected")
    with _replaced(bundle.folder) as fresh:
        for path in Path(module["Dir"], "config", "crd", bundle.channel).glob("*.yaml"):
            if path.name != "kustomization.yaml":
                shutil.copyfile(path, fresh / path.name)


def _go(*arguments: str, where: Path = Path("/")) -> str:
    """Run the pinned Go; what it writes to stdout. Raises BuildError with the end of what it said."""
    environment = {
        **os.environ,
        "GOTOOLCHAIN": programs.toolchain(),
        "CGO_ENABLED": "0",
        "GOWORK": "off",
        "GOFLAGS": "-buildvcs=false",
    }
    done = subprocess.run(
        [_find_go(), *arguments], cwd=where, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        end = "\n".join((done.stderr + done.stdout).splitlines()[-20:])
        raise BuildError(f"`go {' '.join(arguments)}` ended with {done.returncode}:\n{end}")
    return done.stdout


def _find_go() -> str:
    advice = (
        f"install Go 1.{OLDEST_GO[1]} or newer and put it on PATH (it brings {programs.toolchain()} itself), "
        f"or set {programs.ASSETS} to a folder with {', '.join(programs.NEEDED)}"
    )
    path = shutil.which("go")
    if not path:
        raise BuildError(f"there is no Go: {advice}")
    told = subprocess.run(
        [path, "env", "GOVERSION"],
        env={**os.environ, "GOTOOLCHAIN": "local"},
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    numbers = re.match(r"go(\d+)\.(\d+)", told)
    if not numbers or (int(numbers[1]), int(numbers[2])) < OLDEST_GO:
        raise BuildError(f"{path} is {told or 'of an unknown version'}: {advice}")
    return path


@contextlib.contextmanager
def _replaced(folder: Path) -> Iterator[Path]:
    """A fresh folder that takes the place of `folder` if all goes well: there is all of it, or nothing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left_by_a_killed_build in folder.parent.glob(".new-*"):
        shutil.rmtree(left_by_a_killed_build)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as scratch:
        fresh = Path(scratch, "content")
        fresh.mkdir()
        yield fresh
        if folder.exists():
            shutil.rmtree(folder)
        fresh.rename(folder)


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """One build at a time: a second one waits, and then finds all there."""
    programs.cache().mkdir(parents=True, exist_ok=True)
    with (programs.cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
