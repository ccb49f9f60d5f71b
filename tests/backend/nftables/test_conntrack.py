"""Which flows the kernel's connection tracking forgets, and how it is asked."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable
from ipaddress import ip_address

import pytest

from blixt_backend.planes import ctnetlink
from blixt_backend.planes.nftables import conntrack
from blixt_backend.planes.nftables.compile import Frontend
from blixt_backend.planes.nftables.family import FAMILIES, IPV4, IPV6, Family
from blixt_model import conntrack as kernel_table
from blixt_model.tables import Flow, KernelFlow, TcpState

Ip = Callable[[str], None]
TCP, UDP = 6, 17
NAMES = {TCP: "tcp", UDP: "udp"}
#: A client, a service and two endpoints, by family.
ADDRESSES = {
    IPV4: ("192.0.2.9", "10.96.0.1", "10.0.0.1", "10.0.0.2"),
    IPV6: ("2001:db8::9", "fd00:96::1", "fd00:10::1", "fd00:10::2"),
}
EVERY = [(family, protocol) for family in FAMILIES for protocol in (TCP, UDP)]
NO_ONE: frozenset[tuple[str, int]] = frozenset()


def packed(address: str) -> bytes:
    return ip_address(address).packed


def tracked(
    family: Family, protocol: int, client_port: int, to: int = 1, service: str = "", port: int = 80
) -> KernelFlow:
    """A client's flow that went to the endpoint of that number; 0: nothing translated it."""
    client, vip, *endpoints = ADDRESSES[family]
    original = Flow(packed(client), packed(service or vip), client_port, port, protocol)
    becomes = original
    if to:
        becomes = Flow(original.source, packed(endpoints[to - 1]), client_port, 8080, protocol)
    return KernelFlow(original, becomes, TcpState.ESTABLISHED if protocol == TCP else TcpState.NONE)


def at(family: Family, protocol: int, port: int = 80) -> Frontend:
    return Frontend(ADDRESSES[family][1], NAMES[protocol], port)


def endpoint(family: Family, number: int) -> tuple[str, int]:
    return ADDRESSES[family][1 + number], 8080


def client_ports(families: Iterable[Family] = FAMILIES) -> set[int]:
    """Of the flows that the kernel has."""
    found = set()
    with ctnetlink.opened() as netlink:
        for family in families:
            netlink.send(conntrack.request(family))
            for told in ctnetlink.answers(netlink):
                protocol = dict(ctnetlink.attributes(told[ctnetlink.TUPLE_ORIGINAL]))[
                    ctnetlink.TUPLE_PROTOCOL
                ]
                port = dict(ctnetlink.attributes(protocol))[ctnetlink.SOURCE_PORT]
                found.add(int.from_bytes(port, "big"))
    return found


@pytest.mark.bpf
@pytest.mark.parametrize(("family", "protocol"), EVERY)
def test_flows_of_a_frontend_to_others_than_those_kept_are_forgotten(
    namespace: Ip, family: Family, protocol: int
) -> None:
    other = ADDRESSES[family][1].replace("1", "7")
    kernel_table.replace(
        [
            tracked(family, protocol, 33001, to=1),
            tracked(family, protocol, 33002, to=2),
            tracked(family, protocol, 33003, to=2, port=81),
            tracked(family, protocol, 33004, to=2, service=other),
            tracked(family, TCP + UDP - protocol, 33005, to=2),
        ]
    )
    stale = {at(family, protocol): frozenset({endpoint(family, 1)})}
    assert conntrack.forget(family, stale) == 1
    assert client_ports() == {33001, 33003, 33004, 33005}
    # Asked again, there is nothing left to do.
    assert conntrack.forget(family, stale) == 0


@pytest.mark.bpf
def test_what_went_to_the_address_itself_before_there_was_a_service_is_forgotten(namespace: Ip) -> None:
    kernel_table.replace([tracked(IPV4, UDP, 33001, to=0), tracked(IPV4, UDP, 33002, to=1)])
    assert conntrack.forget(IPV4, {at(IPV4, UDP): frozenset({endpoint(IPV4, 1)})}) == 1
    assert client_ports() == {33002}


@pytest.mark.bpf
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_of_many_frontends_all_is_looked_through_at_once(namespace: Ip, family: Family) -> None:
    ports = range(80, 80 + 3 * conntrack._FEW)
    kernel_table.replace(tracked(family, UDP, 33000 + port, port=port) for port in ports)
    stale = {at(family, UDP, port): NO_ONE for port in ports if port % 3}
    assert conntrack.forget(family, stale) == len(stale)
    assert client_ports() == {33000 + port for port in ports if port % 3 == 0}


@pytest.mark.bpf
def test_more_than_one_message_of_deletions(namespace: Ip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conntrack, "_SEND_BYTES", 300)
    kernel_table.replace(tracked(IPV4, UDP, 33000 + number) for number in range(20))
    assert conntrack.forget(IPV4, {at(IPV4, UDP): NO_ONE}) == 20
    assert client_ports() == set()


@pytest.mark.bpf
def test_one_family_is_none_of_the_others_business(namespace: Ip) -> None:
    kernel_table.replace([tracked(IPV4, TCP, 33004), tracked(IPV6, TCP, 33006)])
    assert conntrack.forget(IPV6, {at(IPV6, TCP): NO_ONE}) == 1
    assert client_ports() == {33004}


@pytest.mark.bpf
def test_a_flow_that_ended_meanwhile_is_no_failure(namespace: Ip, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel_table.replace([tracked(IPV4, UDP, 33001), tracked(IPV4, UDP, 33002)])
    delete = conntrack._delete

    def too_late(netlink: socket.socket, family: Family, flows: list[conntrack.Flow]) -> int:
        kernel_table.replace([tracked(IPV4, UDP, 33003)])
        return delete(netlink, family, flows)

    monkeypatch.setattr(conntrack, "_delete", too_late)
    conntrack.forget(IPV4, {at(IPV4, UDP): NO_ONE})
    assert client_ports() == {33003}


def test_nothing_stale_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> socket.socket:
        raise AssertionError("it asked")

    monkeypatch.setattr(ctnetlink, "opened", refuse)
    assert conntrack.forget(IPV4, {}) == 0


@pytest.mark.parametrize(("family", "filtered"), [(IPV4, 1 << 1 | 1 << 3 | 1 << 5), (IPV6, 1 << 3 | 1 << 5)])
def test_a_frontends_request_has_what_its_flows_must_have(family: Family, filtered: int) -> None:
    asked = conntrack.request(family, at(family, TCP))
    length, kind, flags = struct.unpack_from("=IHH", asked)
    assert (length, kind, flags) == (len(asked), 1 << 8 | 1, 0x301)
    told = ctnetlink.flow_attributes(asked[16:])
    original = dict(ctnetlink.attributes(told[ctnetlink.TUPLE_ORIGINAL]))
    address = dict(ctnetlink.attributes(original[ctnetlink.TUPLE_ADDRESSES]))
    protocol = dict(ctnetlink.attributes(original[ctnetlink.TUPLE_PROTOCOL]))
    assert address == {ctnetlink.DESTINATION[family.size]: packed(ADDRESSES[family][1])}
    assert protocol == {1: bytes([TCP]), 3: struct.pack("!H", 80)}
    # CTA_FILTER_ORIG_FLAGS, in the machine's byte order.
    assert dict(ctnetlink.attributes(told[ctnetlink.FILTER])) == {1: struct.pack("=I", filtered)}
