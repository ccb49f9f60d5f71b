"""On which of the node's addresses node ports answer."""

from __future__ import annotations

import ipaddress

import pytest

from blixt_backend.model import PackedAddress
from blixt_backend.planes.ebpf.devices import choose
from blixt_backend.planes.links import Link
from blixt_backend.planes.nodeports import NodePortAddresses, parse


def ip(text: str) -> PackedAddress:
    return PackedAddress(ipaddress.ip_address(text).packed)


ETH0 = Link(2, "eth0", addresses=(ip("192.0.2.1"), ip("192.0.2.2"), ip("2001:db8::1")))
ETH1 = Link(3, "eth1", addresses=(ip("198.51.100.1"), ip("2001:db8:1::1")))
LO = Link(1, "lo", addresses=(ip("203.0.113.1"), ip("127.0.0.9"), ip("::1")))
POD = Link(7, "veth7", "veth", peer_elsewhere=True, addresses=(ip("192.0.2.7"),))
FOUR, SIX = ["192.0.2.1", "192.0.2.2"], ["2001:db8::1"]


def selected(*texts: str) -> list[str]:
    choice = choose([LO, ETH0, ETH1, POD], ["eth0"], ["veth*"], parse(texts))
    return [str(ipaddress.ip_address(bytes(address))) for address in choice.node_addresses]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], [*FOUR, *SIX]),
        (
            ["0.0.0.0/0,::/0"],
            [*FOUR, *SIX, "203.0.113.1", "127.0.0.9", "198.51.100.1", "2001:db8:1::1", "127.0.0.1", "::1"],
        ),
        (["127.0.0.1/32", "::/0"], [*SIX, "2001:db8:1::1", "127.0.0.1", "::1"]),
        (["192.0.2.0/24", "2001:db8::/64"], [*FOUR, *SIX]),
        (["192.0.2.2/32", "::/0"], ["192.0.2.2", *SIX, "2001:db8:1::1", "::1"]),
        (["192.0.2.2/32"], [*SIX, "192.0.2.2"]),  # IPv6 as without the option
        ([" 198.51.100.99/24 , 2001:db8:1::/64"], ["198.51.100.1", "2001:db8:1::1"]),
        (["10.0.0.0/8", "fd00::/8"], []),
        (["primary"], ["192.0.2.1", *SIX]),
        (["primary", "primary"], ["192.0.2.1", *SIX]),
    ],
)
def test_selection(texts: list[str], expected: list[str]) -> None:
    assert selected(*texts) == expected


def test_masquerading_goes_by_the_uplinks_all_the_same() -> None:
    plain = choose([LO, ETH0, ETH1, POD], ["eth0"], ["veth*"])
    assert choose([LO, ETH0, ETH1, POD], ["eth0"], ["veth*"], parse(["10.0.0.0/8"])).devices == plain.devices


def test_whether_somebody_chose() -> None:
    assert not NodePortAddresses().chosen
    assert parse(["primary"]).chosen
    assert parse(["10.0.0.0/8"]).chosen


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ([""], "'' is no range"),
        (["192.0.2.1"], "'192.0.2.1' is no range such as 192.0.2.0/24 or fd00::/64, nor 'primary'"),
        (["192.0.2.0/33"], "is no range"),
        (["eth0"], "is no range"),
        (["10.0.0.0/8,"], "'' is no range"),
        (["primary,10.0.0.0/8"], "'primary' goes with no range"),
        (["primary", "::/0"], "'primary' goes with no range"),
    ],
)
def test_what_is_no_choice(texts: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse(texts)
