"""Elements of a table's sets and maps: what a frontend comes to, and commands that change them. Pure.

An element is a key, and in a map a value; both are tuples of what nftables' JSON has in a concatenation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from json.encoder import encode_basestring_ascii as _quoted
from typing import Final, NamedTuple

from blixt_backend.planes.nftables.compile import Entry, Frontend, Side
from blixt_backend.planes.nftables.family import TABLE, Family
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


#: Protocols as they are written: libnftables looks up each name that it is given in a file. Others, which
#: somebody else has written, are their numbers.
PROTOCOL_NUMBERS: Final[Mapping[object, int]] = {"tcp": 6, "udp": 17, "sctp": 132}

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
    if held == wanted:
        return Difference((), {})
    away = tuple(element for element, value in held.items() if wanted.get(element) != value)
    there = {element: value for element, value in wanted.items() if held.get(element) != value}
    return Difference(away, there)


def commands(family: Family, change: Difference) -> list[str]:
    """The same for nftables, one command for each set or map, each in JSON."""
    removed: defaultdict[str, list[str]] = defaultdict(list)
    for element in change.away:
        removed[element.name].append(_key(element))
    added: defaultdict[str, list[str]] = defaultdict(list)
    for element, value in change.there.items():
        added[element.name].append(_whole(element, value))
    return [
        *(_command("delete", family, name, listed) for name, listed in removed.items()),
        *(_command("add", family, name, listed) for name, listed in added.items()),
    ]


def batches(change: Difference, most: int) -> Iterator[Difference]:
    """The difference in parts of about `most` elements, each of which leaves every frontend whole.

    What is to be there must have each frontend's elements one after the other.
    """
    away: defaultdict[Key, list[Element]] = defaultdict(list)
    for element in change.away:
        away[_group(element)].append(element)
    gone: list[Element] = []
    there: dict[Element, Value] = {}
    last: Key = ()
    for element, value in change.there.items():
        group = _group(element)
        if group != last:
            if len(gone) + len(there) >= most:
                yield Difference(tuple(gone), there)
                gone, there = [], {}
            last = group
            if away:
                gone += away.pop(group, ())
        there[element] = value
    for rest in away.values():
        if len(gone) + len(there) >= most:
            yield Difference(tuple(gone), there)
            gone, there = [], {}
        gone += rest
    if gone or there:
        yield Difference(tuple(gone), there)


def _group(element: Element) -> Key:
    """What changes together: all of a frontend, or an element by itself."""
    return element.key[:3] if len(element.key) >= len(Frontend._fields) else (element.name, *element.key)


# JSON is put together by hand: these few forms are all there is, and many elements come at once.


def _command(verb: str, family: Family, name: str, listed: list[str]) -> str:
    place = f'"family":"{family.name}","table":"{TABLE}","name":"{name}"'
    return f'{{"{verb}":{{"element":{{{place},"elem":[{",".join(listed)}]}}}}}}'


def _whole(element: Element, value: Value) -> str:
    key = _key(element)
    if value.comment:
        key = f'{{"elem":{{"val":{key},"comment":{_quoted(value.comment)}}}}}'
    return key if element.name in SETS else f"[{key},{_joined(value.parts)}]"


def _key(element: Element) -> str:
    key = element.key
    if len(key) < len(Frontend._fields):
        return _joined(key)
    address, protocol, port, *rest = key
    frontend = f'"{address}",{PROTOCOL_NUMBERS.get(protocol, protocol)},{port}'
    if not rest:
        return f'{{"concat":[{frontend}]}}'
    last = _network(str(rest[0])) if element.name == SOURCE_RANGES else f'"{rest[0]}"'
    return f'{{"concat":[{frontend},{last}]}}'


def _network(text: str) -> str:
    address, slash, length = text.partition("/")
    if slash:
        return f'{{"prefix":{{"addr":"{address}","len":{length}}}}}'
    first, _, last = text.partition("-")
    return f'{{"range":["{first}","{last}"]}}'


def _joined(parts: Key) -> str:
    return _part(parts[0]) if len(parts) == 1 else f'{{"concat":[{",".join(map(_part, parts))}]}}'


def _part(part: str | int) -> str:
    return _quoted(part) if isinstance(part, str) else str(part)
