"""VLAN devices on uplinks: known as such, told of where they serve nobody, and no place for XDP."""

from __future__ import annotations

import pytest

from blixt_backend import rtnetlink
from blixt_backend.planes.ebpf.attach import xdp_hook
from blixt_backend.planes.ebpf.devices import Choice, choose
from blixt_backend.planes.ebpf.options import XdpMode
from blixt_backend.planes.links import Link, scan
from blixt_backend.rtnetlink import LinkEntry

ETH0, ETH1 = Link(2, "eth0"), Link(3, "eth1")
VLAN100, VLAN200 = Link(4, "eth0.100", "vlan", trunk=2), Link(5, "eth0.200", "vlan", trunk=2)
QINQ = Link(6, "eth0.100.7", "vlan", trunk=4)
ALL = (ETH0, ETH1, VLAN100, VLAN200, QINQ)


@pytest.mark.parametrize(
    ("patterns", "has_vlans", "unserved"),
    [
        (["eth1"], False, ()),
        (["eth0"], True, ("eth0.100", "eth0.200")),
        (["eth0", "eth0.100"], True, ("eth0.200", "eth0.100.7")),
        (["eth0.200"], True, ()),
        (["eth*"], True, ()),
    ],
)
def test_vlans_of_uplinks_are_known(patterns: list[str], has_vlans: bool, unserved: tuple[str, ...]) -> None:
    choice = choose(ALL, patterns, [])
    assert (choice.has_vlans, choice.unserved_vlans) == (has_vlans, unserved)


@pytest.mark.parametrize(
    ("mode", "patterns", "hooks"),
    [
        (XdpMode.AUTO, ["eth1"], {"eth1": "xdp_native"}),
        (XdpMode.AUTO, ["eth0"], {"eth0": ""}),
        (XdpMode.AUTO, ["eth1", "eth0.100"], {"eth1": "", "eth0.100": ""}),
        (XdpMode.NATIVE, ["eth0"], {"eth0": "xdp_native"}),
        (XdpMode.OFF, ["eth1"], {"eth1": ""}),
    ],
)
def test_xdp_stays_away_from_vlans_unless_asked_for(
    mode: XdpMode, patterns: list[str], hooks: dict[str, str]
) -> None:
    choice: Choice = choose(ALL, patterns, [])
    found = {d.name: xdp_hook(mode, d, has_vlans=choice.has_vlans) for d in choice.devices.values()}
    assert found == hooks


@pytest.mark.parametrize(("kind", "trunk"), [("vlan", 2), ("veth", 0)])
def test_only_a_vlan_device_has_a_trunk(monkeypatch: pytest.MonkeyPatch, kind: str, trunk: int) -> None:
    entry = LinkEntry(9, "dev9", 1, 0, bytes(6), kind, False, on=2)
    monkeypatch.setattr(rtnetlink, "links", lambda: [entry])
    monkeypatch.setattr(rtnetlink, "addresses", list)
    assert scan() == [Link(9, "dev9", kind, trunk=trunk)]
