"""Lets the packet programs ask the kernel for its translated flows only while it has some of our services."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from blixt_backend.planes.base import PlaneError
from blixt_backend.planes.ebpf import conntrack
from blixt_backend.planes.ebpf.kernel import ServiceMaps

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_LOOK_SECONDS = 15.0
#: As long may a packet be on its way through the kernel before it becomes a flow.
_UNDER_WAY_SECONDS = 1.0


class Blocking(Protocol):
    """Runs a function in a thread. Raises PlaneError for its OSError."""

    def __call__(self, function: Callable[..., _T], /, *arguments: Any) -> Awaitable[_T]: ...


class KernelFlows:
    """Looks now and then, and soon after frontends came: there may be translated flows to them."""

    def __init__(self, families: Sequence[ServiceMaps], busy: asyncio.Lock, blocking: Blocking) -> None:
        """`busy` is held by whoever writes frontends, and has the programs ask first."""
        self._families = families
        self._busy = busy
        self._blocking = blocking
        self._frontends_came = asyncio.Event()
        self._told = False

    def frontends_came(self) -> None:
        self._frontends_came.set()

    async def follow(self) -> None:
        """Until cancelled."""
        while True:
            # Not wait_for: before Python 3.12 it swallows a cancellation that comes together with the event.
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._frontends_came.wait()
            await asyncio.sleep(_UNDER_WAY_SECONDS)
            self._frontends_came.clear()
            for maps in self._families:
                there = await self._there_may_be_some(maps)
                async with self._busy:
                    # Flows to what came meanwhile were not looked for.
                    await self._blocking(maps.ask_kernel, there or self._frontends_came.is_set())

    async def _there_may_be_some(self, maps: ServiceMaps) -> bool:
        try:
            return await self._blocking(conntrack.has_services_flows, maps)
        except PlaneError as error:
            if not self._told:
                self._told = True
                log.warning("the kernel's tracked flows can't be read, each new flow is looked up: %s", error)
            return True
