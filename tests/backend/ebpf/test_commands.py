"""`status`, `services`, `connections` and `drops` over maps that are filled by hand."""

from __future__ import annotations

import ipaddress
import json
import struct
import time
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from blixt_backend.model import (
    Algorithm,
    Endpoint,
    Origin,
    PackedAddress,
    PortMapping,
    Protocol,
    Scope,
    Service,
    ServiceView,
)
from blixt_backend.planes.ebpf.commands import COMMANDS
from blixt_backend.planes.ebpf.kernel import ServiceMaps
from blixt_backend.planes.ebpf.layout import FAMILIES, IPV4, TICK_SHIFT, DeviceFlag, DropReason
from blixt_backend.planes.ebpf.maps import BpfMap
from blixt_backend.planes.ebpf.pins import Pins
from blixt_backend.planes.ebpf.programs import Programs
from blixt_backend.planes.ebpf.reconcile import Reconciler
from blixt_backend.planes.ebpf.sizes import Sizes
from blixt_backend.planes.ebpf.tasks import Tasks

pytestmark = pytest.mark.bpf

RODATA = ("hash_seed", "masquerade_port_first", "masquerade_port_count", "checksum_ipv6_flag")


def ip(text: str) -> PackedAddress:
    return PackedAddress(ipaddress.ip_address(text).packed)


def port(number: int) -> bytes:
    return number.to_bytes(2, "big")


@pytest.fixture
def root(bpffs: Path) -> Path:
    """A gateway's listener with two weighted backends and a refused share, and a Service that drains."""
    pins = Pins(bpffs / "root")
    pins.prepare(FAMILIES)
    views = [
        ServiceView(
            Service(
                "demo",
                "gw.tcp",
                origin=Origin.GATEWAY_LISTENER,
                load_balancer_ips=(ip("203.0.113.7"), ip("2001:db8::7")),
                ports=(PortMapping("", Protocol.TCP, 80),),
            ),
            (
                Endpoint("a", (ip("10.0.0.1"), ip("fd00::1")), group=1, weight=70, local=True),
                Endpoint("b", (ip("10.0.0.2"),), group=2, weight=20),
                Endpoint("r", reject=True, group=3, weight=10),
            ),
        ),
        ServiceView(
            Service(
                "demo",
                "web",
                cluster_ips=(ip("10.96.0.1"),),
                ports=(PortMapping("http", Protocol.TCP, 80),),
                internal_traffic_local=True,
                affinity_seconds=10800,
            ),
            (
                Endpoint("a", (ip("10.0.0.9"),), scopes=Scope.NONE),
                Endpoint("b", (ip("10.0.0.8"),), scopes=Scope.CLUSTER),
            ),
        ),
        ServiceView(
            Service(
                "demo",
                "ring",
                cluster_ips=(ip("10.96.0.2"),),
                ports=(PortMapping("http", Protocol.TCP, 80),),
                algorithm=Algorithm.MAGLEV,
            ),
            tuple(Endpoint(str(i), (ip(f"10.0.1.{i}"),)) for i in range(1, 5)),
        ),
    ]
    desired = {view.service.path: view for view in views}
    for layout in FAMILIES:
        sizes = Sizes(64, 64, 64)
        loaded = Programs.load(layout, pins.maps(layout), sizes, dict.fromkeys(RODATA, 1))
        tasks = Tasks.load(layout, pins.maps(layout), sizes)
        maps = ServiceMaps.open(layout, pins.maps(layout), tasks)
        Reconciler(maps).apply(desired, (), desired, (), True)
        maps.close()
        tasks.close()
        loaded.close()
    return pins.root


def run(root: Path, *arguments: str) -> Result:
    group = click.Group(commands={command.name: command for command in COMMANDS if command.name})
    name, *rest = arguments
    return CliRunner().invoke(group, [name, "--pin-root", str(root), *rest])


def as_json(root: Path, *arguments: str) -> Any:
    result = run(root, *arguments, "-o", "json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def test_services_tell_shares_and_counters(root: Path) -> None:
    with BpfMap.open(Pins(root).maps(IPV4) / "counters") as counters:
        cpus = counters.stride // 48
        counters.update(struct.pack("I", 1), struct.pack("6Q", 7, 1, 70, 7000, 60, 600) * cpus)
    gateway, six, _, web = sorted(as_json(root, "services"), key=lambda row: (row["name"], row["family"]))
    assert six["family"] == "ipv6"
    assert (gateway["family"], gateway["name"]) == ("ipv4", "demo/gw.tcp:80/TCP")
    shares = {endpoint["address"]: endpoint["shares"] for endpoint in gateway["endpoints"]}
    assert shares == {"10.0.0.1": [0.7], "10.0.0.2": [0.2]}
    assert gateway["refused_shares"] == [0.1]
    assert gateway["connections"] == 7 * cpus
    assert gateway["bytes_out"] == 600 * cpus
    assert gateway["frontends"] == [
        {
            "address": "203.0.113.7",
            "port": 80,
            "protocol": "TCP",
            "inside": 0,
            "outside": 0,
            "source_ranges": False,
            "without_endpoint": "refuse",
        }
    ]
    assert web["frontends"][0]["inside"] is None
    assert web["frontends"][0]["without_endpoint"] == "drop"
    blank: dict[str, Any] = {"port": 80, "local": False, "open_connections": None, "shares": []}
    assert web["endpoints"] == [
        {"address": "10.0.0.9", "draining": True, **blank},
        {"address": "10.0.0.8", "draining": False, **blank},
    ]
    assert web["affinity_seconds"] == 10801  # ticks are 1.07 s, rounded up


def test_services_tell_how_they_are_balanced(root: Path) -> None:
    rows = {row["name"]: row for row in as_json(root, "services")}
    algorithms = {name: row["algorithm"] for name, row in rows.items()}
    assert algorithms == {
        "demo/gw.tcp:80/TCP": "WeightedRandom",
        "demo/ring:http/TCP": "Maglev",
        "demo/web:http/TCP": "WeightedRandom",
    }
    shares = [endpoint["shares"] for endpoint in rows["demo/ring:http/TCP"]["endpoints"]]
    assert sum(share for (share,) in shares) == pytest.approx(1, abs=1e-5)
    assert all(share == pytest.approx(0.25, abs=1 / 509) for (share,) in shares)
    assert "balanced by Maglev" in run(root, "services").output


def test_services_as_a_table(root: Path) -> None:
    lines = [line.strip() for line in run(root, "services").output.splitlines()]
    assert "203.0.113.7:80/TCP" in lines
    assert "[2001:db8::7]:80/TCP" in lines
    assert "10.96.0.1:80/TCP (inside: no endpoint, drop; outside: no endpoint, drop)" in lines
    assert any(line.split() == ["10.0.0.1:80", "70.00%", "local"] for line in lines)
    assert any(line.split() == ["refused", "10.00%"] for line in lines)


def record(root: Path, client: int, flags: int = 0, answered: int = 0, seconds_ago: int = 5) -> None:
    """A masqueraded TCP connection, as the programs write it: two entries."""
    tick = (time.clock_gettime_ns(time.CLOCK_MONOTONIC) >> TICK_SHIFT) - int(seconds_ago / 1.0737)
    source, service, node, pod = ip("198.51.100.5"), ip("203.0.113.7"), ip("192.0.2.1"), ip("10.0.0.2")
    blank = (0, 0, 2, 0, 1)
    way = (3, 1500, 1, bytes(6), bytes(6))

    def entry(a: bytes, b: bytes, a_port: int, b_port: int, own: int, packets: int) -> bytes:
        return IPV4.connection.pack(
            a, b, port(a_port), port(b_port), *blank, own | 2, tick, *way, packets, packets * 100
        )

    with BpfMap.open(Pins(root).maps(IPV4) / "connections") as table:
        table.update(
            IPV4.flow.pack(source, service, port(client), port(80), 6),
            entry(node, pod, 2000 + client, 80, flags, 4),
        )
        table.update(
            IPV4.flow.pack(pod, node, port(80), port(2000 + client), 6),
            entry(service, source, 80, client, flags | 1, answered),
        )


def test_connections_are_shown_once_with_both_directions(root: Path) -> None:
    record(root, 4000, answered=3)
    (row,) = as_json(root, "connections")
    age = row.pop("seen_seconds_ago")
    assert 3 <= age <= 8
    assert row == {
        "family": "ipv4",
        "protocol": "TCP",
        "client": "198.51.100.5",
        "client_port": 4000,
        "service": "203.0.113.7",
        "service_port": 80,
        "service_name": "demo/gw.tcp:80/TCP",
        "endpoint": "10.0.0.2",
        "endpoint_port": 80,
        "masquerade": "192.0.2.1",
        "masquerade_port": 6000,
        "by_tunnel": False,
        "state": "established",
        "packets_in": 4,
        "bytes_in": 400,
        "packets_out": 3,
        "bytes_out": 300,
    }
    assert "198.51.100.5:4000" in run(root, "connections").output


@pytest.mark.parametrize(
    ("flags", "answered", "state"),
    [
        (0, 0, "new"),
        (0, 1, "established"),
        (4, 1, "closing"),
        (8, 1, "closing"),
        (12, 1, "closed"),
        (16, 0, "closed"),
    ],
)
def test_states(root: Path, flags: int, answered: int, state: str) -> None:
    record(root, 4000, flags, answered)
    assert [row["state"] for row in as_json(root, "connections")] == [state]


@pytest.mark.parametrize(
    ("flags", "answers", "state"), [(0, 0, "embryonic"), (32, 1, "embryonic"), (16 | 32, 1, "closed")]
)
def test_a_flow_that_is_no_connection_yet_is_shown_as_such(
    root: Path, flags: int, answers: int, state: str
) -> None:
    record_embryo(root, 4000, flags, answers)
    (row,) = as_json(root, "connections", "--vip", "203.0.113.7:80")
    assert row.pop("seen_seconds_ago") <= 3
    assert row == {
        "family": "ipv4",
        "protocol": "TCP",
        "client": "198.51.100.5",
        "client_port": 4000,
        "service": "203.0.113.7",
        "service_port": 80,
        "service_name": "demo/gw.tcp:80/TCP",
        "endpoint": "10.0.0.2",
        "endpoint_port": 80,
        "masquerade": "192.0.2.1",
        "masquerade_port": 6000,
        "by_tunnel": False,
        "state": state,
        "packets_in": 2,
        "bytes_in": 120,
        "packets_out": answers,
        "bytes_out": answers * 60,
    }
    assert as_json(root, "connections", "--endpoint", "10.0.0.1") == []


def test_a_connection_is_shown_once_while_its_embryo_is_there_too(root: Path) -> None:
    record_embryo(root, 4000, 32, 1)
    record(root, 4000, answered=3)
    assert [row["state"] for row in as_json(root, "connections")] == ["established"]


def record_embryo(root: Path, client: int, flags: int, answers: int) -> None:
    """Of a masqueraded TCP flow, as the programs write it."""
    tick = time.clock_gettime_ns(time.CLOCK_MONOTONIC) >> TICK_SHIFT
    way = (3, 1500, 1, bytes(6), bytes(6))
    ends = (ip("198.51.100.5"), ip("203.0.113.7"), port(client), port(80))
    with BpfMap.open(Pins(root).maps(IPV4) / "embryos") as table:
        table.update(
            IPV4.flow.pack(ip("10.0.0.2"), ip("192.0.2.1"), port(80), port(2000 + client), 6),
            IPV4.embryo.pack(*ends, 2, 0, 1, tick, tick, *way, 2 | flags, 2, answers, 120, answers * 60),
        )


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("--vip", "203.0.113.7"), 2),
        (("--vip", "203.0.113.7:80"), 2),
        (("--vip", "203.0.113.7:81"), 0),
        (("--vip", "[2001:db8::7]:80"), 0),
        (("--endpoint", "10.0.0.2"), 2),
        (("--endpoint", "10.0.0.1"), 0),
    ],
)
def test_connections_are_filtered(root: Path, arguments: tuple[str, ...], found: int) -> None:
    record(root, 4000)
    record(root, 4001)
    assert len(as_json(root, "connections", *arguments)) == found


@pytest.mark.parametrize(
    "arguments", [("--vip", "web"), ("--vip", "10.0.0.1:0"), ("--endpoint", "10.0.0.1:80")]
)
def test_a_wrong_filter_is_bad_usage(root: Path, arguments: tuple[str, ...]) -> None:
    assert run(root, "connections", *arguments).exit_code == 2


def test_drops_are_counted_by_reason(root: Path) -> None:
    with BpfMap.open(Pins(root).maps(IPV4) / "drops") as counted:
        cpus = counted.stride // 8
        counted.update(struct.pack("I", DropReason.SOURCE_RANGE), struct.pack("Q", 4) * cpus)
    rows = {row["reason"]: row for row in as_json(root, "drops")}
    assert len(rows) == len(DropReason) - 1
    assert (rows["source_range"]["ipv4"], rows["source_range"]["ipv6"]) == (4 * cpus, 0)
    assert "none of the service's source ranges" in run(root, "drops").output


def test_status_tells_how_full_maps_are(root: Path) -> None:
    with BpfMap.open(Pins(root).maps(IPV4) / "devices") as devices:
        devices.update(
            struct.pack("I", 1), IPV4.device.pack(ip("192.0.2.1"), DeviceFlag.UPLINK | DeviceFlag.MASQUERADE)
        )
    found = as_json(root, "status")
    assert found["devices"] == [{"ifindex": 1, "name": "lo", "role": "uplink", "masquerade": ["192.0.2.1"]}]
    sizes = {(row["family"], row["map"]): (row["used"], row["size"]) for row in found["maps"]}
    assert sizes["ipv4", "services"] == (3, 64)
    assert sizes["ipv4", "endpoints"] == (8, 64)
    assert sizes["ipv6", "endpoints"] == (1, 64)
    assert "192.0.2.1" in run(root, "status").output


@pytest.mark.parametrize("command", ["status", "services", "connections", "drops"])
def test_nothing_pinned_is_one_clear_line(tmp_path: Path, command: str) -> None:
    result = run(tmp_path / "nowhere", command)
    assert result.exit_code == 1
    assert "nothing is pinned under" in result.output


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command.name))
def test_help_teaches(command: click.Command) -> None:
    result = CliRunner().invoke(command, ["--help"])
    assert result.exit_code == 0
    assert "--pin-root" in result.output
