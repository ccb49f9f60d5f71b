"""The nftables plane: takes over the table that is there, keeps it as desired, leaves it to the kernel."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from blixt_backend import netlink
from blixt_backend.model import ChangeSet, PackedAddress, ServiceView
from blixt_backend.planes import links
from blixt_backend.planes.base import NodeIdentity, Plane, PlaneError
from blixt_backend.planes.capabilities import Capability
from blixt_backend.planes.nftables import conntrack, nodes, options, owning
from blixt_backend.planes.nftables.family import TABLE, Family
from blixt_backend.planes.nftables.kernel import Tables
from blixt_backend.planes.nftables.libnftables import LibraryMissingError, Nftables, NftError
from blixt_backend.planes.nftables.programming import Programming
from blixt_backend.planes.nftables.stale import Stale

if TYPE_CHECKING:
    import click

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class NftablesPlane(Plane):
    """Service load balancing by nftables' maps and the kernel's connection tracking."""

    capabilities = frozenset(Capability) - {Capability.MAGLEV, Capability.LEAST_CONNECTIONS}

    def __init__(self, settings: options.Settings) -> None:
        self._settings = settings
        # One thread: libnftables' context is for one, and belongs to the namespace it was made in.
        self._thread = ThreadPoolExecutor(1, "nftables")
        self._busy = asyncio.Lock()
        self._owner: socket.socket | None = None
        self._tables: Tables | None = None
        self._programming: Programming | None = None
        self._place = nodes.Place()
        self._desired: Mapping[str, ServiceView] = {}
        self._following: asyncio.Task[None] | None = None

    @classmethod
    def options(cls) -> Sequence[click.Parameter]:
        return options.options()

    @classmethod
    def from_options(cls, node: NodeIdentity, **values: Any) -> NftablesPlane:
        return cls(options.settings(**values))

    async def start(self) -> None:
        try:
            await self._blocking(self._take_over)
        except BaseException:
            await self._blocking(self._release)
            raise
        self._following = asyncio.create_task(self._follow(), name="nftables-interfaces")

    async def apply(self, change: ChangeSet) -> None:
        async with self._busy:
            assert self._programming is not None, "the plane is not started"
            self._desired = change.desired
            if change.resync or not self._programming.in_step:
                # Copies: the worker thread must not read what the loop may change meanwhile.
                await self._blocking(self._programming.resync, dict(change.desired), self._place)
            else:
                changed: dict[str, ServiceView | None] = dict.fromkeys(change.removed)
                await self._blocking(self._programming.change, changed | dict(change.changed))

    async def stop(self) -> None:
        if self._following is not None:
            self._following.cancel()
            with suppress(asyncio.CancelledError):
                await self._following
            self._following = None
        async with self._busy:
            await self._blocking(self._release)
            self._thread.shutdown()

    async def cleanup(self) -> None:
        removed = await self._blocking(self._remove_all)
        log.info("removed %d tables", removed)

    def node_port_addresses(self) -> Collection[PackedAddress] | None:
        return self._place.addresses if self._settings.node_ports.chosen else None

    def status(self) -> Mapping[str, object]:
        programming = self._programming
        return {
            "table": TABLE,
            "uplinks": sorted(self._place.uplinks),
            "frontends": programming.frontends() if programming else {},
            "in_step": programming.in_step if programming else False,
        }

    # -- in the thread ----------------------------------------------------------------------------------

    def _take_over(self) -> None:
        there = links.scan()
        self._check_interfaces(there)
        self._owner = owning.own()
        self._tables = Tables(Nftables(), self._settings.rules)
        self._programming = Programming(self._tables, self._forget)
        self._place = self._look(there)

    def _forget(self, family: Family, stale: Stale) -> int:
        # What plane ebpf translates, connection tracking knows as not translated.
        return conntrack.forget(family, stale, only_translated=self._settings.pin_root.is_dir())

    def _look(self, there: Sequence[links.Link]) -> nodes.Place:
        return nodes.look(there, self._settings.interfaces, self._settings.node_ports)

    def _release(self) -> None:
        if self._tables is not None:
            self._tables.close()
        if self._owner is not None:
            self._owner.close()
        self._tables = self._programming = self._owner = None

    def _remove_all(self) -> int:
        with owning.own():
            tables = Tables(Nftables(), self._settings.rules)
            try:
                return tables.remove_all()
            finally:
                tables.close()

    def _check_interfaces(self, there: Sequence[links.Link]) -> None:
        named = ", ".join(sorted(link.name for link in there if link.kind != "veth")) or "none"
        if not self._settings.interfaces and not self._settings.rules.cluster_cidrs:
            raise PlaneError(
                f"no --interface: name the uplink (there are: {named}), "
                "or the pods' addresses by --cluster-cidr"
            )
        for pattern in links.unmatched(there, self._settings.interfaces):
            if not links.is_glob(pattern):
                raise PlaneError(f"--interface {pattern}: there is no such interface. There are: {named}")
            log.warning("--interface %s matches nothing yet; waiting for it", pattern)

    # -- around it --------------------------------------------------------------------------------------

    async def _blocking(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Run in the thread, and to its end even if the caller is cancelled: it would be half a change."""
        running = asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            raise
        except (NftError, LibraryMissingError) as error:
            raise PlaneError(f"nftables: {error}") from error
        except OSError as error:
            raise PlaneError(f"{error.filename or function.__name__.strip('_')}: {error.strerror}") from error

    async def _follow(self) -> None:
        """Keep to the node's interfaces and addresses as they come and go."""
        async for _ in netlink.changes():
            try:
                async with self._busy:
                    await self._follow_once()
            except PlaneError as error:
                log.error("following the interfaces failed: %s", error)

    async def _follow_once(self) -> None:
        assert self._programming is not None, "the plane is not started"
        place = self._look(await self._blocking(links.scan))
        if place == self._place:
            return
        before, self._place = self._place, place
        for name in sorted(place.uplinks ^ before.uplinks):
            log.info("uplink %s is %s", name, "there" if name in place.uplinks else "gone")
        if self._programming.in_step:
            with_node_ports = {
                path: view
                for path, view in dict(self._desired).items()
                if any(port.node_port for port in view.service.ports)
            }
            await self._blocking(self._programming.move, place, with_node_ports)
