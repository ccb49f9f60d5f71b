"""Pools as they are written on the command line."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt_frontend.addresses import Pools, parse_pool
from blixt_frontend.addresses.pools import parse_address


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("lan=192.0.2.0/24", ["192.0.2.1-192.0.2.254"]),
        ("lan=192.0.2.8/30", ["192.0.2.9-192.0.2.10"]),
        ("lan=192.0.2.8/31", ["192.0.2.8-192.0.2.9"]),
        ("lan=192.0.2.8/32", ["192.0.2.8"]),
        ("lan=192.0.2.0-192.0.2.255", ["192.0.2.0-192.0.2.255"]),
        ("lan=192.0.2.7", ["192.0.2.7"]),
        ("lan=2001:db8::/126", ["2001:db8::1-2001:db8::3"]),
        ("lan=2001:db8::/127", ["2001:db8::-2001:db8::1"]),
        ("lan=2001:DB8:0::5-2001:db8::ff", ["2001:db8::5-2001:db8::ff"]),
        ("a-1=192.0.2.1-192.0.2.3, 2001:db8::1", ["192.0.2.1-192.0.2.3", "2001:db8::1"]),
    ],
)
def test_a_pool_is_its_ranges(text: str, ranges: list[str]) -> None:
    pool = parse_pool(text)
    assert pool.name == text.partition("=")[0]
    assert list(map(str, pool.ranges)) == ranges


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("192.0.2.0/24", "not NAME="),
        ("=192.0.2.0/24", "not NAME="),
        ("My_Lan=192.0.2.0/24", "not NAME="),
        ("lan=", "'' is no CIDR"),
        ("lan=192.0.2.0/24,", "'' is no CIDR"),
        ("lan=192.0.2.300", "'192.0.2.300' is no CIDR"),
        ("lan=192.0.2.0/33", "'192.0.2.0/33' is no CIDR"),
        ("lan=192.0.2.1/24", "did you mean 192.0.2.0/24?"),
        ("lan=192.0.2.9-192.0.2.1", "ends before it begins"),
        ("lan=192.0.2.9-2001:db8::1", "from one IP family to the other"),
        ("lan=192.0.2.1-192.0.2.2-192.0.2.3", "is no CIDR"),
        ("lan=fe80::1%eth0", "is no CIDR"),
        ("lan=fe80::%1/64", "did you mean|is no CIDR"),
    ],
)
def test_what_is_no_pool_is_refused_with_the_reason(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem.replace("?", r"\?")):
        parse_pool(text)


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        (
            ["a=192.0.2.0/24", "b=192.0.2.100-192.0.2.110"],
            "192.0.2.1-192.0.2.254 in 'a' and 192.0.2.100-192.0.2.110 in 'b'",
        ),
        (["a=192.0.2.1-192.0.2.5,192.0.2.5-192.0.2.9"], "overlap"),
        (["a=2001:db8::/64", "b=2001:db8::1"], "overlap"),
        (["a=192.0.2.1", "a=192.0.2.2"], "'a' is given twice"),
    ],
)
def test_pools_that_overlap_are_refused(texts: list[str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Pools(map(parse_pool, texts))


def test_pools_beside_each_other_are_told_apart() -> None:
    pools = Pools(map(parse_pool, ["b=192.0.2.10-192.0.2.19", "a=192.0.2.20-192.0.2.29,2001:db8::1"]))
    expected = {
        "192.0.2.9": None,
        "192.0.2.10": "b",
        "192.0.2.19": "b",
        "192.0.2.20": "a",
        "192.0.2.29": "a",
        "192.0.2.30": None,
        "2001:db8::": None,
        "2001:db8::1": "a",
    }
    found = {text: pools.pool_of(address) for text in expected if (address := parse_address(text))}
    assert found == expected
    assert pools.versions("") == (4, 6)
    assert pools.versions("b") == (4,)
    assert list(map(str, pools.ranges("", 4))) == ["192.0.2.10-192.0.2.19", "192.0.2.20-192.0.2.29"]


@given(st.ip_addresses())
def test_addresses_are_read_and_written_as_they_are(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    parsed = parse_address(str(address))
    assert parsed is not None
    assert ipaddress.ip_address(str(parsed)) == address
    assert parse_address(str(parsed)) == parsed


@given(st.integers(16, 32), st.integers(0, 2**32 - 1))
def test_a_cidr_is_its_hosts(prefix: int, number: int) -> None:
    network = ipaddress.ip_network((number, prefix), strict=False)
    hosts = list(network.hosts())
    (part,) = parse_pool(f"lan={network}").ranges
    assert (part.first, part.last) == (int(hosts[0]), int(hosts[-1]))
