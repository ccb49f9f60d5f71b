"""Which interfaces get programs, what the devices map says of them, and how changes are noticed."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable

import pytest

from blixt_backend import netlink
from blixt_backend.model import PackedAddress
from blixt_backend.planes import links
from blixt_backend.planes.ebpf.devices import DEFAULT_POD_PATTERNS, Role, choose
from blixt_backend.planes.ebpf.layout import IPV4, IPV6, DeviceFlag
from blixt_backend.planes.links import Link, is_glob, unmatched


def ip(text: str) -> PackedAddress:
    return PackedAddress(ipaddress.ip_address(text).packed)


ETH0 = Link(2, "eth0", addresses=(ip("192.0.2.1"), ip("192.0.2.2"), ip("2001:db8::1")))
ETH1 = Link(3, "eth1", addresses=(ip("198.51.100.1"),))
POD = Link(7, "veth1234", "veth", peer_elsewhere=True)
BRIDGE = Link(8, "cni0", "bridge")
LO = Link(1, "lo", addresses=())


def test_uplinks_and_pods_are_told_apart() -> None:
    choice = choose([LO, ETH0, ETH1, POD, BRIDGE], ["eth*"], DEFAULT_POD_PATTERNS)
    assert {device.name: device.role for device in choice.devices.values()} == {
        "eth0": Role.UPLINK,
        "eth1": Role.UPLINK,
        "veth1234": Role.POD,
        "cni0": Role.POD,
    }
    assert choice.node_addresses == (*ETH0.addresses, *ETH1.addresses)


def test_nodes_are_in_the_uplinks_networks() -> None:
    own, other = ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("2001:db8::/64")
    uplink, pod = Link(2, "eth0", networks=(own, other)), Link(7, "veth1", networks=(own,))
    second = Link(3, "eth1", networks=(other,))
    assert choose([uplink, second, pod], ["eth*"], ["veth*"]).networks == (own, other)
    assert choose([second, pod], ["eth*"], ["veth*"]).networks == (other,)


def test_an_uplink_is_no_pod_even_if_both_patterns_match() -> None:
    veth = Link(2, "veth0", "veth", peer_elsewhere=True, addresses=(ip("192.0.2.1"),))
    choice = choose([veth], ["veth0"], ["veth*"])
    assert choice.devices[2].role is Role.UPLINK
    assert choice.devices[2].flags == DeviceFlag.UPLINK


def test_only_a_pod_s_veth_has_a_peer_to_go_to() -> None:
    near = Link(9, "vethx", "veth", peer_elsewhere=False)
    choice = choose([ETH0, POD, near, BRIDGE], ["eth0"], DEFAULT_POD_PATTERNS)
    assert {d.name for d in choice.devices.values() if d.flags & DeviceFlag.PEER} == {"veth1234"}


def test_masquerading_uses_the_uplink_s_first_address_of_the_family() -> None:
    choice = choose([ETH1, ETH0, POD], ["eth1", "eth0"], DEFAULT_POD_PATTERNS)
    rows = {device.name: (device.row(IPV4), device.row(IPV6)) for device in choice.devices.values()}
    up, pod = (
        DeviceFlag.UPLINK | DeviceFlag.MASQUERADE,
        DeviceFlag.POD | DeviceFlag.PEER | DeviceFlag.MASQUERADE,
    )
    assert rows["eth0"] == (IPV4.device.pack(ip("192.0.2.1"), up), IPV6.device.pack(ip("2001:db8::1"), up))
    assert rows["eth1"] == (IPV4.device.pack(ip("198.51.100.1"), up), IPV6.device.pack(ip("2001:db8::1"), up))
    assert rows["veth1234"][0] == IPV4.device.pack(ip("198.51.100.1"), pod)


def test_without_an_address_there_is_no_masquerading() -> None:
    choice = choose([ETH1], ["eth1"], [])
    assert choice.devices[3].row(IPV6) == IPV6.device.pack(bytes(16), DeviceFlag.UPLINK)


def test_names_that_match_nothing_are_named() -> None:
    assert unmatched([LO, ETH0], ["eth0", "eth7", "ens*"]) == ["eth7", "ens*"]
    assert is_glob("ens*")
    assert not is_glob("eth0.100")


@pytest.mark.bpf
def test_a_scan_sees_kinds_peers_and_addresses(namespace: Callable[[str], None]) -> None:
    namespace("link add u0 type veth peer name u1")
    namespace("address add 192.0.2.1/24 dev u0")
    namespace("address add 192.0.2.2/24 dev u0")
    for number in (1, 3, 2):
        namespace(f"address add 2001:db8::{number}/64 dev u0 nodad")
    namespace("address add 169.254.0.1/16 scope link dev u0")
    namespace("link set u0 up")
    found = {link.name: link for link in links.scan()}
    assert found["u0"].kind == "veth"
    assert not found["u0"].peer_elsewhere
    expected = ("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::3", "2001:db8::2")
    assert found["u0"].addresses == tuple(map(ip, expected))
    assert found["lo"].kind == ""


@pytest.mark.bpf
async def test_a_burst_of_events_is_noticed_once_or_more(namespace: Callable[[str], None]) -> None:
    changes = netlink.changes()
    await anext(changes)
    for number in range(20):
        await asyncio.to_thread(namespace, f"link add d{number} type veth peer name e{number}")
    await asyncio.wait_for(anext(changes), 30)
    await asyncio.to_thread(namespace, "link delete d3")
    await asyncio.wait_for(anext(changes), 30)
    await changes.aclose()  # type: ignore[attr-defined]
