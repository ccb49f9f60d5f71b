"""Pins: folders made and removed, one process at a time, a seed that stays."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from blixt_backend.planes.base import PlaneError
from blixt_backend.planes.ebpf.layout import FAMILIES, IPV4, LAYOUT_VERSION
from blixt_backend.planes.ebpf.libbpf import obj_pin
from blixt_backend.planes.ebpf.maps import ARRAY, BpfMap, create_map
from blixt_backend.planes.ebpf.pins import Pins, filesystem_of

pytestmark = pytest.mark.bpf


def test_a_file_system_is_mounted_where_there_is_none(tmp_path: Path) -> None:
    pins = Pins(tmp_path / "root")
    try:
        pins.prepare(FAMILIES)
        assert filesystem_of(pins.root) == "bpf"
        assert pins.maps(IPV4).is_dir()
        pins.prepare(FAMILIES)
        assert sum(str(pins.root) in line for line in Path("/proc/self/mounts").read_text().splitlines()) == 1
        pins.remove_all()
        assert not pins.root.exists()
    finally:
        if pins.root.is_mount():
            subprocess.run(["umount", pins.root], check=True, timeout=10)


def test_a_root_that_cannot_be_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PlaneError, match=r"no BPF file system for --pin-root .*file/root"):
        Pins(tmp_path / "file" / "root").prepare(FAMILIES)


def test_a_second_process_is_told_of_the_first(bpffs: Path) -> None:
    pins = Pins(bpffs / "root")
    pins.prepare(FAMILIES)
    held = pins.lock()
    with pytest.raises(PlaneError, match="another blixt-backend uses"):
        pins.lock()
    os.close(held)
    os.close(pins.lock())


def test_the_seed_stays(bpffs: Path) -> None:
    pins = Pins(bpffs / "root")
    pins.prepare(FAMILIES)
    assert pins.hash_seed() == pins.hash_seed() != 0


def test_removal_takes_other_layout_versions_too(bpffs: Path) -> None:
    pins = Pins(bpffs / "root")
    pins.prepare(FAMILIES)
    (bpffs / "root" / "of_others").mkdir()
    older = pins.root / "v0" / "ipv4" / "maps"
    older.mkdir(parents=True)
    with BpfMap(create_map(ARRAY, "old", 4, 4, 1)) as old:
        obj_pin(old.fd, older / "old")
    pins.hash_seed()
    assert sorted(pins.remove_all()) == ["v0/ipv4/maps/old", f"v{LAYOUT_VERSION}/hash_seed"]
    assert [path.name for path in pins.root.iterdir()] == ["of_others"]
    assert pins.remove_all() == []
