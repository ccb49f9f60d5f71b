"""What a plane leaves on a node: it goes on with the flows that it has, while another one takes the new ones.

A backend that ends leaves its dataplane running. Where a backend with another plane follows, that one is
programmed first; then the other's leftover is held, drained and followed until no flow of it is left, and
removed (`draining`). All of it is in the kernel, so whoever is killed meanwhile goes on at its next start.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, TypeVar

from blixt_backend.model import ChangeSet

_T = TypeVar("_T")


class Leftover(ABC):
    """Every method may raise PlaneError. They are called one at a time: `hold` first, `release` last."""

    #: The plane's name.
    plane: ClassVar[str]

    @property
    def title(self) -> str:
        """To speak of it."""
        return f"plane {self.plane}"

    @abstractmethod
    async def hold(self) -> bool:
        """Keep others from it, if there is anything; whether there is. PlaneError: its own backend runs."""

    @abstractmethod
    async def drain(self) -> None:
        """No new flow from now on; the others go on. No error if that is so already."""

    @abstractmethod
    async def follow(self, change: ChangeSet) -> None:
        """End the flows whose endpoints are gone, as its own backend would. The first one is a resync."""

    @abstractmethod
    async def flows(self) -> int:
        """How many go on."""

    @abstractmethod
    async def remove(self) -> None:
        """Take it all away."""

    @abstractmethod
    async def release(self) -> None:
        """Leave it as it is to whoever comes next. No error if nothing is held."""


async def in_thread(function: Callable[..., _T], *arguments: object) -> _T:
    """Run it there, and to its end even if the caller is cancelled: it would be half a change."""
    running = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
