"""The eBPF plane: takes over what is pinned, keeps maps and hooks as desired,
leaves them to the kernel at the end."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blixt_backend import netlink
from blixt_backend.model import ChangeSet, PackedAddress, ServiceView
from blixt_backend.planes import apart
from blixt_backend.planes.base import NodeIdentity, Plane, PlaneError
from blixt_backend.planes.capabilities import Capability
from blixt_backend.planes.ebpf import clsact, conntrack, devices, interfaces, options
from blixt_backend.planes.ebpf.attach import Attacher
from blixt_backend.planes.ebpf.blocking import blocking
from blixt_backend.planes.ebpf.host import check_host, check_privilege
from blixt_backend.planes.ebpf.kernel import ServiceMaps, set_kernel_asked
from blixt_backend.planes.ebpf.kernel_flows import KernelFlows
from blixt_backend.planes.ebpf.layout import FAMILIES, IPV4, IPV6, Layout, Opening
from blixt_backend.planes.ebpf.libbpf import BpfError
from blixt_backend.planes.ebpf.maps import BpfMap
from blixt_backend.planes.ebpf.nodes import Nodes
from blixt_backend.planes.ebpf.opening import opening_in, set_opening
from blixt_backend.planes.ebpf.pins import Pins
from blixt_backend.planes.ebpf.ports import Unfit, what_is_full
from blixt_backend.planes.ebpf.programs import (
    OBJECTS,
    ON_DEVICES,
    ON_DEVICES_OLDER,
    Programs,
    chain_xdp,
    checksum_ipv6_flag,
    kernel_knows,
)
from blixt_backend.planes.ebpf.reconcile import Reconciler
from blixt_backend.planes.ebpf.recounting import Recounting
from blixt_backend.planes.ebpf.sockets import Sockets, switch_off
from blixt_backend.planes.ebpf.tasks import Tasks
from blixt_backend.planes.ebpf.upgrade import Upgrade
from blixt_backend.planes.ebpf.vacancies import Vacancies
from blixt_backend.planes.links import Link, scan
from blixt_backend.planes.nftables import foreign

if TYPE_CHECKING:
    import click

log = logging.getLogger(__name__)

_WALK_SECONDS = 1.0


class EbpfPlane(Plane):
    """Service load balancing by TC and XDP programs on this node's interfaces."""

    capabilities = frozenset(Capability)

    def __init__(
        self, settings: options.Settings, objects: Path = OBJECTS, *, tcx: bool | None = None
    ) -> None:
        """`objects`: the folder of blixt4.bpf.o and blixt6.bpf.o. `tcx`:
        whether to use tcx links; None asks."""
        self._settings = settings
        self._objects = objects
        self._tcx = tcx
        self._pins = Pins(settings.pin_root)
        self._lock_fd = -1
        self._busy = asyncio.Lock()
        self._programs: list[Programs] = []
        self._reconcilers: list[Reconciler] = []
        self._kernel_tasks: list[Tasks] = []
        self._maps: list[ServiceMaps] = []
        self._vacancies: list[Vacancies] = []
        self._device_maps: list[tuple[Layout, BpfMap]] = []
        self._nodes: list[Nodes] = []
        self._attacher: Attacher | None = None
        self._sockets: Sockets | None = None
        self._choice = devices.Choice({}, ())
        self._problems: dict[str, str] = {}
        self._desired: Mapping[str, ServiceView] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._endpoints_left = asyncio.Event()
        self._recounting = Recounting(self._recount)
        self._kernel_flows: KernelFlows | None = None
        #: What is pinned takes no new flows: another plane has carried the services since.
        self._stands_back = False

    @classmethod
    def options(cls) -> Sequence[click.Parameter]:
        return options.options()

    @classmethod
    def from_options(cls, node: NodeIdentity, **values: Any) -> EbpfPlane:
        return cls(options.settings(**values))

    async def start(self) -> None:
        check_host()
        try:
            await blocking(self._take_over)
        except BaseException:
            await blocking(self._release)
            raise
        self._tasks.append(asyncio.create_task(self._watch(), name="ebpf-devices"))
        self._tasks.append(asyncio.create_task(self._recounting.run(), name="ebpf-recounting"))
        if self._kernel_flows:
            self._tasks.append(asyncio.create_task(self._kernel_flows.follow(), name="ebpf-conntrack"))
        if self._sockets:
            self._endpoints_left.set()  # before a crash, perhaps
            self._tasks.append(asyncio.create_task(self._end_stale(self._sockets), name="ebpf-sockets"))

    async def apply(self, change: ChangeSet) -> None:
        async with self._busy:
            in_step = all(reconciler.in_step for reconciler in self._reconcilers)
            in_step &= all(vacancies.in_step for vacancies in self._vacancies)
            resync = change.resync or not in_step
            # Copies: the worker thread must not read what the loop may change meanwhile.
            changed = dict(change.desired if resync else change.changed)
            self._desired = change.desired
            try:
                await blocking(self._reconcile, changed, change.removed, resync)
            finally:
                if any(reconciler.endpoints_left for reconciler in self._reconcilers):
                    self._endpoints_left.set()
                if self._kernel_flows and any(r.frontends_came for r in self._reconcilers):
                    self._kernel_flows.frontends_came()
            self._recounting.follow(change)
            self._report_unfit()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self._tasks = []
        async with self._busy:
            await blocking(self._release)

    async def cleanup(self) -> None:
        check_privilege()
        removed = await blocking(self._remove_all)
        log.info("removed %d maps, links and filters", len(removed))

    def node_port_addresses(self) -> Collection[PackedAddress] | None:
        return self._choice.node_addresses if self._settings.node_ports.chosen else None

    def status(self) -> Mapping[str, object]:
        unfit = [entry for reconciler in self._reconcilers for entry in reconciler.unfit.values()]
        return {
            "pin_root": str(self._pins.root),
            "hooks": "tcx" if self._attacher and self._attacher.uses_tcx else "clsact",
            "sockets_of": str(self._sockets.cgroup) if self._sockets else "",
            "devices": [
                {
                    "name": device.name,
                    "role": device.role.value,
                    "xdp": self._attacher.xdp_of(device) if self._attacher else "off",
                    "problem": self._problems.get(device.name, ""),
                }
                for device in self._choice.devices.values()
            ],
            "frontends": {r.family: r.frontends for r in self._reconcilers},
            "not_fitting": [{"port": str(entry.key), "map": entry.map_name} for entry in unfit],
        }

    # -- in a worker thread -----------------------------------------------------------------------------

    def _take_over(self) -> None:
        links = scan()
        interfaces.check(links, self._settings.interfaces)
        self._pins.prepare(FAMILIES)
        self._lock_fd = self._pins.lock()
        upgrade = Upgrade.needed(self._pins)
        openings = {opening_in(self._pins.maps(layout)) for layout in FAMILIES}
        self._stands_back = not upgrade and openings != {Opening.ALL}
        ports = self._settings.masquerade_ports
        by_tunnel = self._settings.forwarding is options.Forwarding.DSR
        rodata = {
            "hash_seed": self._pins.hash_seed(),
            "masquerade_port_first": ports.first,
            "masquerade_port_count": ports.count,
            "checksum_ipv6_flag": checksum_ipv6_flag(),
            "hint_count": self._settings.sizes.embryos,
            "closing_count": self._settings.sizes.closings,
        }
        asks_kernel = kernel_knows(conntrack.LOOK_UP, conntrack.MODULE)
        name, sizes = ON_DEVICES if asks_kernel else ON_DEVICES_OLDER, self._settings.sizes
        for layout in FAMILIES:
            folder = self._pins.maps(layout)
            predecessor = upgrade.maps(layout) if upgrade else None
            self._programs.append(
                Programs.load(layout, folder, sizes, rodata, self._objects, name, predecessor=predecessor)
            )
            self._device_maps.append((layout, BpfMap.open(folder / "devices")))
            self._nodes.append(Nodes(layout, BpfMap.open(folder / "nodes")))
            set_kernel_asked(folder, asks_kernel)
        self._attacher = Attacher(
            self._programs, self._pins, self._settings.xdp, tcx=self._tcx, upgrade=upgrade
        )
        if upgrade:
            upgrade.begin(others_stay=self._attacher.uses_tcx)
        chain_xdp(self._pins.maps(IPV4), next(p for p in self._programs if p.layout is IPV6))
        self._follow(links)
        uplinks = {
            d.name: self._problems[d.name] for d in self._choice.devices.values() if d.name in self._problems
        }
        if uplinks:
            raise PlaneError("; ".join(f"{name}: {why}" for name, why in uplinks.items()))
        self._switch_sockets(rodata["hash_seed"], upgrade)
        if upgrade:
            upgrade.finish()
        for layout in FAMILIES:
            folder = self._pins.maps(layout)
            self._kernel_tasks.append(Tasks.load(layout, folder, self._settings.sizes, self._objects))
            self._maps.append(ServiceMaps.open(layout, folder, self._kernel_tasks[-1]))
            self._reconcilers.append(Reconciler(self._maps[-1], by_tunnel=by_tunnel))
            opened = BpfMap.open(folder / "vacancies")
            self._vacancies.append(Vacancies(layout, opened, self._settings.service_cidrs))
        if asks_kernel:
            self._kernel_flows = KernelFlows(self._maps, self._busy, blocking)

    def _switch_sockets(self, hash_seed: int, upgrade: Upgrade | None) -> None:
        mode = self._settings.socket_lb
        if mode is options.SocketMode.OFF:
            switch_off(self._pins)
            return
        named, sizes = self._settings.cgroup, self._settings.sizes
        rodata = {"hash_seed": hash_seed}
        node_only = mode is options.SocketMode.NODE
        try:
            self._sockets = Sockets.switch_on(
                self._pins, named, sizes, rodata, self._objects, node_only=node_only, upgrade=upgrade
            )
        except (PlaneError, BpfError) as error:
            if not node_only or named is not None:
                raise
            # Nobody has asked for it, and all but a little is served without.
            log.warning(
                "this node's own programs don't reach its node ports, nor endpoints on its own network: %s",
                error,
            )
            switch_off(self._pins)
            return
        whose = "programs on this node's network" if node_only else "all programs"
        log.info("endpoints are chosen at the sockets of %s in %s", whose, self._sockets.cgroup)

    def _follow(self, links: Sequence[Link]) -> bool:
        """Bring the `devices` maps and the hooks to what is there; whether the
        node's addresses are others now."""
        assert self._attacher is not None
        settings = self._settings
        choice = devices.choose(links, settings.interfaces, settings.pod_interfaces, settings.node_ports)
        if choice == self._choice and not self._problems:
            return False
        for layout, device_map in self._device_maps:
            rows = {
                ifindex.to_bytes(4, sys.byteorder): d.row(layout) for ifindex, d in choice.devices.items()
            }
            held = dict(device_map.items())
            for key, row in rows.items():
                if held.get(key) != row:
                    device_map.update(key, row)
            device_map.delete_joined(b"".join(held.keys() - rows.keys()))
        for nodes in self._nodes:
            nodes.follow(settings.node_ranges or choice.networks)
        interfaces.report(self._choice, choice)
        self._problems = self._attacher.apply(choice)
        for name, why in self._problems.items():
            log.error("interface %s: %s", name, why)
        moved = choice.node_addresses != self._choice.node_addresses
        self._choice = choice
        return moved

    def _reconcile(self, changed: Mapping[str, ServiceView], removed: frozenset[str], resync: bool) -> None:
        addresses = self._choice.node_addresses
        failures = []
        for reconciler, vacancies in zip(self._reconcilers, self._vacancies, strict=True):
            try:
                reconciler.apply(changed, removed, self._desired, addresses, resync)
                vacancies.apply(changed, removed, resync)
            except BpfError as error:  # the other family need not wait for this one
                failures.append(f"{reconciler.family}: {error}")
        if failures:
            raise PlaneError("; ".join(failures))
        if self._stands_back:
            set_opening(self._pins, Opening.ALL)
            apart.end()
            self._stands_back = False

    def _remove_all(self) -> list[str]:
        if not self._pins.root.is_dir():
            return clsact.remove_all()
        lock = self._pins.lock()
        try:
            apart.end()
            foreign.remove()
            return clsact.remove_all() + self._pins.remove_all()
        finally:
            os.close(lock)

    def _release(self) -> None:
        for programs in self._programs:
            programs.close()
        for maps in self._maps:
            maps.close()
        for tasks in self._kernel_tasks:
            tasks.close()
        for vacancies in self._vacancies:
            vacancies.close()
        for _, device_map in self._device_maps:
            device_map.close()
        for nodes in self._nodes:
            nodes.close()
        self._maps, self._device_maps, self._programs, self._reconcilers = [], [], [], []
        self._kernel_tasks, self._vacancies, self._nodes = [], [], []
        if self._sockets:
            self._sockets.close()
            self._sockets = None
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    # -- around it --------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        async for _ in netlink.changes():
            try:
                async with self._busy:
                    moved = await blocking(lambda: self._follow(scan()))
                    if moved and all(reconciler.in_step for reconciler in self._reconcilers):
                        with_node_ports = {
                            path: view
                            for path, view in dict(self._desired).items()
                            if any(port.node_port for port in view.service.ports)
                        }
                        await blocking(self._reconcile, with_node_ports, frozenset(), False)
            except PlaneError as error:
                log.error("following the interfaces failed: %s", error)

    async def _recount(self) -> None:
        # Beside `apply`, which need not wait for it: nothing that both write.
        for tasks in self._kernel_tasks:
            await blocking(tasks.recount_connections)

    async def _end_stale(self, sockets: Sockets) -> None:
        """Sockets have no packets to notice by that their endpoint left. Walking all takes a while: not more
        than once a second."""
        while True:
            await self._endpoints_left.wait()
            self._endpoints_left.clear()
            await blocking(sockets.end_stale)
            await asyncio.sleep(_WALK_SECONDS)

    def _report_unfit(self) -> None:
        unfit: list[Unfit] = [
            entry for reconciler in self._reconcilers for entry in reconciler.unfit.values()
        ]
        if unfit:
            raise PlaneError(what_is_full(unfit))
