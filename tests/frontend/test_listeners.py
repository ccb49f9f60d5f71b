"""Addresses as they are written."""

from pathlib import Path

import pytest

from blixt_frontend.listeners import Address, TcpAddress, UnixAddress, parse_address


@pytest.mark.parametrize(
    ("text", "address", "written"),
    [
        ("127.0.0.1:12090", TcpAddress("127.0.0.1", 12090), "127.0.0.1:12090"),
        ("[::1]:1", TcpAddress("::1", 1), "[::1]:1"),
        ("frontend.local:65535", TcpAddress("frontend.local", 65535), "frontend.local:65535"),
        (":0", TcpAddress("::", 0), "[::]:0"),
        ("unix:/run/blixt.sock", UnixAddress(Path("/run/blixt.sock")), "unix:/run/blixt.sock"),
    ],
)
def test_addresses(text: str, address: Address, written: str) -> None:
    assert parse_address(text) == address
    assert str(address) == written


def test_a_relative_socket_is_made_absolute() -> None:
    assert parse_address("unix:blixt.sock") == UnixAddress(Path("blixt.sock").absolute())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *(
            (text, "not HOST:PORT")
            for text in ("", "12090", "host", "host:", "host:x", "host:-1", "host:65536")
        ),
        ("host:\N{SUPERSCRIPT TWO}", "not HOST:PORT"),
        ("::1:80", "needs brackets"),
        ("unix:", "a path must follow"),
    ],
)
def test_what_is_none(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_address(text)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.9", True),
        ("::1", True),
        ("localhost", True),
        ("::", False),
        ("192.0.2.1", False),
        ("n1", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert TcpAddress(host, 1).is_loopback is expected
