"""The eBPF plane: takes over what is pinned, keeps maps and hooks as desired,
leaves them to the kernel at the end."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from blixt_backend import netlink
from blixt_backend.model import ChangeSet, ServiceView
from blixt_backend.planes.base import NodeIdentity, Plane, PlaneError
from blixt_backend.planes.ebpf import clsact, devices, options, sockets
from blixt_backend.planes.ebpf.attach import Attacher
from blixt_backend.planes.ebpf.compile import shortcomings
from blixt_backend.planes.ebpf.kernel import ServiceMaps
from blixt_backend.planes.ebpf.layout import FAMILIES, IPV4, IPV6, Layout
from blixt_backend.planes.ebpf.libbpf import BpfError, LibbpfMissingError, library
from blixt_backend.planes.ebpf.maps import BpfMap
from blixt_backend.planes.ebpf.pins import Pins
from blixt_backend.planes.ebpf.ports import Unfit
from blixt_backend.planes.ebpf.programs import OBJECTS, Programs, chain_xdp, checksum_ipv6_flag
from blixt_backend.planes.ebpf.reconcile import SIZED_BY, Reconciler

if TYPE_CHECKING:
    import click

log = logging.getLogger(__name__)

_T = TypeVar("_T")
#: bpf_redirect_peer is of 5.10, batches of LPM tries and per-CPU arrays of 5.13; 5.15 is the tested
#: long-term one.
_OLDEST_KERNEL = (5, 15)
_CAP_NET_ADMIN, _CAP_SYS_ADMIN, _CAP_PERFMON, _CAP_BPF = 12, 21, 38, 39


class EbpfPlane(Plane):
    """Service load balancing by TC and XDP programs on this node's interfaces."""

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
        self._maps: list[ServiceMaps] = []
        self._device_maps: list[tuple[Layout, BpfMap]] = []
        self._attacher: Attacher | None = None
        self._sockets_of: Path | None = None
        self._choice = devices.Choice({}, ())
        self._problems: dict[str, str] = {}
        self._desired: Mapping[str, ServiceView] = {}
        self._told: set[str] = set()
        self._watching: asyncio.Task[None] | None = None

    @classmethod
    def options(cls) -> Sequence[click.Parameter]:
        return options.options()

    @classmethod
    def from_options(cls, node: NodeIdentity, **values: Any) -> EbpfPlane:
        return cls(options.settings(**values))

    async def start(self) -> None:
        _check_host()
        try:
            await self._blocking(self._take_over)
        except BaseException:
            await self._blocking(self._release)
            raise
        self._watching = asyncio.create_task(self._watch(), name="ebpf-devices")

    async def apply(self, change: ChangeSet) -> None:
        async with self._busy:
            in_step = all(reconciler.in_step for reconciler in self._reconcilers)
            resync = change.resync or not in_step
            # Copies: the worker thread must not read what the loop may change meanwhile.
            changed = dict(change.desired if resync else change.changed)
            self._desired = change.desired
            await self._blocking(self._reconcile, changed, change.removed, resync)
            self._report_unfit()

    async def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
            self._watching = None
        async with self._busy:
            await self._blocking(self._release)

    async def cleanup(self) -> None:
        _check_privilege()
        removed = await self._blocking(self._remove_all)
        log.info("removed %d maps, links and filters", len(removed))

    def status(self) -> Mapping[str, object]:
        unfit = [entry for reconciler in self._reconcilers for entry in reconciler.unfit.values()]
        return {
            "pin_root": str(self._pins.root),
            "hooks": "tcx" if self._attacher and self._attacher.uses_tcx else "clsact",
            "sockets_of": str(self._sockets_of or ""),
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
        links = devices.scan()
        self._check_interfaces(links)
        self._pins.prepare(FAMILIES)
        self._lock_fd = self._pins.lock()
        ports = self._settings.masquerade_ports
        rodata = {
            "hash_seed": self._pins.hash_seed(),
            "masquerade_port_first": ports.first,
            "masquerade_port_count": ports.count,
            "checksum_ipv6_flag": checksum_ipv6_flag(),
        }
        for layout in FAMILIES:
            folder = self._pins.maps(layout)
            self._programs.append(Programs.load(layout, folder, self._settings.sizes, rodata, self._objects))
            self._maps.append(ServiceMaps.open(layout, folder))
            self._reconcilers.append(Reconciler(self._maps[-1]))
            self._device_maps.append((layout, BpfMap.open(folder / "devices")))
        chain_xdp(self._pins.maps(IPV4), next(p for p in self._programs if p.layout is IPV6))
        self._attacher = Attacher(self._programs, self._pins, self._settings.xdp, tcx=self._tcx)
        self._follow(links)
        uplinks = {
            d.name: self._problems[d.name] for d in self._choice.devices.values() if d.name in self._problems
        }
        if uplinks:
            raise PlaneError("; ".join(f"{name}: {why}" for name, why in uplinks.items()))
        self._switch_sockets(rodata["hash_seed"])

    def _switch_sockets(self, hash_seed: int) -> None:
        if not self._settings.socket_lb:
            sockets.switch_off(self._pins)
            return
        named, sizes = self._settings.cgroup, self._settings.sizes
        rodata = {"hash_seed": hash_seed}
        self._sockets_of = sockets.switch_on(self._pins, named, sizes, rodata, self._objects)
        log.info("endpoints are chosen at the sockets of %s", self._sockets_of)

    def _follow(self, links: Sequence[devices.Link]) -> bool:
        """Bring the `devices` maps and the hooks to what is there; whether the
        node's addresses are others now."""
        assert self._attacher is not None
        choice = devices.choose(links, self._settings.interfaces, self._settings.pod_interfaces)
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
        self._report_devices(choice)
        self._problems = self._attacher.apply(choice)
        for name, why in self._problems.items():
            log.error("interface %s: %s", name, why)
        moved = choice.node_addresses != self._choice.node_addresses
        self._choice = choice
        return moved

    def _reconcile(self, changed: Mapping[str, ServiceView], removed: frozenset[str], resync: bool) -> None:
        for view in changed.values():
            for shortcoming in shortcomings(view.service):
                if shortcoming not in self._told:
                    self._told.add(shortcoming)
                    log.warning("%s", shortcoming)
        addresses = self._choice.node_addresses
        failures = []
        for reconciler in self._reconcilers:
            try:
                reconciler.apply(changed, removed, self._desired, addresses, resync)
            except BpfError as error:  # the other family need not wait for this one
                failures.append(f"{reconciler.family}: {error}")
        if failures:
            raise PlaneError("; ".join(failures))

    def _remove_all(self) -> list[str]:
        if not self._pins.root.is_dir():
            return clsact.remove_all()
        lock = self._pins.lock()
        try:
            return clsact.remove_all() + self._pins.remove_all()
        finally:
            os.close(lock)

    def _release(self) -> None:
        for programs in self._programs:
            programs.close()
        for maps in self._maps:
            maps.close()
        for _, device_map in self._device_maps:
            device_map.close()
        self._maps, self._device_maps, self._programs, self._reconcilers = [], [], [], []
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    # -- around it --------------------------------------------------------------------------------------

    async def _blocking(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Run in a thread, and to its end even if the caller is cancelled: it would be half a write, and
        its descriptors might be closed under it."""
        running = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            raise
        except (BpfError, LibbpfMissingError) as error:
            raise PlaneError(str(error)) from error
        except OSError as error:
            raise PlaneError(f"{error.filename or function.__name__.strip('_')}: {error.strerror}") from error

    async def _watch(self) -> None:
        async for _ in netlink.changes():
            try:
                async with self._busy:
                    moved = await self._blocking(lambda: self._follow(devices.scan()))
                    if moved and all(reconciler.in_step for reconciler in self._reconcilers):
                        with_node_ports = {
                            path: view
                            for path, view in dict(self._desired).items()
                            if any(port.node_port for port in view.service.ports)
                        }
                        await self._blocking(self._reconcile, with_node_ports, frozenset(), False)
            except PlaneError as error:
                log.error("following the interfaces failed: %s", error)

    def _check_interfaces(self, links: Sequence[devices.Link]) -> None:
        there = ", ".join(sorted(link.name for link in links if link.kind != "veth")) or "none"
        if not self._settings.interfaces:
            raise PlaneError(f"no --interface: name the uplink. There are: {there}")
        for pattern in devices.unmatched(links, self._settings.interfaces):
            if not devices.is_glob(pattern):
                raise PlaneError(f"--interface {pattern}: there is no such interface. There are: {there}")
            log.warning("--interface %s matches nothing yet; waiting for it", pattern)

    def _report_devices(self, choice: devices.Choice) -> None:
        before, now = self._choice.devices, choice.devices
        for ifindex in now.keys() - before.keys():
            log.info("interface %s is there: %s", now[ifindex].name, now[ifindex].role.value)
        for ifindex in before.keys() - now.keys():
            log.info("interface %s is gone", before[ifindex].name)

    def _report_unfit(self) -> None:
        unfit: list[Unfit] = [
            entry for reconciler in self._reconcilers for entry in reconciler.unfit.values()
        ]
        if unfit:
            first = unfit[0]
            raise PlaneError(
                f"map {first.map_name} is full ({first.used} of {first.limit} entries): "
                f"{len(unfit)} service ports stay as they were, {first.key} first; "
                f"raise {SIZED_BY[first.map_name]}, which counts after a --cleanup"
            )


def _check_privilege() -> None:
    held = 0
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            held = int(line.split()[1], 16)
    has = {cap for cap in (_CAP_NET_ADMIN, _CAP_SYS_ADMIN, _CAP_PERFMON, _CAP_BPF) if held >> cap & 1}
    # PERFMON: without it the verifier forbids what programs of ours do with pointers.
    if not {_CAP_NET_ADMIN, _CAP_SYS_ADMIN} <= has and not {_CAP_NET_ADMIN, _CAP_PERFMON, _CAP_BPF} <= has:
        raise PlaneError(
            "not allowed to load BPF programs: run as root, or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"
        )


def _check_host() -> None:
    """Raises PlaneError for what this host lacks."""
    release = platform.release()
    version = tuple(int(part) for part in release.split("-")[0].split(".")[:2])
    if version < _OLDEST_KERNEL:
        raise PlaneError(
            f"kernel {release} is too old: Linux {'.'.join(map(str, _OLDEST_KERNEL))} or newer is needed"
        )
    if not Path("/sys/kernel/btf/vmlinux").exists():
        raise PlaneError(
            "this kernel has no BTF: it needs CONFIG_DEBUG_INFO_BTF=y, as distributions build it"
        )
    _check_privilege()
    try:
        library()
    except LibbpfMissingError as error:
        raise PlaneError(str(error)) from error
