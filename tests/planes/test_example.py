"""The plane of docs/example-plane: built and installed as a package of its own, found, run, and checked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blixt_backend.planes.capabilities import Capability
from blixt_backend.testing.suite import PlaneSuite
from blixt_lab import Host, cluster, manifests, wait_for
from blixt_lab.blixt import Blixt
from blixt_lab.daemon import script
from blixt_lab.load import start_servers
from blixt_lab.traffic import Target, spread

SOURCE = Path(__file__).parents[2] / "docs" / "example-plane"
ADDRESSES = ("10.96.30.1", "192.0.2.130", "2001:db8:100::130")


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that it is installed in, which is on the path of this process and of those it starts."""
    folder = tmp_path_factory.mktemp("example")
    offline = ("--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", *offline]
    subprocess.run([*pip, "--target", folder, SOURCE], check=True, timeout=100)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        yield folder


def test_it_is_as_short_as_the_docs_say() -> None:
    assert len((SOURCE / "example_plane.py").read_text().splitlines()) <= 70


def test_it_is_listed_with_what_it_claims(installed: Path) -> None:
    listed = planes()
    assert listed["planes"]["example"] == {
        "package": "blixt-plane-example 1.0",
        "summary": "An example: rules of nft, all written anew at every change",
        "usable": True,
        "only_shows": False,
    }
    claims = {key for key, each in listed["capabilities"].items() if each["planes"]["example"]}
    assert {Capability.TCP.key, Capability.LOAD_BALANCER_IPS.key} <= claims
    assert Capability.WEIGHTS.key not in claims


def planes() -> Any:
    command = [script("blixt-backend"), "planes", "-o", "json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)


@pytest.mark.lab
class TestExample(PlaneSuite):
    plane = "example"


class WithExample(Blixt):
    """The real daemons, the backends with this plane."""

    def backend_command(self, node: Host, *more: str) -> list[str]:
        own = [script("blixt-backend"), "--plane", "example", "--node-name", node.name]
        return [*own, "--api", self.api, *more]


@pytest.mark.lab
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_real_backend_runs_it_and_cleans_up_after_it() -> None:
    with cluster(nodes=1, pods=2, clients=1) as built:
        start_servers(built.lab, built.pods)
        blixt, (node,), client = WithExample(built), built.nodes, built.client
        blixt.start()
        blixt.apply("web", web(*built.pods))
        names = {pod.name for pod in built.pods}
        for target in targets():
            assert set(client.do(spread(target, 40)).answers) == names, target
        backend = blixt.backends[node.name]
        blixt.apply("web", web(*built.pods, affinity=True))
        wait_for(lambda: "default/web asks for what plane 'example' can't do" in backend.log_tail(), "a word")
        assert backend.terminate() == 0
        for target in targets():
            assert not client.do(spread(target, 10)).failures, target
        node.run(script("blixt-backend"), "--plane", "example", "--cleanup")
        for target in targets():
            assert not client.do(spread(target, 1, patience=1.0)).answers, target


def web(*pods: Host, affinity: bool = False) -> list[manifests.Manifest]:
    cluster_ip, *external = ADDRESSES
    chosen = "ClientIP" if affinity else "None"
    service = manifests.service("web", [cluster_ip], external=external, sessionAffinity=chosen)
    return [service, *manifests.slices("web", pods)]


def targets() -> list[Target]:
    outside = ADDRESSES[1:]
    return [Target(name, ip, port) for name, port in (("tcp", 80), ("udp", 53)) for ip in outside]
