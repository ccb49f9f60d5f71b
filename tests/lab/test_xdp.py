"""XDP on an uplink by the operator's word, where frames arrive with complete checksums."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from blixt_lab import Checksums, wait_for
from blixt_lab.load import holding
from blixt_lab.traffic import Held, Target
from blixt_lab.world import KINDS, Space, World

pytestmark = pytest.mark.lab


@pytest.fixture
def wire(world: World) -> Iterator[None]:
    """Senders complete checksums, as they come from a wire."""
    world.cluster.set_checksums(Checksums.FULL)
    yield
    world.cluster.set_checksums(Checksums.PARTIAL)


@pytest.fixture
def restarted(world: World, mode: str) -> Iterator[None]:
    """node1's backend with that XDP mode, and as before afterwards."""
    daemon = world.blixt.backends["node1"]
    usual = list(daemon.argv)

    def restart(argv: list[str], hook: str, there: bool) -> None:
        assert daemon.terminate() == 0
        daemon.argv = argv
        daemon.start()
        wait_for(lambda: (hook in hooks_of(world)) == there, f"{hook} to be {'there' if there else 'gone'}")

    restart([*usual, "--xdp", mode], f"xdp_{mode}", True)
    yield
    restart(usual, f"xdp_{mode}", False)


def hooks_of(world: World) -> set[str]:
    """The hooks on node1's uplink."""
    hooks = world.blixt.inspect(world.cluster["node1"], "status")["hooks"]
    return {hook["hook"] for hook in hooks if hook["interface"] == "eth0"}


@pytest.mark.parametrize("mode", ["generic"])
@pytest.mark.usefixtures("wire", "restarted")
def test_known_flows_go_on_by_xdp(world: World, space: Space) -> None:
    """Through XDP to an endpoint of another node and back, and beside it to one of this node, by TC."""
    pods = world.pods("1-1", "2-1")
    space.serve(*pods)
    for kind in KINDS:
        result = exchange(world, space.target(kind), 400)
        assert result.lost == []
        assert dict(result.missed) == {}
        assert set(result.by_server) == {pod.name for pod in pods}


@pytest.mark.parametrize("mode", ["native"])
@pytest.mark.usefixtures("restarted")
def test_native_mode_is_attached_where_asked_for(world: World) -> None:
    """Without traffic: what a veth sends from native XDP may wait in its peer's ring, other than a NIC."""
    assert {"xdp_native", "uplink_ingress", "node_egress"} <= hooks_of(world)


def test_auto_leaves_a_veth_to_tc(world: World) -> None:
    assert not {hook for hook in hooks_of(world) if hook.startswith("xdp")}


def exchange(world: World, target: Target, count: int) -> Held:
    """So many questions and answers over 20 conversations."""
    with holding(world.cluster.client, target, 20, interval=0.02) as held:
        wait_for(lambda: held.result.exchanges > count, "exchanges")
    return held.result
