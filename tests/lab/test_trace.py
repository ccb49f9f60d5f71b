"""Where packets end: the kernel's own drops of a service's packets, in the node and in its pods."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from blixt_lab import wait_for
from blixt_lab.daemon import script
from blixt_lab.world import Space, World

pytestmark = pytest.mark.lab

#: A port of pods that nobody listens on.
DEAF = 9


class Trace:
    """What a trace on node1 has told so far."""

    def __init__(self, log: Path) -> None:
        self._log = log

    @property
    def lines(self) -> list[str]:
        return self._log.read_text().splitlines()

    def tells(self, *parts: str) -> str:
        """Wait for a line with all of these."""

        def found() -> str:
            return next((line for line in self.lines if all(part in line for part in parts)), "")

        return wait_for(found, f"a line with {parts}")


@contextmanager
def tracing(world: World, folder: Path, *options: str) -> Iterator[Trace]:
    """It ends by Ctrl-C, and well."""
    node, log = world.cluster["node1"], folder / "trace"
    command = [script("blixt-backend"), "trace", "--pin-root", str(world.blixt.pin_root(node)), *options]
    process = node.popen(*command, log=log)
    try:
        trace = Trace(log)
        trace.tells("listening")
        yield trace
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("version", [4, 6])
def test_a_pod_that_does_not_listen_is_told_of_by_the_service_s_address(
    world: World, space: Space, tmp_path: Path, version: int
) -> None:
    pod = world.pod("1-1")
    space.serve(pod, ports={"udp": DEAF})
    address = space.outside4 if version == 4 else space.outside6
    shown = f"{address}:53" if version == 4 else f"[{address}]:53"
    ends = f"{pod.address4}:{DEAF}" if version == 4 else f"[{pod.address6}]:{DEAF}"
    with tracing(world, tmp_path, "--vip", shown) as trace:
        assert space.outcome(world.cluster.client, ("udp", version)) == "refused"
        trace.tells("kernel  NO_SOCKET UDP", f"-> {ends} ", " on eth0 at ")
    assert any(line.split()[:2] == ["kernel", "NO_SOCKET"] for line in trace.lines)


def test_others_packets_are_not_told_of_and_our_own_counters_are(
    world: World, space: Space, tmp_path: Path
) -> None:
    space.serve(world.pod("1-1"), ports={"udp": DEAF})
    other = world.pod("1-2").address4
    with tracing(world, tmp_path, "--endpoint", other, "-o", "json") as trace:
        space.outcome(world.cluster.client, ("udp", 4))
        space.serve()
        space.outcome(world.cluster.client, ("tcp", 4))
        trace.tells('"by": "blixt"', '"reason": "no_endpoint"')
    rows = [json.loads(line) for line in trace.lines]
    assert {row["by"] for row in rows} >= {"trace", "blixt"}
    # What the kernel drops of that endpoint's own packets meanwhile is rightly told.
    assert [row for row in rows if row["by"] == "kernel" and other not in json.dumps(row)] == []


def test_it_ends_by_itself_after_its_seconds(world: World, space: Space) -> None:
    node = world.cluster["node1"]
    shown = world.blixt.tool(node, "trace", "--vip", f"{space.outside4}:80", "--seconds", "1").stdout
    assert shown.splitlines()[0].endswith("trace   listening")
