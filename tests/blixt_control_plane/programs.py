"""Where the control plane's programs and the CRDs are, and what is said when they are not there."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: The Go module that pins what is built.
MODULE = ROOT / "hack" / "control-plane"

#: Each program with the Go package that it is built from.
PACKAGES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kube-proxy": "k8s.io/kubernetes/cmd/kube-proxy",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
}
#: What a control plane needs; kube-proxy is there to be compared with.
NEEDED = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
#: The convention of Kubernetes' own test tools: a folder with ready programs.
ASSETS = "KUBEBUILDER_ASSETS"


class MissingError(Exception):
    """A program or CRD is not there. The message says in one line what to do."""


@dataclass(frozen=True, slots=True)
class Programs:
    """A folder with the programs."""

    folder: Path

    def path(self, name: str) -> Path:
        """The program of that name. Raises MissingError."""
        path = self.folder / name
        if not os.access(path, os.X_OK):
            raise MissingError(f"there is no program {name} in {self.folder}")
        return path

    def missing(self) -> list[str]:
        return [name for name in NEEDED if not os.access(self.folder / name, os.X_OK)]


@dataclass(frozen=True, slots=True)
class Bundle:
    """The CRDs of one release of the Gateway API: what its installation manifest holds."""

    version: str
    channel: str
    #: The Go module's checksum, as go.sum has it.
    checksum: str

    @property
    def folder(self) -> Path:
        return cache() / "gateway-api" / f"{self.version}-{self.channel}"

    def files(self) -> list[Path]:
        """The YAML files. Raises MissingError."""
        files = sorted(self.folder.glob("*.yaml"))
        if not files:
            raise MissingError(f"the CRDs of Gateway API {self.version} are not here: {_HOW}")
        return files


#: TCPRoute and UDPRoute at v1, beside Gateway at v1.
STANDARD = Bundle("v1.6.3", "standard", "h1:lKpJa5bGlraC/QeACvCpsHLdmO6y0iKfzVl6gzaFEYc=")
#: TCPRoute and UDPRoute at v1alpha2 only.
OLDER = Bundle("v1.5.1", "experimental", "h1:RqVRIlkhLhUO8wOHKTLnTJA6o/1un4po4/6M1nRzdd0=")
BUNDLES = {"standard": STANDARD, "older": OLDER}

_HOW = "run `make test-e2e` or `hack/control-plane.sh build` (once; needs Go and about 10 minutes)"


def cache() -> Path:
    """Where all that was built is kept, outside the repository."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "blixt"


def toolchain() -> str:
    """The Go release that the programs are built with, as in `go1.26.8`."""
    return _directive(r"^toolchain (\S+)$")


def kubernetes_version() -> str:
    """As in `v1.36.3`."""
    return _directive(r"^\s*k8s\.io/kubernetes (v\S+)")


def etcd_version() -> str:
    return _directive(r"^\s*go\.etcd\.io/etcd/server/v3 (v\S+)")


def link_flags() -> str:
    """What makes a program tell its release: without it, clients and servers take each other for too old."""
    version = kubernetes_version()
    major, minor, _ = version.removeprefix("v").split(".", 2)
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return " ".join(
        ["-s -w"] + [f"-X {package}.{name}={value}" for package in packages for name, value in values.items()]
    )


def built_folder() -> Path:
    """Where the programs of this very pin are kept once they are built. The pin includes the toolchain."""
    digest = hashlib.sha256()
    for part in (platform.machine(), repr(PACKAGES), link_flags()):
        digest.update(part.encode() + b"\0")
    for name in ("go.mod", "go.sum"):
        digest.update((MODULE / name).read_bytes() + b"\0")
    return cache() / "control-plane" / digest.hexdigest()[:16]


def find_programs() -> Programs:
    """The programs of $KUBEBUILDER_ASSETS if it is set, else those built here. Raises MissingError."""
    assets = os.environ.get(ASSETS)
    programs = Programs(Path(assets) if assets else built_folder())
    if missing := programs.missing():
        names = ", ".join(missing)
        if assets:
            raise MissingError(f"${ASSETS} is {assets}, which lacks {names}: add them, or unset it")
        raise MissingError(f"the control plane's programs are not built ({names}): {_HOW}")
    return programs


def check_ready() -> Programs:
    """All that a control plane with CRDs needs. Raises MissingError."""
    programs = find_programs()
    for bundle in BUNDLES.values():
        bundle.files()
    return programs


def _directive(pattern: str) -> str:
    found = re.search(pattern, (MODULE / "go.mod").read_text(), re.MULTILINE)
    if not found:
        raise MissingError(f"{MODULE / 'go.mod'} has no line like {pattern}")
    return found[1]
