"""hack/kind-up.sh's arguments, messages and steps, with programs that only note how they were called.

What it applies, and that a real API server takes it, is tested in tests/e2e.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "hack" / "kind-up.sh"
#: What the script may take for granted on any machine.
USUAL = ("bash", "cat", "cut", "dirname", "grep", "mktemp", "rm", "uname")

NOTE = 'echo "$(basename "$0") $*" >>"$CALLS"\n'
KIND = """
case "$1 $2" in
"get clusters") cat "$CLUSTERS" ;;
"create cluster") echo "$4" >>"$CLUSTERS" ;;
"get kubeconfig") echo kubeconfig-of-"$4" ;;
esac
"""
DOCKER = '[ "$1" != info ] || [ -z "${NO_DAEMON:-}" ]\n'
KUBECTL = """
case "$*" in
*condition=Programmed*) [ -z "${NEVER_PROGRAMMED:-}" ] ;;
*"get gateway/edge"*addresses*) echo 203.0.113.1 ;;
*"get gateway/edge"*conditions*) echo "Programmed=False AddressNotAssigned: none is free" ;;
*"get nodes"*) echo 172.18.0.2 fc00:f853:ccd:e793::2 ;;
esac
"""
PROGRAMS = {"kind": KIND, "docker": DOCKER, "kubectl": KUBECTL}


class Machine:
    """A PATH with some programs, and what was called on it."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        self._calls = folder / "calls"
        self._clusters = folder / "clusters"
        self._clusters.touch()
        for name in (*USUAL, "basename"):
            program = shutil.which(name)
            assert program
            (self.bin / name).symlink_to(program)

    def has(self, *names: str) -> Machine:
        for name in names:
            program = self.bin / name
            program.write_text(f"#!/bin/bash\n{NOTE}{PROGRAMS[name]}")
            program.chmod(0o755)
        return self

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        self._calls.write_text("")
        files = {"CALLS": str(self._calls), "CLUSTERS": str(self._clusters), "TMPDIR": str(self.bin.parent)}
        return subprocess.run(
            [SCRIPT, *arguments],
            env={"PATH": str(self.bin), "HOME": os.devnull, **files, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def calls(self) -> list[str]:
        return self._calls.read_text().splitlines()

    def called(self, *words: str) -> bool:
        return any(all(word in call for word in words) for call in self.calls)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_help_teaches_and_needs_nothing(machine: Machine) -> None:
    done = machine.run("--help")
    assert done.returncode == 0
    assert "hack/kind-up.sh [--name NAME]" in done.stdout
    assert "Gateway API v1." in done.stdout


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--nonsense"], "there is no argument '--nonsense'"),
        (["--name"], "--name needs a value"),
        (["--timeout", ""], "--timeout needs a value"),
        (["--timeout", "soon"], "--timeout soon: a number of seconds is needed"),
        (["--timeout", "0"], "--timeout 0: a number"),
        (["--name", "My Cluster"], "--name My Cluster: small letters"),
    ],
)
def test_bad_usage_is_told_of_before_anything_is_done(
    machine: Machine, arguments: list[str], problem: str
) -> None:
    done = machine.has(*PROGRAMS).run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"kind-up: {problem}")
    assert len(done.stderr.splitlines()) == 1
    assert machine.calls == []


def test_each_missing_program_is_one_line(machine: Machine) -> None:
    done = machine.has("kind").run()
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert [line.split(" (")[0] for line in lines] == [
        "kind-up: missing: kubectl",
        "kind-up: missing: docker",
    ]
    assert machine.calls == []


def test_a_cluster_of_ones_own_needs_only_kubectl(machine: Machine, tmp_path: Path) -> None:
    config = tmp_path / "config"
    assert "missing: kubectl" in machine.run("--kubeconfig", str(config)).stderr
    machine.has("kubectl")
    done = machine.run("--kubeconfig", str(config))
    assert done.returncode == 1
    assert f"--kubeconfig {config}: there is no such file" in done.stderr

    config.touch()
    done = machine.run("--kubeconfig", str(config))
    assert done.returncode == 0, done.stderr
    assert all(call.startswith(f"kubectl --kubeconfig {config} ") for call in machine.calls)
    assert not machine.called("rollout restart")
    assert "kind delete cluster" not in done.stdout


def test_a_docker_that_does_not_answer_is_told_of(machine: Machine) -> None:
    done = machine.has(*PROGRAMS).run(NO_DAEMON="yes")
    assert done.returncode == 1
    assert done.stderr.startswith("kind-up: docker is installed, but its daemon doesn't answer")
    assert len(done.stderr.splitlines()) == 1
    assert machine.calls == ["docker info"]


@pytest.mark.skipif(not Path("/sys/kernel/btf/vmlinux").exists(), reason="this kernel has no BTF")
def test_from_nothing_to_a_gateway_and_once_more(machine: Machine) -> None:
    done = machine.has(*PROGRAMS).run("--name", "trial")
    assert done.returncode == 0, done.stderr
    steps = [
        "kind create cluster --name trial",
        "docker build --quiet -f build/Containerfile.frontend -t blixt-frontend:kind .",
        "docker build --quiet -f build/Containerfile.backend -t blixt-backend:kind .",
        "kind load docker-image --name trial blixt-frontend:kind blixt-backend:kind",
        "-f https://github.com/kubernetes-sigs/gateway-api/releases/",
        "-k config/kind",
        "-f config/kind/demo.yaml",
        "wait --for=condition=Programmed --timeout=300s gateway/edge",
    ]
    found = [next(i for i, call in enumerate(machine.calls) if step in call) for step in steps]
    assert found == sorted(found)
    assert not machine.called("rollout restart")
    assert "sudo ip route replace 203.0.113.0/24 via 172.18.0.2" in done.stdout
    assert "nc 203.0.113.1 8080" in done.stdout
    assert "kind delete cluster --name trial" in done.stdout

    again = machine.run("--name", "trial")
    assert again.returncode == 0, again.stderr
    assert "the cluster trial is there" in again.stdout
    assert not machine.called("create cluster")
    assert machine.called("rollout restart deployment/blixt-frontend daemonset/blixt-backend")
    assert [path.name for path in machine.bin.parent.glob("tmp.*")] == []


@pytest.mark.skipif(not Path("/sys/kernel/btf/vmlinux").exists(), reason="this kernel has no BTF")
def test_a_gateway_that_does_not_come_up_is_a_failure_with_its_reason(machine: Machine) -> None:
    done = machine.has(*PROGRAMS).run("--timeout", "5", NEVER_PROGRAMMED="yes")
    assert done.returncode == 1
    assert machine.called("--timeout=5s")
    assert "Programmed=False AddressNotAssigned: none is free" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("kind-up: the demo's Gateway did not become Programmed")
    assert "sudo ip route" not in done.stdout
