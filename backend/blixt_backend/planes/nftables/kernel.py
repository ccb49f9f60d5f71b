"""The tables in this kernel: laid out, listed, changed, taken away. Blocks; for one thread at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, NamedTuple

from blixt_backend.planes.nftables import adopt, elements, ruleset
from blixt_backend.planes.nftables.elements import SETS, SIDES, Difference, Element, Value
from blixt_backend.planes.nftables.family import FAMILIES, TABLE, TABLE_PREFIX, Family
from blixt_backend.planes.nftables.libnftables import Command, Nftables, NftError
from blixt_backend.planes.nftables.ruleset import Rules
from blixt_backend.planes.nftables.state import Needed

#: Elements of one transaction, where it may be several.
_MOST_ELEMENTS: Final = 20_000
_MAPS_OF_CHOICES: Final = tuple(ruleset.choices(side) for side in SIDES)


class Held(NamedTuple):
    """What one family's table has now."""

    elements: Mapping[Element, Value] = {}
    choices: Collection[Needed] = ()


class Tables:
    """Both families' tables. Every method may raise NftError; what fails has changed nothing."""

    def __init__(self, nft: Nftables, rules: Rules) -> None:
        self._nft = nft
        self._rules = rules

    def close(self) -> None:
        self._nft.close()

    def held(self, family: Family) -> Held:
        """All that is there, which costs as much as there is."""
        if TABLE not in self._names(family):
            return Held()
        replies = [
            reply for name in (*elements.NAMES, *_MAPS_OF_CHOICES) for reply in self._listed(family, name)
        ]
        return Held(adopt.held(family, replies), adopt.choices(replies))

    def lay(self, needed: Mapping[Family, Iterable[Needed]]) -> None:
        """All rules, as they should be, around the elements that are there."""
        self._nft.run_text("".join(ruleset.lay(family, self._rules, needed[family]) for family in FAMILIES))

    def add_choices(self, needed: Mapping[Family, Collection[Needed]]) -> None:
        """Before the elements that need them."""
        text = "".join(ruleset.add_choices(family, new) for family, new in needed.items())
        if text:
            self._nft.run_text(text)

    def remove_choices(self, family: Family, unneeded: Collection[Needed]) -> None:
        if unneeded:
            self._nft.run_text(ruleset.remove_choices(family, unneeded))

    def change(self, changes: Mapping[Family, Difference]) -> None:
        """In one transaction."""
        commands: list[Command] = []
        for family, change in changes.items():
            commands += elements.commands(family, change)
        if commands:
            self._nft.run(commands)

    def fill(self, family: Family, change: Difference) -> None:
        """In as many transactions as it takes, each of which leaves every frontend whole."""
        for part in elements.batches(change, _MOST_ELEMENTS):
            self._nft.run(elements.commands(family, part))

    def remove_others(self) -> None:
        """What other versions of this plane have left."""
        self._remove(lambda name: name.startswith(TABLE_PREFIX) and name != TABLE)

    def remove_all(self) -> int:
        """How many tables there were."""
        return self._remove(lambda name: name.startswith(TABLE_PREFIX))

    def _remove(self, whether: Callable[[str], bool]) -> int:
        commands: list[Command] = [
            {"delete": {"table": {"family": family.name, "name": name}}}
            for family in FAMILIES
            for name in self._names(family)
            if whether(name)
        ]
        if commands:
            self._nft.run(commands)
        return len(commands)

    def _names(self, family: Family) -> list[str]:
        replies = self._nft.run([{"list": {"tables": {"family": family.name}}}])
        return [reply["table"]["name"] for reply in replies if "table" in reply]

    def _listed(self, family: Family, name: str) -> list[Command]:
        kind = "set" if name in SETS else "map"
        try:
            return self._nft.run([{"list": {kind: {"family": family.name, "table": TABLE, "name": name}}}])
        except NftError:  # somebody else's doing: what isn't there holds nothing, and is laid out again
            return []
