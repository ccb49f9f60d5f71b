"""A trace's parts: what BTF says, which addresses are wanted, and what is told of a drop."""

from __future__ import annotations

import ipaddress
import re
import struct
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner

from blixt_backend.planes.ebpf.commands import COMMANDS
from blixt_backend.planes.ebpf.connections import ConnectionFilter
from blixt_backend.planes.ebpf.trace import compiler
from blixt_backend.planes.ebpf.trace.btf import Btf, BtfError
from blixt_backend.planes.ebpf.trace.compiler import TraceError, load_bcc
from blixt_backend.planes.ebpf.trace.events import (
    MOST_LINES,
    Tally,
    differences,
    parse,
    reason_names,
    sentence,
    summary,
)
from blixt_backend.planes.ebpf.trace.places import places

STRUCT, UNION, ENUM, INT = 4, 5, 6, 1


def ip(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


class Blob:
    """BTF put together by hand."""

    def __init__(self) -> None:
        self._strings = b"\0"
        self._types = b""

    def text(self, text: str) -> int:
        if not text:
            return 0
        self._strings += text.encode() + b"\0"
        return self._strings.index(b"\0" + text.encode() + b"\0") + 1

    def add(self, name: str, kind: int, members: list[bytes], behind: bytes = b"", flag: int = 0) -> None:
        info = flag << 31 | kind << 24 | len(members)
        self._types += struct.pack("=III", self.text(name), info, 4) + behind + b"".join(members)

    def member(self, name: str, kind: int, bits: int) -> bytes:
        return struct.pack("=III", self.text(name), kind, bits)

    def done(self) -> bytes:
        types, strings = len(self._types), len(self._strings)
        header = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, types, types, strings)
        return header + self._types + self._strings


@pytest.fixture
def blob() -> bytes:
    """1: int, 2: an unnamed union, 3: an unnamed structure with bit fields, 4: sk_buff, 5: an enum."""
    made = Blob()
    made.add("int", INT, [], b"\0\0\0\x20")
    made.add("", UNION, [made.member("dev", 1, 0), made.member("", 3, 32)])
    made.add("", STRUCT, [made.member("flag", 1, 3 << 24 | 8), made.member("protocol", 1, 64)], flag=1)
    made.add("sk_buff", STRUCT, [made.member("len", 1, 32), made.member("", 2, 128)])
    values = [(0, "SKB_NOT_DROPPED_YET"), (3, "SKB_DROP_REASON_NO_SOCKET")]
    made.add("skb_drop_reason", ENUM, [struct.pack("=Ii", made.text(name), value) for value, name in values])
    return made.done()


def test_offsets_are_found_within_members_without_a_name(blob: bytes) -> None:
    btf = Btf(blob)
    found = [btf.offset("sk_buff", member) for member in ("len", "dev", "flag", "protocol")]
    assert found == [4, 16, 21, 28]
    assert reason_names(btf.enumerators("skb_drop_reason")) == {0: "SKB_NOT_DROPPED_YET", 3: "NO_SOCKET"}
    assert btf.enumerators("nothing") == {}


@pytest.mark.parametrize(
    ("structure", "member"), [("sk_buff", "head"), ("net_device", "len"), ("int", "len")]
)
def test_what_is_not_there_is_named(blob: bytes, structure: str, member: str) -> None:
    with pytest.raises(BtfError, match=rf"there is no {structure}\.{member}"):
        Btf(blob).offset(structure, member)


@pytest.mark.parametrize("cut", [0, 10, 30, 60])
def test_what_is_no_btf_is_told(blob: bytes, cut: int) -> None:
    with pytest.raises(BtfError):
        Btf(blob[:cut]).offset("sk_buff", "protocol")
    with pytest.raises(BtfError, match="not with BTF's"):
        Btf(b"\x7fELF" + blob)


def test_this_kernel_s_own() -> None:
    btf = compiler.read_btf()
    assert btf.offset("sk_buff", "next") == 0
    assert "NO_SOCKET" in reason_names(btf.enumerators("skb_drop_reason")).values()


def row(address: str, port: int, *endpoints: str) -> dict[str, object]:
    return {
        "frontends": [{"address": address, "port": port}],
        "endpoints": [{"address": endpoint, "port": 8080} for endpoint in endpoints],
    }


SERVICES = [row("203.0.113.7", 80, "10.0.0.2"), row("203.0.113.7", 81, "10.0.0.3"), row("2001:db8::7", 80)]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (ConnectionFilter(), set()),
        (ConnectionFilter(endpoint=ip("10.0.0.9")), {(ip("10.0.0.9"), 0)}),
        (ConnectionFilter(ip("203.0.113.7"), 80), {(ip("203.0.113.7"), 80), (ip("10.0.0.2"), 8080)}),
        (
            ConnectionFilter(ip("203.0.113.7")),
            {(ip("203.0.113.7"), 0), (ip("10.0.0.2"), 8080), (ip("10.0.0.3"), 8080)},
        ),
        (ConnectionFilter(ip("192.0.2.1"), 80), {(ip("192.0.2.1"), 80)}),
    ],
)
def test_places(wanted: ConnectionFilter, expected: set[tuple[bytes, int]]) -> None:
    assert places(wanted, SERVICES) == expected


def event(version: int = 4, protocol: int = 6, reason: int = 3, flags: int = 0x12) -> bytes:
    source, destination = ("198.51.100.5", "10.0.0.2") if version == 4 else ("2001:db8::5", "fd00::2")
    ports = (4000).to_bytes(2, "big"), (80).to_bytes(2, "big")
    packed = struct.pack(
        "=QII16s16s2s2sBBBx16s", 0xFFFF, reason, 60, ip(source), ip(destination), *ports, protocol, version,
        flags, b"eth0\0junk",
    )  # fmt: skip
    return packed + bytes(4)


def tally() -> Tally:
    return Tally({3: "NO_SOCKET"}, lambda address: f"f+{address:#x}")


def told(raw: bytes) -> str:
    found = tally().take(parse(raw))
    assert found
    return sentence(found)


def test_a_drop_in_a_line() -> None:
    assert told(event()) == (
        "kernel  NO_SOCKET TCP 198.51.100.5:4000 -> 10.0.0.2:80 SYN|ACK 60 bytes on eth0 at f+0xffff"
    )
    assert told(event(6, 17, 99, 0)) == (
        "kernel  reason 99 UDP [2001:db8::5]:4000 -> [fd00::2]:80 60 bytes on eth0 at f+0xffff"
    )
    assert " 132 " in told(event(protocol=132))


def test_what_is_told_is_bounded_and_counted_all_the_same() -> None:
    counting = tally()
    rows = [counting.take(parse(event())) for _ in range(MOST_LINES + 7)]
    assert rows.count(None) == 7
    assert (counting.next_second(), counting.next_second()) == (7, 0)
    assert counting.take(parse(event())) is not None
    counting.lost = 2
    assert summary(counting, Counter({"no_endpoint": 3})) == [
        "BY      REASON       PACKETS",
        f"kernel  NO_SOCKET    {MOST_LINES + 8}",
        "blixt   no_endpoint  3",
        "2 more drops of the kernel's were missed",
    ]
    assert summary(tally(), Counter()) == ["nothing was dropped"]


def test_our_own_counters_are_told_by_what_they_grew() -> None:
    before = [{"reason": name, "ipv4": 1, "ipv6": 2, "meaning": "m"} for name in "ab"]
    now = [
        {"reason": "a", "ipv4": 1, "ipv6": 2, "meaning": "m"},
        {"reason": "b", "ipv4": 4, "ipv6": 3, "meaning": "m"},
    ]
    (grown,) = differences(before, now)
    assert sentence(grown) == "blixt   b 4 packets, any address: m"


# -- bcc, and what is said without it -------------------------------------------------------------------


def test_without_bcc_one_line_names_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compiler, "_SYSTEM", str(tmp_path))
    monkeypatch.setitem(sys.modules, "bcc", ModuleType("bcc"))  # PyPI's, without BPF
    with pytest.raises(TraceError, match="install Debian's python3-bpfcc"):
        load_bcc()


def test_debian_s_bcc_is_found_from_a_virtual_environment_and_leaves_no_trace_in_the_path() -> None:
    before = sys.path[:]
    assert hasattr(load_bcc(), "BPF")
    assert sys.path == before


def trace_command() -> click.Command:
    return next(command for command in COMMANDS if command.name == "trace")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--vip", "203.0.113.7:80", "--endpoint", "10.0.0.2"),
        ("--vip", "web"),
        ("--endpoint", "10.0.0.2:80"),
        ("--seconds", "0"),
        ("--seconds", "soon"),
    ],
)
def test_bad_usage_is_exit_2(arguments: tuple[str, ...]) -> None:
    assert CliRunner().invoke(trace_command(), arguments).exit_code == 2


def test_the_event_and_place_are_as_the_program_has_them() -> None:
    """Sizes in the order of the C source: the structures have no holes."""
    source = (Path(__file__).parents[4] / "bpf" / "trace.c").read_text()
    sizes = {"u64": 8, "u32": 4, "u16": 2, "u8": 1, "char": 1}

    def size(name: str) -> int:
        found = re.search(rf"struct {name} {{\n(.*?)}};", source, re.DOTALL)
        assert found
        members = re.findall(r"\t(\w+) \w+(?:\[(\d+)\])?;", found[1])
        return sum(sizes[kind] * int(count or 1) for kind, count in members)

    assert (size("event"), size("place")) == (72, 18)
    assert len(event()) - 4 == 72
