"""What the nftables plane has left on a node: a table whose flows go on by connection tracking alone.

Drained, it has no rules. Its chains stay, as long as there are flows: without any chain of type nat, the
kernel would translate nothing any more. So do its elements, which say what was a service's.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Final, TypeVar

from blixt_backend.model import ChangeSet
from blixt_backend.planes import links
from blixt_backend.planes.base import PlaneError
from blixt_backend.planes.leftover import Leftover, in_thread
from blixt_backend.planes.nftables import adopt, conntrack, dump, owning, stale
from blixt_backend.planes.nftables.compile import Frontend, Plan, compile_view
from blixt_backend.planes.nftables.family import FAMILIES, TABLE_PREFIX, Family
from blixt_backend.planes.nftables.kernel import Tables
from blixt_backend.planes.nftables.libnftables import LibraryMissingError, Nftables, NftError
from blixt_backend.planes.nftables.ruleset import Rules
from blixt_backend.planes.nftables.state import State

_T = TypeVar("_T")
_GONE = Plan()
#: Who may not look may not drain either; and a kernel without nftables, or connection tracking, has nothing.
NOBODY_S: Final = (errno.EPERM, errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT)


class NftablesLeftover(Leftover):
    plane: ClassVar[str] = "nftables"

    def __init__(self) -> None:
        self._owner: socket.socket | None = None
        self._tables: Tables | None = None
        self._states: dict[Family, State] = {}
        #: What has been a service's since it was held.
        self._frontends: dict[Family, set[Frontend]] = {}
        self._thread = _one_thread()

    async def hold(self) -> bool:
        return await self._blocking(self._hold)

    async def drain(self) -> None:
        await self._blocking(self._drain)

    async def follow(self, change: ChangeSet) -> None:
        await self._blocking(self._follow, change)

    async def flows(self) -> int:
        return await self._blocking(self._flows)

    async def remove(self) -> None:
        await self._blocking(self._remove)

    async def release(self) -> None:
        await self._blocking(self._release)
        self._thread.shutdown()
        self._thread = _one_thread()

    # -- in the thread ----------------------------------------------------------------------------------

    def _hold(self) -> bool:
        # Without the library, which takes room in every backend that has nothing to drain.
        if not any(name.startswith(TABLE_PREFIX) for name in tables()):
            return False
        self._owner = owning.own()
        self._tables = Tables(Nftables(), Rules())
        return True

    def _drain(self) -> None:
        self._begin()
        for family, frontends in self._frontends.items():
            frontends |= adopt.frontends(self._opened.held(family).elements)
        self._opened.empty_all()

    def _begin(self) -> None:
        self._states = {family: State() for family in FAMILIES}
        self._frontends = {family: set() for family in FAMILIES}

    def _follow(self, change: ChangeSet) -> None:
        addresses = tuple(dict.fromkeys(address for link in links.scan() for address in link.addresses))
        for family, state in self._states.items():
            views = change.desired if change.resync else change.changed
            plans = {path: compile_view(view, family, addresses) for path, view in views.items()}
            if change.resync:
                state.replace(plans, {})
                ended = stale.after_start(state.entries)
            else:
                moved, _ = state.change(dict.fromkeys(change.removed, _GONE) | plans)
                ended = stale.after_change(moved)
            self._frontends[family] |= state.entries.keys()
            conntrack.forget(family, ended, only_translated=True)

    def _flows(self) -> int:
        return sum(conntrack.count(family, frontends) for family, frontends in self._frontends.items())

    def _remove(self) -> None:
        self._opened.remove_all()

    def _release(self) -> None:
        if self._tables is not None:
            self._tables.close()
        if self._owner is not None:
            self._owner.close()
        self._tables = self._owner = None
        self._states, self._frontends = {}, {}

    @property
    def _opened(self) -> Tables:
        assert self._tables is not None, "it is not held"
        return self._tables

    async def _blocking(self, function: Callable[..., _T], *arguments: Any) -> _T:
        try:
            return await in_thread(lambda: self._thread.submit(function, *arguments).result())
        except (NftError, LibraryMissingError) as error:
            raise PlaneError(f"nftables: {error}") from error
        except OSError as error:
            raise PlaneError(f"{error.filename or function.__name__.strip('_')}: {error.strerror}") from error


def tables() -> set[str]:
    """The names of all tables of both families. Raises OSError."""
    try:
        return {name for family in FAMILIES for name in dump.tables(family)}
    except OSError as error:
        if error.errno in NOBODY_S:
            return set()
        raise


def _one_thread() -> ThreadPoolExecutor:
    """libnftables' context is for one, and belongs to the namespace it was made in."""
    return ThreadPoolExecutor(1, "nftables-leftover")
