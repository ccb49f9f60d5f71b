"""Where a frontend listens if not on its own address: `--map`. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Final, NamedTuple

from blixt_backend.model import PackedAddress, Protocol
from blixt_backend.planes.userspace.compile import Frontend, readable

_FORM: Final = re.compile(r"(?P<vip>[^=]+)=(?P<place>[^=/]+)(?:/(?P<protocol>tcp|udp))?")
_EXAMPLES: Final = "10.96.0.10:80=127.0.0.1:8080, 10.96.0.10=127.0.0.1 or [fd00::1]:53=[::1]:5353/udp"


class Place(NamedTuple):
    """Where to listen. Port 0: on any that is free."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class _Key(NamedTuple):
    """What is mapped: an address; None: all its ports, both protocols."""

    address: str
    port: int | None
    protocol: Protocol | None


class _At(NamedTuple):
    """Where to. None: the frontend's own port."""

    address: str
    port: int | None


Maps = Mapping[_Key, _At]


def parse(texts: Sequence[str]) -> Maps:
    """VIP:PORT=ADDR:PORT, with /tcp or /udp behind it for one of them only. Without the VIP's port, all its
    ports; without the other port, the same number. Raises ValueError with what is wrong."""
    maps: dict[_Key, _At] = {}
    for text in texts:
        key, place = _read(text)
        if maps.setdefault(key, place) != place:
            raise ValueError(f"{text!r}: that is mapped elsewhere already")
    return maps


def place_of(maps: Maps, frontend: Frontend) -> Place:
    """Where the frontend listens: by what says most of it, else on its own address."""
    address, port, protocol = frontend
    for key in (
        _Key(address, port, protocol), _Key(address, port, None),
        _Key(address, None, protocol), _Key(address, None, None),
    ):  # fmt: skip
        if key in maps:
            at = maps[key]
            return Place(at.address, port if at.port is None else at.port)
    return Place(address, port)


def _read(text: str) -> tuple[_Key, _At]:
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is nothing like {_EXAMPLES}")
    vip, port = _address(found["vip"], text)
    place, at = _address(found["place"], text)
    if port == 0:
        raise ValueError(f"{text!r}: a service has no port 0")
    if port is None and at:
        raise ValueError(f"{text!r}: all ports can't be at one: leave it out, or let it be 0 for free ones")
    protocol = Protocol[found["protocol"].upper()] if found["protocol"] else None
    return _Key(vip, port, protocol), _At(place, at)


def _address(text: str, whole: str) -> tuple[str, int | None]:
    """192.0.2.1:80, 192.0.2.1, [fd00::1]:80, [fd00::1] or fd00::1."""
    bracketed = re.fullmatch(r"\[([^]]*)\](?::([0-9]+))?", text)
    plain = re.fullmatch(r"([0-9.]+)(?::([0-9]+))?", text)
    found = bracketed or plain
    host, number = (found[1], found[2]) if found else (text, None)
    try:
        address = ip_address(host)
    except ValueError:
        raise ValueError(f"{whole!r}: {text!r} is no address; right is {_EXAMPLES}") from None
    if number is not None and int(number) > 65535:
        raise ValueError(f"{whole!r}: there is no port {number}")
    return readable(PackedAddress(address.packed)), None if number is None else int(number)
