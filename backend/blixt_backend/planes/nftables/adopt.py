"""From what the kernel has in a table's sets and maps to the elements and choices that these are. Pure."""

from __future__ import annotations

import socket
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, lru_cache, partial
from ipaddress import ip_address, summarize_address_range
from itertools import repeat
from typing import Any, Final

from blixt_backend.planes.nftables import elements, priority
from blixt_backend.planes.nftables.choice import Choice
from blixt_backend.planes.nftables.compile import Frontend
from blixt_backend.planes.nftables.dump import Raw
from blixt_backend.planes.nftables.elements import (
    CLUSTER_IPS,
    GUARDED,
    HAIRPINS,
    LOCAL_ENDPOINTS,
    SIDES,
    SOURCE_RANGES,
    UPLINKS,
    Element,
    Elements,
    Key,
    Value,
)
from blixt_backend.planes.nftables.family import Family
from blixt_backend.planes.nftables.slots import Slots, Target, place
from blixt_backend.planes.nftables.state import Needed

_ADDRESS, _PROTOCOL, _PORT, _CODE, _INTERFACE = "address", "protocol", "port", "code", "interface"
_FRONTEND: Final = (_ADDRESS, _PROTOCOL, _PORT)
#: Maps from a frontend and a slot or an endpoint's number.
_BY_SLOT: Final = (elements.slots, elements.numbered, elements.members)
#: The parts of keys, and of values, as `ruleset` declares them.
_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    GUARDED: _FRONTEND,
    SOURCE_RANGES: (*_FRONTEND, _ADDRESS),
    CLUSTER_IPS: (_ADDRESS,),
    LOCAL_ENDPOINTS: (_ADDRESS,),
    HAIRPINS: (_ADDRESS, _ADDRESS),
    UPLINKS: (_INTERFACE,),
    **{elements.frontends(side): _FRONTEND for side in SIDES},
    **{name(side): (*_FRONTEND, _CODE) for side in SIDES for name in _BY_SLOT},
}
_VALUES: Final[Mapping[str, tuple[str, ...]]] = {
    **{name(side): (_CODE,) for side in SIDES for name in (elements.frontends, elements.numbered)},
    **{name(side): (_ADDRESS, _PORT) for side in SIDES for name in (elements.slots, elements.members)},
}
#: Each part as struct(3) has it, after which it is filled up to four bytes; an address' size is its family's.
_FORMATS: Final = {_PROTOCOL: "B3x", _PORT: "H2x", _CODE: "I", _INTERFACE: "16s"}
_PROTOCOLS: Final = {number: name for name, number in elements.PROTOCOL_NUMBERS.items()}
_TEXTS: Final[Mapping[str, Callable[[Any], str | int]]] = {
    _PROTOCOL: cache(lambda number: str(_PROTOCOLS.get(number, number))),
    _PORT: socket.ntohs,
    _CODE: lru_cache(1 << 16)(priority.text),
    _INTERFACE: lambda name: name.rstrip(b"\0").decode(errors="replace"),
}


def held(family: Family, name: str, raw: Iterable[Raw]) -> dict[Element, Value]:
    """The elements of one of our sets and maps. Raises struct.error for what no version of it holds."""
    listed = list(raw)
    parts = _KEYS[name]
    keys = _read(family, parts, (each.key for each in listed))
    if name == SOURCE_RANGES:
        lasts = _read(family, parts, (each.last or each.key for each in listed))
        keys = [_with_network(*ends) for ends in zip(keys, lasts, strict=True)]
    values: Iterable[Key] = repeat(())
    if name in _VALUES:
        values = _read(family, _VALUES[name], (each.value for each in listed))
    comments = (each.comment for each in listed)
    return dict(zip(map(Element, repeat(name), keys), map(Value, values, comments), strict=False))


def _read(family: Family, parts: Sequence[str], packed: Iterable[bytes]) -> list[Key]:
    """Many concatenations at once, part by part: from bytes to what elements have. Raises struct.error."""
    texts = dict(_TEXTS)
    texts[_ADDRESS] = partial(socket.inet_ntop, family.number)
    formats = {**_FORMATS, _ADDRESS: f"{family.size}s"}
    laid_out = struct.Struct("=" + "".join(formats[part] for part in parts))
    columns = zip(*laid_out.iter_unpack(b"".join(packed)), strict=True)
    return list(
        zip(*(map(texts[part], column) for part, column in zip(parts, columns, strict=False)), strict=True)
    )


def frontends(held: Elements) -> set[Frontend]:
    """Those that have a choice."""
    names = {elements.frontends(side) for side in SIDES}
    return {_frontend(list(element.key)) for element in held if element.name in names}


def choices(side: str, raw: Iterable[Raw]) -> set[Needed]:
    """The choices that have chains."""
    code = struct.Struct("=I")
    return {(side, Choice.of(priority.text(*code.unpack(each.key)))) for each in raw}


def places(held: Elements) -> Mapping[Frontend, Mapping[str, Slots]]:
    """Where endpoints are in the slots of frontends, by side."""
    found: defaultdict[Frontend, dict[str, Slots]] = defaultdict(dict)
    for side in SIDES:
        by_place: defaultdict[Frontend, dict[int, Target]] = defaultdict(dict)
        for element, value in held.items():
            *frontend, last = element.key
            if element.name == elements.slots(side):
                by_place[_frontend(frontend)][place(str(last))] = _target(value)
            elif element.name == elements.numbered(side):
                member = held.get(Element(elements.members(side), (*frontend, *value.parts)))
                if member is not None:
                    by_place[_frontend(frontend)][place(str(last))] = _target(member)
        for whose, taken in by_place.items():
            found[whose][side] = tuple(taken.get(number) for number in range(max(taken) + 1))
    return found


def _with_network(first: Key, last: Key) -> Key:
    """A frontend with a network, or with a range that is none."""
    *frontend, lowest = first
    networks = [*summarize_address_range(ip_address(lowest), ip_address(last[-1]))]
    text = str(networks[0]) if len(networks) == 1 else f"{lowest}-{last[-1]}"
    return (*frontend, text)


def _frontend(parts: list[str | int]) -> Frontend:
    address, protocol, port = parts
    return Frontend(str(address), str(protocol), int(port))


def _target(value: Value) -> Target:
    address, port = value.parts
    return str(address), int(port)
