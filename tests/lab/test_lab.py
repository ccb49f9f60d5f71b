"""The lab itself: it routes, its tools count right, it leaves nothing behind. Blixt takes no part."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from blixt_lab import Checksums, Cluster, Lab, cluster, open_lab, registry, wait_for
from blixt_lab.load import Server, hammering, holding, start_servers
from blixt_lab.namespaces import NAMED
from blixt_lab.traffic import TalkError, Target, ask, spread

pytestmark = pytest.mark.lab

_TESTS = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def plain() -> Iterator[tuple[Cluster, dict[str, Server]]]:
    """A cluster with servers on its pods, and plain routing."""
    with cluster() as built:
        yield built, start_servers(built.lab, built.pods)


def test_everyone_reaches_every_pod(plain: tuple[Cluster, dict[str, Server]]) -> None:
    built, _ = plain
    for pod in built.pods:
        for address in (pod.address4, pod.address6):
            for target in (Target("tcp", address, 8080), Target("udp", address, 5353)):
                for client in (*built.clients, *built.nodes, *built.pods):
                    answer = client.do(ask(target))
                    assert answer.server == pod.name
                    if client not in built.nodes:
                        assert answer.client in (client.address4, client.address6)


def test_spread_counts_answers_and_refusals(plain: tuple[Cluster, dict[str, Server]]) -> None:
    built, _ = plain
    pod = built.pods[0]
    served = built.client.do(spread(Target("tcp", pod.address4, 8080), 50))
    assert (served.answers, served.failures) == ({pod.name: 50}, {})
    assert served.seen == {(pod.name, built.client.address4): 50}
    for protocol in ("tcp", "udp"):
        refused = built.client.do(spread(Target(protocol, pod.address6, 9), 20))
        assert (refused.answers, refused.failures) == ({}, {"refused": 20})


def test_spread_tells_servers_behind_one_address_apart(plain: tuple[Cluster, dict[str, Server]]) -> None:
    """Two pods share an address (anycast), and their node routes to both by equal cost."""
    built, _ = plain
    node, pods = built["node1"], built.pods_of(built["node1"])
    for pod in pods:
        pod.ip("addr add 192.0.2.1/32 dev lo")
    node.ip("route add 192.0.2.1/32 " + " ".join(f"nexthop dev veth{n}" for n in (1, 2)))
    try:
        got = built.client.do(spread(Target("tcp", "192.0.2.1", 8080), 200))
    finally:
        node.ip("route del 192.0.2.1/32")
        for pod in pods:
            pod.ip("addr del 192.0.2.1/32 dev lo")
    assert got.failures == {}
    assert got.answers.total() == 200
    assert {pod.name: got.share(pod.name) for pod in pods} == pytest.approx(
        {pod.name: 0.5 for pod in pods}, abs=0.2
    )


def test_what_a_killed_server_costs_is_counted(plain: tuple[Cluster, dict[str, Server]]) -> None:
    built, servers = plain
    pod = built.pods[-1]
    tcp, udp = Target("tcp", pod.address4, 8080), Target("udp", pod.address6, 5353)
    client = built.client
    with (
        hammering(client, tcp, rate=100) as hammered,
        holding(client, tcp, 20, interval=0.1) as held,
        holding(client, udp, 5, interval=0.1) as flows,
    ):
        servers[pod.name].kill()
        wait_for(lambda: len(held.result.lost) == 20, "all connections lost")
        wait_for(lambda: flows.result.missed["refused"] >= 5, "refused datagrams")
        wait_for(lambda: len(hammered.result.failures) > 10, "failed connections")
        servers[pod.name].start()
        servers[pod.name].wait_ready()
        wait_for(lambda: hammered.result.answers[pod.name] > 10, "connections to the new server")
    assert {loss.server for loss in held.result.lost} == {pod.name}
    assert {loss.reason for loss in held.result.lost} <= {"closed", "reset"}
    assert flows.result.lost == []
    result = hammered.result
    assert result.tried == result.answers.total() + len(result.failures)


@pytest.mark.parametrize("checksums", list(Checksums), ids=lambda checksums: checksums.value)
def test_packets_have_checksums_as_chosen(
    plain: tuple[Cluster, dict[str, Server]], checksums: Checksums
) -> None:
    """Looked at in the packets: what arrives at a node's uplink, and what arrives at its pod."""
    built, _ = plain
    node, pod = built["node1"], built["pod-1-1"]
    built.set_checksums(checksums)
    taps = [host.call(_tap) for host in (node, pod)]
    try:
        built.client.do(ask(Target("udp", pod.address4, 5353), "checksum-probe"))
        complete = tuple(_udp_is_complete(tap, b"checksum-probe") for tap in taps)
    finally:
        for tap in taps:
            tap.close()
        built.set_checksums(Checksums.PARTIAL)
    assert (
        complete
        == {
            Checksums.PARTIAL: (False, False),
            Checksums.FINALISED: (False, True),
            Checksums.FULL: (True, True),
        }[checksums]
    )


def test_a_wrong_checksum_is_counted(plain: tuple[Cluster, dict[str, Server]]) -> None:
    built, _ = plain
    pod = built.pods[0]
    before = pod.checksum_errors()

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw:
            raw.sendto(struct.pack("!HHHH", 40_000, 5353, 12, 0xBAD) + b"oops", (pod.address4, 0))

    built.client.call(send)
    wait_for(lambda: pod.checksum_errors() == before + 1, "the pod to count the datagram")
    assert built.checksum_errors() == {pod.name: before + 1}


def test_an_exception_takes_everything_down() -> None:
    made: list[Lab] = []

    def fail() -> None:
        with open_lab() as lab:
            made.append(lab)
            lab.entry.add_namespaces([lab.namespace("host")])
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    _assert_gone(made[0].entry, [made[0].namespace("host")])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_leaves_nothing(number: int, tmp_path: Path) -> None:
    """After SIGKILL it is the next lab that cleans up; processes that ran in the lab go as well."""
    told = tmp_path / "told"
    program = (
        "import pathlib, time\n"
        "from blixt_lab import cluster\n"
        "with cluster(nodes=1, pods=1, cgroups=True) as c:\n"
        "    daemon = c['node1'].popen('sleep', '300')\n"
        f"    path = pathlib.Path({str(told)!r})\n"
        "    path.with_suffix('.new').write_text(f'{c.lab.id} {daemon.pid}')\n"
        "    path.with_suffix('.new').rename(path)\n"
        "    time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(_TESTS)}
    process = subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: told.exists() or process.poll() is not None, "the lab of the other process")
        lab_id, daemon = told.read_text().split()
        entry = registry.find(lab_id)
        names, (cgroup,) = entry.namespaces(), entry.cgroups()
        assert len(names) == 5
        members = cgroup / "cgroup.threads"
        wait_for(lambda: daemon in members.read_text().split(), "the process to enter its cgroup")
        with open_lab():  # another lab beside it, whose sweep leaves a living owner's alone
            assert entry.owner_lives()
            assert all((NAMED / name).exists() for name in names)
        process.send_signal(number)
        assert process.wait(30) != 0
    finally:
        process.kill()
        process.wait()
    if number == signal.SIGKILL:
        assert registry.sweep() == [lab_id]
    _assert_gone(entry, names)
    assert not cgroup.exists()
    wait_for(lambda: not Path(f"/proc/{daemon}/cmdline").exists(), "the lab's process to end", timeout=5)


def test_a_kept_lab_stays_until_it_is_taken_down() -> None:
    with open_lab() as lab:
        lab.entry.add_namespaces([lab.namespace("host")])
        lab.entry.keep()
    assert (NAMED / lab.namespace("host")).exists()
    environment = {**os.environ, "PYTHONPATH": str(_TESTS)}
    command = [sys.executable, "-m", "blixt_lab"]
    listed = subprocess.run([*command, "list"], env=environment, capture_output=True, text=True, check=True)
    assert f"{lab.id}  kept" in listed.stdout
    subprocess.run([*command, "down", lab.id], env=environment, check=True)
    _assert_gone(lab.entry, [lab.namespace("host")])


@pytest.mark.parametrize(
    "arguments",
    [["spread", "--count", "5"], ["hammer", "--seconds", "0.1"], ["hold", "--seconds", "0.1"]],
    ids="-".join,
)
def test_tools_run_by_hand_print_json(plain: tuple[Cluster, dict[str, Server]], arguments: list[str]) -> None:
    built, _ = plain
    pod = built.pods[0]
    tool, *options = arguments
    command = [sys.executable, "-m", "blixt_lab.traffic", tool, "tcp", pod.address4, "8080", *options]
    shown = json.loads(built.client.run("env", f"PYTHONPATH={_TESTS}", *command).stdout)
    if tool == "hold":
        assert set(shown["servers"].values()) == {pod.name}
        assert (len(shown["servers"]), shown["lost"], shown["unopened"]) == (200, [], {})
    else:
        assert set(shown["answers"]) == {pod.name}
        assert not shown["failures"]
    if tool == "spread":
        assert shown["answers"] == {pod.name: 5}
        assert shown["seen"] == {f"{pod.name} saw {built.client.address4}": 5}


def test_talking_to_nobody_says_why(plain: tuple[Cluster, dict[str, Server]]) -> None:
    built, _ = plain
    with pytest.raises(TalkError, match="timeout"):
        built.client.do(ask(Target("udp", "192.0.2.99", 53), patience=0.3))


def _assert_gone(entry: registry.Entry, names: list[str]) -> None:
    assert not entry.folder.exists()
    assert [name for name in names if (NAMED / name).exists()] == []
    assert str(entry.bpffs) not in Path("/proc/mounts").read_text()


def _tap() -> socket.socket:
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
    tap.bind(("eth0", 0))
    tap.settimeout(3)
    return tap


def _udp_is_complete(tap: socket.socket, payload: bytes) -> bool:
    """Whether the checksum of the request that was seen covers all of it (RFC 768)."""
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        packet = tap.recv(2048)[14:]
        header, datagram = packet[:20], packet[20:]
        if header[9] == socket.IPPROTO_UDP and datagram[8:].startswith(payload):
            pseudo = header[12:20] + struct.pack("!HH", socket.IPPROTO_UDP, len(datagram))
            covered = pseudo + datagram + b"\0" * (len(datagram) % 2)
            total = sum(struct.unpack(f"!{len(covered) // 2}H", covered))
            while total >> 16:
                total = (total & 0xFFFF) + (total >> 16)
            return bool(total == 0xFFFF)
    raise AssertionError("the datagram was not seen")
