"""What an operator types: commands that look, the daemon's refusals to start, and --cleanup."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from blixt_lab import Cluster, Host, cluster, manifests, wait_for
from blixt_lab.blixt import Blixt
from blixt_lab.daemon import Daemon, script
from blixt_lab.load import holding, start_servers
from blixt_lab.web import get
from blixt_lab.world import KINDS, Space, World

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def bare() -> Iterator[Cluster]:
    """One node with one pod, and nothing of Blixt's yet."""
    with cluster(nodes=1, pods=1) as built:
        yield built


def backend(bare: Cluster, pin_root: Path, *more: str, prefix: tuple[str, ...] = ()) -> list[str]:
    """A backend's command line; the frontend's address leads nowhere."""
    own = [script("blixt-backend"), "--interface", "eth0", "--api", "127.0.0.1:9", "--node-name", "node1"]
    return [*prefix, *own, "--pin-root", str(pin_root), *more]


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that a program ended with, exit code 1."""
    assert done.returncode == 1, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


@pytest.mark.parametrize("command", ["status", "services", "connections", "drops"])
def test_commands_show_tables_and_json_with_and_without_the_daemon(
    world: World, space: Space, command: str
) -> None:
    space.serve(world.pod("1-1"), tcp=8443)
    node = world.cluster["node1"]
    table = world.blixt.tool(node, command).stdout
    assert table.strip()
    running = world.blixt.inspect(node, command)
    daemon = world.blixt.backends["node1"]
    daemon.kill9()
    try:
        stopped = world.blixt.inspect(node, command)
    finally:
        daemon.start()
        space.apply()
    assert type(stopped) is type(running)


def test_services_names_what_is_in_force(world: World, space: Space) -> None:
    space.serve(*world.pods("1-1", "2-1"), tcp=8443)
    shown = json.dumps(world.blixt.inspect(world.cluster["node1"], "services"))
    for text in (space.name, space.cluster4, space.cluster6, space.outside4, "8443", "10.244.1.11"):
        assert text in shown


def test_connections_shows_an_open_one_with_all_its_addresses(world: World, space: Space) -> None:
    space.serve(world.pod("2-1"))
    client, node = world.cluster.client, world.cluster["node1"]
    with holding(client, space.target(("tcp", 4)), 1):
        rows = world.blixt.inspect(node, "connections")
    (row,) = (row for row in rows if row["service"] == space.outside4)
    assert (row["client"], row["service_port"]) == (client.address4, 80)
    assert (row["endpoint"], row["endpoint_port"]) == (world.pod("2-1").address4, 8080)
    assert row["masquerade"] == node.address4
    assert row["state"] == "established"
    assert row["packets_in"] >= 3
    assert row["packets_out"] >= 2


def test_watching_connections_sees_them_come_and_go(world: World, space: Space, tmp_path: Path) -> None:
    space.serve(world.pod("2-1"))
    node, log = world.cluster["node1"], tmp_path / "watched"
    command = [script("blixt-backend"), "connections", "--pin-root", str(world.blixt.pin_root(node))]
    watching = node.popen(*command, "--watch", "--vip", f"{space.outside4}:80", log=log)
    try:
        with holding(world.cluster.client, space.target(("tcp", 4)), 1):
            wait_for(lambda: " TCP " in log.read_text(), "the first look")
            with holding(world.cluster.client, space.target(("tcp", 4)), 1):
                wait_for(lambda: " + TCP " in log.read_text(), "the new connection")
        wait_for(lambda: " - TCP " in log.read_text(), "its end")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 0
    finally:
        watching.kill()
        watching.wait()
    shown = f"{space.outside4}:80 -> {world.pod('2-1').address4}:8080"
    assert all(shown in line for line in log.read_text().splitlines())


def test_drops_counts_each_refusal(world: World, space: Space) -> None:
    space.serve()
    before = drops(world)
    assert space.outcomes(world.cluster.client) == dict.fromkeys(KINDS, "refused")
    after = drops(world)
    # One TCP and one UDP conversation of each family, and nothing else was dropped.
    assert after - before == {("no_endpoint", "ipv4"): 2, ("no_endpoint", "ipv6"): 2}


def drops(world: World) -> Counter[tuple[str, str]]:
    """node1's drops by reason and family."""
    rows = world.blixt.inspect(world.cluster["node1"], "drops")
    return Counter({(row["reason"], family): row[family] for row in rows for family in ("ipv4", "ipv6")})


def test_an_interface_that_is_not_there(bare: Cluster) -> None:
    command = backend(bare, bare.lab.bpffs / "wrong", "--interface", "nosuch0")
    line = refusal(bare["node1"].run(*command, check=False))
    assert "nosuch0" in line


def test_no_privilege(bare: Cluster) -> None:
    prefix = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
    line = refusal(bare["node1"].run(*backend(bare, bare.lab.bpffs / "no", prefix=prefix), check=False))
    assert "root" in line or "CAP_" in line


def test_a_pin_root_where_no_bpf_file_system_can_be(bare: Cluster, tmp_path: Path) -> None:
    """The folder's parent is a file: nothing can be mounted there."""
    (tmp_path / "file").write_text("")
    done = bare["node1"].run(*backend(bare, tmp_path / "file" / "pins"), check=False)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert str(tmp_path / "file") in done.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        ["--no-such-option"],
        ["--xdp", "sideways"],
        ["--masquerade-ports", "9-1"],
        ["--max-services", "0"],
        ["--nodeport-addresses", "eth0"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(wrong: list[str]) -> None:
    done = subprocess.run([script("blixt-backend"), *wrong], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert wrong[0] in done.stderr


def test_cleanup_leaves_nothing(bare: Cluster) -> None:
    node, pins = bare["node1"], bare.lab.bpffs / "cleanup"
    assert attached(bare) == 0
    daemon = Daemon(bare.lab, node, "backend-cleanup", backend(bare, pins))
    daemon.start()
    wait_for(lambda: attached(bare) or daemon.exit_code is not None, "programs on devices")
    assert daemon.running, daemon.log_tail()
    assert daemon.terminate() == 0
    # The dataplane outlives the daemon, on purpose.
    assert attached(bare) > 0
    assert any(pins.rglob("*"))
    done = node.run(*backend(bare, pins, "--cleanup"))
    assert done.returncode == 0
    assert attached(bare) == 0
    assert not pins.exists() or not any(pins.iterdir())
    # Doing it again is no error.
    assert node.run(*backend(bare, pins, "--cleanup")).returncode == 0


def test_a_folder_outside_any_bpf_file_system_gets_one_until_cleanup(bare: Cluster, tmp_path: Path) -> None:
    node, pins = bare["node1"], tmp_path / "pins"
    daemon = Daemon(bare.lab, node, "backend-mount", backend(bare, pins))
    daemon.start()
    try:
        wait_for(lambda: attached(bare) or daemon.exit_code is not None, "programs on devices")
        assert pins.is_mount()
        assert daemon.terminate() == 0
        assert node.run(*backend(bare, pins, "--cleanup")).returncode == 0
        assert attached(bare) == 0
        assert not pins.is_mount(), "the file system that the backend mounted is still there"
    finally:
        daemon.kill9()
        if pins.is_mount():
            subprocess.run(["umount", str(pins)], check=True, timeout=30)


def test_a_full_map_keeps_what_it_holds_and_says_so(bare: Cluster) -> None:
    """A backend has room for a few service ports and is told of many more: what is in force goes on."""
    blixt = Blixt(bare)
    node, pod, pins = bare["node1"], bare.pods[0], bare.lab.bpffs / "small"
    space = Space(World(bare, blixt, start_servers(bare.lab, bare.pods)), 1)
    command = [*blixt.backend_command(node), "--pin-root", str(pins), "--max-services", "16"]
    daemon = Daemon(bare.lab, node, "backend-small", command)
    try:
        blixt.frontend.start()
        daemon.start()
        space.serve(pod)
        with holding(bare.client, space.target(("tcp", 4)), 5) as held:
            many = [manifests.service(f"s{n}", [f"10.96.9.{n}"], tcp=443, udp=443) for n in range(1, 60)]
            blixt.folder.write("many", many)
            named = "--max-services"
            wait_for(lambda: named in daemon.log.read_text(), f"the backend to name {named}")
            assert space.outcomes(bare.client) == dict.fromkeys(KINDS, "1-1")
            wait_for(lambda: health(node) == 503, "the node to be unwell", timeout=40)
        assert held.result.lost == []
        # With room again, changes get through again.
        blixt.folder.remove("many")
        space.serve()
        assert space.outcomes(bare.client) == dict.fromkeys(KINDS, "refused")
        assert health(node) == 200
        assert daemon.running
    finally:
        daemon.kill9()
        blixt.frontend.terminate()
        node.run(*command, "--cleanup")


def health(node: Host) -> int:
    """The status of the node's /healthz."""
    return get(node, "127.0.0.1", 10256, "/healthz").status


def attached(bare: Cluster) -> int:
    """How many TC and XDP programs the kernel has on the node's devices."""
    node = bare["node1"]
    links = json.loads(node.run("ip", "-json", "link").stdout)
    return node.call(lambda: sum(tc_programs(link["ifindex"]) + ("xdp" in link) for link in links))


def tc_programs(ifindex: int) -> int:
    """BPF_PROG_QUERY for BPF_TCX_INGRESS and BPF_TCX_EGRESS (linux/bpf.h), by libbpf."""
    libbpf = ctypes.CDLL("libbpf.so.1", use_errno=True)
    found = 0
    for attach_type in (46, 47):
        count = ctypes.c_uint32()
        result = libbpf.bpf_prog_query(ifindex, attach_type, 0, None, None, ctypes.byref(count))
        assert result == 0, os.strerror(-result)
        found += count.value
    return found


def test_backends_commands_need_no_frontend_package() -> None:
    """`status` and the others are the backend's: they import no gRPC and no frontend."""
    program = (
        "import sys, blixt_backend.cli as cli\n"
        "try:\n"
        "    cli.main(['status', '--help'])\n"
        "except SystemExit:\n"
        "    pass\n"
        "assert 'grpc' not in sys.modules, 'grpc was imported'\n"
        "assert not any(name.startswith('blixt_frontend') for name in sys.modules)\n"
    )
    done = subprocess.run(
        [os.fspath(Path(script("blixt-backend")).parent / "python"), "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
