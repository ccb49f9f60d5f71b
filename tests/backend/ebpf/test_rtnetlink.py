"""rtnetlink: what it reads of the kernel is what pyroute2 reads."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable
from ipaddress import ip_address

import pytest
from pyroute2 import IPRoute  # type: ignore[import-untyped]  # it ships no types

from blixt_backend import rtnetlink
from blixt_backend.model import PackedAddress
from blixt_backend.rtnetlink import AddressEntry, LinkEntry

_MANY = 150  # whose answers don't fit into one datagram


@pytest.fixture
def _filled(namespace: Callable[[str], None]) -> None:
    namespace("link set lo up")
    namespace("link add u0 type veth peer name u1")
    for address in ("192.0.2.1/24", "192.0.2.2/24", "10.0.0.1/32 peer 10.0.0.2", "2001:db8::1/64 nodad"):
        namespace(f"address add {address} dev u0")
    namespace("address add 169.254.0.1/16 scope link dev u0")
    namespace("link set u0 up")
    namespace("link add link u0 name on0 type macvlan")
    for number in range(_MANY):
        namespace(f"link add br{number} type bridge")


@pytest.mark.bpf
@pytest.mark.usefixtures("_filled")
def test_links_are_what_another_reader_sees() -> None:
    with IPRoute() as netlink:
        expected = []
        for message in netlink.get_links():
            info = message.get_attr("IFLA_LINKINFO")
            expected.append(
                LinkEntry(
                    ifindex=message["index"],
                    name=message.get_attr("IFLA_IFNAME"),
                    hardware=message["ifi_type"],
                    flags=message["flags"],
                    mac=bytes.fromhex(message.get_attr("IFLA_ADDRESS").replace(":", "")),
                    kind=(info.get_attr("IFLA_INFO_KIND") or "") if info else "",
                    peer_elsewhere=message.get_attr("IFLA_LINK_NETNSID") is not None,
                    on=message.get_attr("IFLA_LINK") or 0,
                )
            )
    assert rtnetlink.links() == expected
    assert len(expected) == 4 + _MANY
    numbers = {link.name: link.ifindex for link in expected}
    assert {link.name: link.on for link in expected if link.on}["on0"] == numbers["u0"]


@pytest.mark.bpf
@pytest.mark.usefixtures("_filled")
def test_addresses_are_what_another_reader_sees() -> None:
    with IPRoute() as netlink:
        expected = [
            AddressEntry(
                ifindex=message["index"],
                address=PackedAddress(
                    ip_address(message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")).packed
                ),
                prefix_length=message["prefixlen"],
                scope=message["scope"],
                flags=message.get_attr("IFA_FLAGS"),
            )
            for message in netlink.get_addr()
        ]
    found = rtnetlink.addresses()
    assert found == expected
    assert ip_address(found[-1].address).version == 6
    assert "10.0.0.1" in {str(ip_address(entry.address)) for entry in found}


def test_a_list_that_changed_meanwhile_is_taken_again() -> None:
    ours, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, kernel:
        kernel.send(_message(16, b"half") + _message(16, b"more", flags=rtnetlink._INTERRUPTED))
        kernel.send(_message(rtnetlink._DONE, bytes(4)))
        assert rtnetlink._answers(ours) is None
        kernel.send(_message(16, b"half"))
        kernel.send(_message(rtnetlink._DONE, bytes(4)))
        assert rtnetlink._answers(ours) == [b"half"]


def test_a_refusal_is_an_error() -> None:
    ours, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, kernel:
        kernel.send(_message(rtnetlink._ERROR, struct.pack("=i", -errno.EPERM)))
        with pytest.raises(PermissionError):
            rtnetlink._answers(ours)


def _message(kind: int, body: bytes, flags: int = 0) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body
