"""From nftables' listing of a table to the elements that it holds. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from blixt_backend.planes.nftables import elements, ruleset
from blixt_backend.planes.nftables.choice import Choice
from blixt_backend.planes.nftables.compile import Frontend
from blixt_backend.planes.nftables.elements import SETS, SIDES, SOURCE_RANGES, Element, Elements, Key, Value
from blixt_backend.planes.nftables.family import Family
from blixt_backend.planes.nftables.libnftables import Command
from blixt_backend.planes.nftables.slots import Slots, Target, place
from blixt_backend.planes.nftables.state import Needed

_LISTED_AS: Final = ("map", "set")


def held(family: Family, replies: Iterable[Command]) -> dict[Element, Value]:
    """The elements in the replies to list commands, of all sets and maps that are ours to write."""
    found: dict[Element, Value] = {}
    for name, listed in _sets(replies):
        if name in elements.NAMES:
            found.update(_element(family, name, each) for each in listed)
    return found


def choices(replies: Iterable[Command]) -> set[Needed]:
    """The choices that have chains."""
    sides = {ruleset.choices(side): side for side in SIDES}
    return {
        (sides[name], Choice.of(str(code)))
        for name, listed in _sets(replies)
        if name in sides
        for code, _ in listed
    }


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


def _sets(replies: Iterable[Command]) -> Iterator[tuple[str, list[Any]]]:
    """Names and elements. What maps concatenations is listed as a set by some versions."""
    for reply in replies:
        for kind in _LISTED_AS:
            if kind in reply:
                yield reply[kind]["name"], reply[kind].get("elem", [])


def _element(family: Family, name: str, listed: Any) -> tuple[Element, Value]:
    key, parts = (listed, ()) if name in SETS else (listed[0], _parts(listed[1]))
    comment = ""
    if isinstance(key, dict) and "elem" in key:
        comment, key = key["elem"].get("comment", ""), key["elem"]["val"]
    whole = _parts(key)
    if name == SOURCE_RANGES:
        whole = (*whole[:-1], _network(family, key["concat"][-1]))
    return Element(name, whole), Value(parts, comment)


def _parts(listed: Any) -> Key:
    return tuple(listed["concat"]) if isinstance(listed, dict) and "concat" in listed else (listed,)


def _network(family: Family, listed: Any) -> str:
    if isinstance(listed, str):
        return f"{listed}/{8 * family.size}"
    if "prefix" in listed:
        return f"{listed['prefix']['addr']}/{listed['prefix']['len']}"
    return "-".join(listed["range"])


def _frontend(parts: list[str | int]) -> Frontend:
    address, protocol, port = parts
    return Frontend(str(address), str(protocol), int(port))


def _target(value: Value) -> Target:
    address, port = value.parts
    return str(address), int(port)
