"""The tables in this kernel: laid out, listed, changed, taken away. Blocks; for one thread at a time."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, NamedTuple

from blixt_backend.planes import ctnetlink
from blixt_backend.planes.nftables import adopt, dump, elements, ruleset
from blixt_backend.planes.nftables.elements import SIDES, Difference, Element, Value
from blixt_backend.planes.nftables.family import FAMILIES, TABLE, TABLE_PREFIX, Family
from blixt_backend.planes.nftables.libnftables import Command, Nftables, NftError
from blixt_backend.planes.nftables.ruleset import Rules
from blixt_backend.planes.nftables.state import Needed

#: Elements of one transaction, where it may be several: libnftables is slower with longer ones, and looks at
#: all of the node's chains and sets for each.
_MOST_ELEMENTS: Final = 4_000


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
        found: dict[Element, Value] = {}
        choices: set[Needed] = set()
        with ctnetlink.opened() as netlink:
            for name in elements.NAMES:
                raw = dump.elements(netlink, family, TABLE, name)
                try:
                    found |= adopt.held(family, name, raw)
                except struct.error:
                    raise NftError(
                        f"{name} of table {family.name} {TABLE} is none of ours: delete the table"
                    ) from None
            for side in SIDES:
                raw = dump.elements(netlink, family, TABLE, ruleset.choices(side))
                choices |= adopt.choices(side, raw)
        return Held(found, choices)

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
        commands: list[str] = []
        for family, change in changes.items():
            commands += elements.commands(family, change)
        if commands:
            self._nft.run_json(commands)

    def fill(self, family: Family, change: Difference) -> None:
        """In as many transactions as it takes, each of which leaves every frontend whole."""
        for part in elements.batches(change, _MOST_ELEMENTS):
            self._nft.run_json(elements.commands(family, part))

    def empty_all(self) -> None:
        """No rule is left. Chains and elements are."""
        self._nft.run_text(
            "".join(
                f"flush table {family.name} {name}\n"
                for family in FAMILIES
                for name in dump.tables(family)
                if name.startswith(TABLE_PREFIX)
            )
        )

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
            for name in dump.tables(family)
            if whether(name)
        ]
        if commands:
            self._nft.run(commands)
        return len(commands)
