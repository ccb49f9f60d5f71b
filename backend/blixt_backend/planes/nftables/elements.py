"""Elements of a table's sets and maps: what a frontend comes to, and commands that change them. Pure.

An element is a key, and in a map a value; both are tuples of what nftables' JSON has in a concatenation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from blixt_backend.planes.nftables.compile import Entry, Frontend, Side
from blixt_backend.planes.nftables.family import TABLE, Family
from blixt_backend.planes.nftables.libnftables import Command
from blixt_backend.planes.nftables.slots import numbers, slot

#: Clients on this node, and in the network.
SIDES: Final = ("inside", "outside")
GUARDED, SOURCE_RANGES = "guarded", "source_ranges"
CLUSTER_IPS, LOCAL_ENDPOINTS, HAIRPINS, UPLINKS = "cluster_ips", "local_endpoints", "hairpins", "uplinks"
#: Sets; all others are maps.
SETS: Final = frozenset({GUARDED, SOURCE_RANGES, CLUSTER_IPS, LOCAL_ENDPOINTS, HAIRPINS, UPLINKS})


def frontends(side: str) -> str:
    """The map from a frontend to its choice's code."""
    return f"{side}_frontends"


def slots(side: str) -> str:
    """The map from a frontend and a slot to an endpoint."""
    return f"{side}_slots"


def numbered(side: str) -> str:
    """The map from a frontend with affinity and a slot to an endpoint's number."""
    return f"{side}_numbers"


def members(side: str) -> str:
    """The map from a frontend with affinity and an endpoint's number to the endpoint."""
    return f"{side}_members"


#: All that this module knows to write.
NAMES: Final = (
    *(name(side) for side in SIDES for name in (frontends, slots, numbered, members)),
    *sorted(SETS),
)

Key = tuple[str | int, ...]


class Value(NamedTuple):
    """What a map has for a key, and what an element says to its reader."""

    parts: Key = ()
    comment: str = ""


class Element(NamedTuple):
    """Where an element is: the name of its set or map, and its key."""

    name: str
    key: Key


Elements = Mapping[Element, Value]
NOTHING: Final = Value()
_MOST_COMMENT = 120


def of_frontend(frontend: Frontend, entry: Entry) -> dict[Element, Value]:
    """All elements of one frontend."""
    found: dict[Element, Value] = {}
    comment = entry.title[:_MOST_COMMENT]
    for name, side in zip(SIDES, (entry.inside, entry.outside), strict=True):
        if side is not None:
            found[Element(frontends(name), frontend)] = Value((side.choice.code,), comment)
            found.update(_of_side(name, frontend, side))
    if entry.ranges is not None:
        found[Element(GUARDED, frontend)] = NOTHING
        found.update((Element(SOURCE_RANGES, (*frontend, each)), NOTHING) for each in entry.ranges)
    return found


def _of_side(name: str, frontend: Frontend, side: Side) -> Iterator[tuple[Element, Value]]:
    places = [(place, target) for place, target in enumerate(side.slots) if target is not None]
    if not side.choice.seconds:
        where = slots(name)
        for place, target in places:
            yield Element(where, (*frontend, slot(place))), Value(target)
        return
    given = numbers(side.slots)
    for place, target in places:
        yield Element(numbered(name), (*frontend, slot(place))), Value((given[target],))
    for target, number in given.items():
        yield Element(members(name), (*frontend, number)), Value(target)


class Difference(NamedTuple):
    """Elements to take away, then elements to put there; of one key first the one, then the other."""

    away: tuple[Element, ...]
    there: Elements


def difference(held: Elements, wanted: Elements) -> Difference:
    """What makes `held` `wanted`."""
    away = tuple(element for element, value in held.items() if wanted.get(element) != value)
    there = {element: value for element, value in wanted.items() if held.get(element) != value}
    return Difference(away, there)


def commands(family: Family, change: Difference) -> list[Command]:
    """The same for nftables, which takes one command for each set or map."""
    removed: defaultdict[str, list[Any]] = defaultdict(list)
    for element in change.away:
        removed[element.name].append(_key(element))
    added: defaultdict[str, list[Any]] = defaultdict(list)
    for element, value in change.there.items():
        added[element.name].append(_whole(element, value))
    return [
        *(_command("delete", family, name, listed) for name, listed in removed.items()),
        *(_command("add", family, name, listed) for name, listed in added.items()),
    ]


def batches(change: Difference, most: int) -> Iterator[Difference]:
    """The difference in parts of about `most` elements, each of which leaves every frontend whole."""
    groups: defaultdict[Key, tuple[list[Element], dict[Element, Value]]] = defaultdict(lambda: ([], {}))
    for element in change.away:
        groups[_group(element)][0].append(element)
    for element, value in change.there.items():
        groups[_group(element)][1][element] = value
    away: list[Element] = []
    there: dict[Element, Value] = {}
    for gone, come in groups.values():
        away += gone
        there.update(come)
        if len(away) + len(there) >= most:
            yield Difference(tuple(away), there)
            away, there = [], {}
    if away or there:
        yield Difference(tuple(away), there)


def _group(element: Element) -> Key:
    """What changes together: all of a frontend, or an element by itself."""
    return element.key[:3] if len(element.key) >= len(Frontend._fields) else (element.name, *element.key)


def _command(verb: str, family: Family, name: str, listed: list[Any]) -> Command:
    return {verb: {"element": {"family": family.name, "table": TABLE, "name": name, "elem": listed}}}


def _whole(element: Element, value: Value) -> Any:
    key = _key(element)
    if value.comment:
        key = {"elem": {"val": key, "comment": value.comment}}
    return key if element.name in SETS else [key, _joined(value.parts)]


def _key(element: Element) -> Any:
    if element.name == SOURCE_RANGES:
        *frontend, network = element.key
        return {"concat": [*frontend, _network(str(network))]}
    return _joined(element.key)


def _network(text: str) -> Any:
    address, slash, length = text.partition("/")
    if slash:
        return {"prefix": {"addr": address, "len": int(length)}}
    return {"range": text.split("-")}


def _joined(parts: Iterable[str | int]) -> Any:
    listed = list(parts)
    return listed[0] if len(listed) == 1 else {"concat": listed}
