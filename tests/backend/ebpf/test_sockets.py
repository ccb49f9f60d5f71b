"""Programs on a cgroup's sockets: attached, swapped, moved, taken off, and verified with ease."""

from __future__ import annotations

import os
import secrets
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from blixt_backend.planes.base import PlaneError
from blixt_backend.planes.ebpf import cgroups, inspect, sockets
from blixt_backend.planes.ebpf.layout import FAMILIES, Layout
from blixt_backend.planes.ebpf.libbpf import obj_get, object_info
from blixt_backend.planes.ebpf.links import link_info
from blixt_backend.planes.ebpf.pins import Mount, Pins
from blixt_backend.planes.ebpf.programs import (
    OBJECTS,
    ON_DEVICES,
    ON_DEVICES_OLDER,
    ON_SOCKETS,
    Programs,
)
from blixt_backend.planes.ebpf.sizes import Sizes
from blixt_backend.planes.ebpf.sockets import Sockets, switch_off
from blixt_lab.cgroups import own

pytestmark = pytest.mark.bpf

SMALL = Sizes(16, 16, 64)
SEED = {"hash_seed": 1}
#: Linux gives up at a million; the largest program of all takes a fifth of it.
MOST_INSTRUCTIONS = 250_000


@pytest.fixture
def two_cgroups() -> Iterator[tuple[Path, Path]]:
    name = f"blixt-test-{secrets.token_hex(4)}"
    made = own() / f"{name}-a", own() / f"{name}-b"
    for folder in made:
        folder.mkdir()
    yield made
    for folder in made:
        folder.rmdir()


@pytest.fixture
def pins(bpffs: Path) -> Pins:
    """With the maps that the programs on devices have made."""
    pins = Pins(bpffs / "root")
    pins.prepare(FAMILIES)
    for layout in FAMILIES:
        rodata = dict.fromkeys(("masquerade_port_first", "masquerade_port_count", "checksum_ipv6_flag"), 1)
        Programs.load(layout, pins.maps(layout), SMALL, {**SEED, **rodata}).close()
    return pins


def switch_on(pins: Pins, cgroup: Path) -> None:
    Sockets.switch_on(pins, cgroup, SMALL, SEED, OBJECTS).close()


def attached(pins: Pins) -> dict[str, tuple[int, int]]:
    """By family and hook: the program, and the id of the cgroup."""
    found = {}
    for layout in FAMILIES:
        for pin in pins.links(layout).iterdir():
            fd = obj_get(pin)
            try:
                info = link_info(fd)
            finally:
                os.close(fd)
            found[f"{layout.name}/{pin.name.rpartition('-')[0]}"] = (info.program, info.target)
    return found


def test_a_life(pins: Pins, two_cgroups: tuple[Path, Path]) -> None:
    here, there = two_cgroups
    switch_on(pins, here)
    first = attached(pins)
    assert len(first) == 11
    assert {cgroup for _, cgroup in first.values()} == {here.stat().st_ino}
    links = {hook["hook"]: hook["interface"] for hook in inspect.status(pins)["hooks"]}
    assert links["connect6_mapped"] == f"cgroup {here.stat().st_ino}"
    switch_on(pins, here)
    swapped = attached(pins)
    assert swapped.keys() == first.keys()
    assert all(swapped[hook][0] != first[hook][0] for hook in first)
    switch_on(pins, there)
    assert {cgroup for _, cgroup in attached(pins).values()} == {there.stat().st_ino}
    assert any(row["map"] == "sockets" for row in inspect.status(pins)["maps"])
    switch_off(pins)
    assert attached(pins) == {}
    assert not (pins.maps(FAMILIES[0]) / "sockets").exists()
    switch_off(pins)


def test_a_cgroup_that_went_is_attached_to_anew(pins: Pins, two_cgroups: tuple[Path, Path]) -> None:
    here, _ = two_cgroups
    switch_on(pins, here)
    here.rmdir()
    here.mkdir()
    switch_on(pins, here)
    assert {cgroup for _, cgroup in attached(pins).values()} == {here.stat().st_ino}


def test_cleanup_takes_them_off(pins: Pins, two_cgroups: tuple[Path, Path]) -> None:
    switch_on(pins, two_cgroups[0])
    removed = pins.remove_all()
    assert sum("/links/" in name for name in removed) == 11
    assert not pins.root.exists()


def test_an_older_kernel_serves_sockets_and_ends_none(
    pins: Pins,
    two_cgroups: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sockets, "kernel_knows", lambda name: False)
    opened = Sockets.switch_on(pins, two_cgroups[0], SMALL, SEED, OBJECTS)
    opened.end_stale()
    opened.close()
    assert "needs Linux 6.5" in caplog.text
    assert len(attached(pins)) == 11


def test_processes_out_of_sight_are_told_of(
    pins: Pins, two_cgroups: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    here, _ = two_cgroups
    switch_on(pins, here)
    assert "hostPID" not in caplog.text
    with subprocess.Popen(["sleep", "60"]) as outside:
        (here / "cgroup.procs").write_text(str(outside.pid))
        look = "from pathlib import Path; from blixt_backend.planes.ebpf import stale; "
        look += f"print(stale.hides_processes(Path({str(here)!r})))"
        command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", look]
        seen = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        outside.kill()
    assert seen.stdout == "True\n"


def test_a_cgroup_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PlaneError, match="no such folder"):
        cgroups.choose(tmp_path / "missing")
    with pytest.raises(PlaneError, match="not cgroup2"):
        cgroups.choose(tmp_path)
    monkeypatch.setattr(cgroups, "mounts", lambda: [Mount(Path("/"), "ext4")])
    with pytest.raises(PlaneError, match="no cgroup2 file system is mounted"):
        cgroups.choose(None)


def test_the_root_is_found(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    assert (cgroups.choose(None) / "cgroup.procs").exists()
    folder = own()
    monkeypatch.setattr(cgroups, "mounts", lambda: [Mount(folder, "cgroup2")])
    assert cgroups.choose(None) == folder
    assert ("not the machine's root" in caplog.text) == (folder / "cgroup.events").exists()


@pytest.mark.parametrize("name", [ON_DEVICES, ON_DEVICES_OLDER, ON_SOCKETS])
@pytest.mark.parametrize("layout", FAMILIES, ids=lambda layout: layout.name)
def test_programs_are_verified_with_room(pins: Pins, layout: Layout, name: str) -> None:
    loaded = Programs.load(layout, pins.maps(layout), SMALL, SEED, OBJECTS, name)
    try:
        for program, fd in loaded.fds.items():
            (verified,) = struct.unpack_from(
                "I", object_info(fd, 220), 216
            )  # verified_insns of bpf_prog_info
            assert 0 < verified < MOST_INSTRUCTIONS, program
    finally:
        loaded.close()
