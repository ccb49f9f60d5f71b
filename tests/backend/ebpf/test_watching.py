"""`connections --watch` as a process over a map that is filled by hand: in a pipe, and on a terminal."""

from __future__ import annotations

import ipaddress
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from blixt_backend.planes.ebpf.layout import FAMILIES, IPV4
from blixt_backend.planes.ebpf.maps import BpfMap
from blixt_backend.planes.ebpf.pins import Pins
from blixt_backend.planes.ebpf.programs import Programs
from blixt_backend.planes.ebpf.sizes import Sizes

pytestmark = pytest.mark.bpf

RODATA = ("hash_seed", "masquerade_port_first", "masquerade_port_count", "checksum_ipv6_flag")
CLIENT, SERVICE, POD = (
    ipaddress.ip_address(text).packed for text in ("198.51.100.5", "203.0.113.7", "10.0.0.2")
)


def port(number: int) -> bytes:
    return number.to_bytes(2, "big")


@pytest.fixture
def pins(bpffs: Path) -> Pins:
    made = Pins(bpffs / "root")
    made.prepare(FAMILIES)
    for layout in FAMILIES:
        Programs.load(layout, made.maps(layout), Sizes(64, 64, 4096), dict.fromkeys(RODATA, 1)).close()
    return made


class Table:
    """Connections of one client to one service, by the client's port."""

    def __init__(self, pins: Pins) -> None:
        self._map = BpfMap.open(pins.maps(IPV4) / "connections")

    def put(self, client: int, service: int = 80) -> None:
        blank = (0, 0, 2, 0, 1)
        way = (3, 1500, 1, bytes(6), bytes(6))
        for key, source, destination, ports, flags in (
            ((CLIENT, SERVICE, port(client), port(service), 6), CLIENT, POD, (port(client), port(8080)), 0),
            ((POD, CLIENT, port(8080), port(client), 6), SERVICE, CLIENT, (port(service), port(client)), 1),
        ):
            value = IPV4.connection.pack(source, destination, *ports, *blank, flags, 0, *way, 3, 300)
            self._map.update(IPV4.flow.pack(*key), value)

    def drop(self, client: int, service: int = 80) -> None:
        assert self._map.delete(IPV4.flow.pack(CLIENT, SERVICE, port(client), port(service), 6))


@pytest.fixture
def table(pins: Pins) -> Iterator[Table]:
    made = Table(pins)
    yield made
    made._map.close()


def command(pins: Pins, *more: str) -> list[str]:
    program = "from blixt_backend.cli import main; main()"
    return [sys.executable, "-c", program, "connections", "--watch", "--pin-root", str(pins.root), *more]


@contextmanager
def watching(pins: Pins, *more: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command(pins, *more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_lines_until_a_signal(pins: Pins, table: Table, number: signal.Signals) -> None:
    table.put(4000)
    with watching(pins) as process:
        assert " TCP 198.51.100.5:4000 -> 203.0.113.7:80 -> 10.0.0.2:8080 established " in line(process)
        table.put(4001)
        assert line(process)[8:].startswith(" + TCP 198.51.100.5:4001 ")
        table.drop(4000)
        assert line(process)[8:].startswith(" - TCP 198.51.100.5:4000 ")
        process.send_signal(number)
        out, errors = process.communicate(timeout=30)
        assert (process.returncode, out, errors) == (0, "", "")


def test_only_what_is_asked_for_and_as_json(pins: Pins, table: Table) -> None:
    table.put(4000)
    table.put(4001, 81)
    with watching(pins, "-o", "json", "--vip", "203.0.113.7:81", "--endpoint", "10.0.0.2") as process:
        there = json.loads(line(process))
        assert (there["event"], there["client_port"], there["packets_out"]) == ("there", 4001, 3)
        table.drop(4000)
        table.drop(4001, 81)
        ended = json.loads(line(process))
        assert (ended["event"], ended["client_port"]) == ("ended", 4001)


def test_a_terminal_is_drawn_on_and_left_as_it_was(pins: Pins, table: Table) -> None:
    for client in range(1, 300):
        table.put(client)
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "100", "LINES": "12"}
    process = subprocess.Popen(command(pins), stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    try:
        shown = b""
        while shown.count(b"\033[H") < 2:
            shown += os.read(ours, 65536)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        while b"\033[?1049l" not in shown:
            shown += os.read(ours, 65536)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert shown.startswith(b"\033[?1049h\033[?25l\033[H")
    assert shown.endswith(b"\033[?25h\033[?1049l")
    first = shown.split(b"\033[H")[1].split(b"\033[J")[0].replace(b"\033[K", b"").decode().split("\r\n")
    assert "299 connections, 0 new, 0 ended" in first[0]
    assert first[2].split() == [
        "PROTO",
        "CLIENT",
        "SERVICE",
        "ENDPOINT",
        "STATE",
        "SEEN",
        "IN",
        "OUT",
        "NAME",
    ]
    assert len(first) == 12
    assert all(len(row) <= 100 for row in first)


def test_pins_that_go_end_it_with_a_reason(pins: Pins, table: Table) -> None:
    table.put(4000)
    with watching(pins) as process:
        assert "4000" in line(process)
        pins.remove_all()
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 1
        assert errors.startswith("Error: ")
        assert "Traceback" not in errors
