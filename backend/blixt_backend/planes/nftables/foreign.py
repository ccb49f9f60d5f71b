"""What another proxy has left on a node: flows that the kernel goes on translating, by its rules no more.

They need a chain of type nat, whosever it is: an empty one of ours, so that the other proxy's rules may go at
any time. And somebody must end those whose endpoints leave.
"""

from __future__ import annotations

from typing import ClassVar, Final

from blixt_backend.planes.nftables import conntrack
from blixt_backend.planes.nftables.family import FAMILIES, TABLE_PREFIX
from blixt_backend.planes.nftables.leftover import NOBODY_S, NftablesLeftover, tables
from blixt_backend.planes.nftables.libnftables import Nftables

_TABLE: Final = "blixt_kept"
_CHAIN: Final = "chain kept { type nat hook postrouting priority 100; }"


class ForeignLeftover(NftablesLeftover):
    plane: ClassVar[str] = ""

    @property
    def title(self) -> str:
        return "another proxy"

    def _hold(self) -> bool:
        there = tables()
        if any(name.startswith(TABLE_PREFIX) for name in there):  # these chains do, and that plane ends flows
            self._remove()
            return False
        return _TABLE in there or _has_translated()

    def _drain(self) -> None:
        self._begin()
        _run("".join(f"table {family.name} {_TABLE} {{\n{_CHAIN}\n}}\n" for family in FAMILIES))

    def _remove(self) -> None:
        remove()


def remove() -> None:
    """No error if nothing is kept. Raises NftError."""
    if _TABLE in tables():  # of both families, or none
        _run("".join(f"delete table {family.name} {_TABLE}\n" for family in FAMILIES))


def _has_translated() -> bool:
    """Raises OSError."""
    try:
        return any(conntrack.has_translated(family) for family in FAMILIES)
    except OSError as error:
        if error.errno in NOBODY_S:
            return False
        raise


def _run(text: str) -> None:
    nft = Nftables()
    try:
        nft.run_text(text)
    finally:
        nft.close()
