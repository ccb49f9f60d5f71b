"""Programs on devices: pinned, swapped in place, gone with their device; on tcx and on clsact."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from blixt_backend.planes.ebpf import clsact
from blixt_backend.planes.ebpf.clsact import Clsact
from blixt_backend.planes.ebpf.layout import IPV4, IPV6
from blixt_backend.planes.ebpf.libbpf import BpfError, BpfObject, obj_get, program_id
from blixt_backend.planes.ebpf.links import (
    TC_HOOKS,
    XDP_HOOKS,
    Links,
    Place,
    link_info,
    sync,
    tcx_is_supported,
)
from blixt_backend.planes.ebpf.programs import Programs
from blixt_backend.planes.ebpf.sizes import Sizes

pytestmark = pytest.mark.bpf

SMALL = Sizes(16, 16, 64)
NAMES = ("hash_seed", "masquerade_port_first", "masquerade_port_count", "checksum_ipv6_flag")


def load(folder: Path, layout: object = IPV4) -> Programs:
    folder.mkdir(parents=True, exist_ok=True)
    return Programs.load(layout, folder, SMALL, dict.fromkeys(NAMES, 1))  # type: ignore[arg-type]


@pytest.fixture
def programs(bpffs: Path) -> Iterator[Programs]:
    loaded = load(bpffs / "maps")
    (bpffs / "links").mkdir()
    yield loaded
    loaded.close()


@pytest.fixture
def device(namespace: Callable[[str], None]) -> int:
    namespace("link add u0 index 50 type veth peer name u1")
    namespace("link set u0 up")
    return 50


def info(bpffs: Path, pin: str) -> tuple[int, int, int]:
    fd = obj_get(bpffs / "links" / pin)
    try:
        return link_info(fd)
    finally:
        os.close(fd)


def test_a_link_is_pinned_and_its_program_swapped_in_place(
    programs: Programs, bpffs: Path, device: int
) -> None:
    if not tcx_is_supported(programs.fds["node_egress"]):
        pytest.skip("needs tcx: Linux 6.6")
    places = [Place("uplink_ingress", device), Place("node_egress", device)]
    assert sync(Links(bpffs / "links", programs.fds, TC_HOOKS), places) == []
    before = info(bpffs, f"uplink_ingress-{device}")
    assert before == (before[0], program_id(programs.fds["uplink_ingress"]), device)
    newer = load(bpffs / "maps")
    again = Links(bpffs / "links", newer.fds, TC_HOOKS)
    assert sync(again, places) == []
    after = info(bpffs, f"uplink_ingress-{device}")
    assert after == (before[0], program_id(newer.fds["uplink_ingress"]), device)
    assert sync(again, places[:1]) == []
    assert again.attached() == {places[0]}
    newer.close()


def test_a_device_that_comes_again_is_attached_anew(
    programs: Programs, bpffs: Path, device: int, namespace: Callable[[str], None]
) -> None:
    links = Links(bpffs / "links", programs.fds, XDP_HOOKS)
    place = Place("xdp_generic", device)
    assert sync(links, [place]) == []
    namespace("link delete u0")
    assert sync(links, [place]) == [], "a device that went is no failure"
    assert links.attached() == set()
    namespace("link add u0 index 50 type veth peer name u1")
    assert sync(links, [place]) == []
    assert info(bpffs, f"xdp_generic-{device}")[2] == device


def test_someone_else_s_xdp_is_busy(
    programs: Programs, bpffs: Path, device: int, namespace: Callable[[str], None]
) -> None:
    place = Place("xdp_generic", device)
    assert sync(Links(bpffs / "links", programs.fds, XDP_HOOKS), [place]) == []
    (bpffs / "others").mkdir()
    ((failed, error),) = sync(Links(bpffs / "others", programs.fds, XDP_HOOKS), [place])
    assert failed == place
    assert error.errno == errno.EBUSY


def test_the_mode_of_xdp_can_change(programs: Programs, bpffs: Path, device: int) -> None:
    links = Links(bpffs / "links", programs.fds, XDP_HOOKS)
    for hook in ("xdp_generic", "xdp_native", "xdp_generic"):
        assert sync(links, [Place(hook, device)]) == []
        assert links.attached() == {Place(hook, device)}


def test_filters_of_clsact_come_are_swapped_and_go(programs: Programs, bpffs: Path, device: int) -> None:
    six = load(bpffs / "maps6", IPV6)
    places = [Place("uplink_ingress", device), Place("node_egress", device)]
    for layout, loaded in ((IPV4, programs), (IPV6, six)):
        assert sync(Clsact(layout, loaded.fds), places) == []
        assert dict(clsact.attached_programs(layout)) == {
            place: program_id(loaded.fds[place.hook]) for place in places
        }
    newer = load(bpffs / "maps")
    assert sync(Clsact(IPV4, newer.fds), places) == []
    assert dict(clsact.attached_programs(IPV4))[places[0]] == program_id(newer.fds["uplink_ingress"])
    assert len(clsact.attached_programs(IPV6)) == 2
    assert sync(Clsact(IPV4, newer.fds), places[1:]) == []
    assert Clsact(IPV4, newer.fds).attached() == set(places[1:])
    assert len(clsact.remove_all()) == 3
    assert clsact.remove_all() == []
    newer.close()
    six.close()


def test_an_object_that_is_not_there_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(BpfError, match="make bpf"):
        BpfObject(tmp_path / "blixt4.bpf.o")


def test_an_object_that_is_none_is_refused_with_libbpf_s_words(tmp_path: Path) -> None:
    (tmp_path / "blixt4.bpf.o").write_bytes(b"no ELF")
    with pytest.raises(BpfError, match=r"opening .*blixt4"):
        BpfObject(tmp_path / "blixt4.bpf.o")
