"""Both families' programs onto the chosen devices: TC everywhere, XDP where it is fast or asked for."""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping, Sequence

from blixt_backend.planes.ebpf.clsact import Clsact
from blixt_backend.planes.ebpf.devices import Choice, Device, Role
from blixt_backend.planes.ebpf.layout import IPV4
from blixt_backend.planes.ebpf.links import (
    TC_HOOKS,
    XDP_HOOKS,
    Attachments,
    Links,
    Place,
    sync,
    tcx_is_supported,
)
from blixt_backend.planes.ebpf.options import XdpMode
from blixt_backend.planes.ebpf.pins import Pins
from blixt_backend.planes.ebpf.programs import Programs
from blixt_backend.planes.ebpf.upgrade import Upgrade

log = logging.getLogger(__name__)

_HOOKS_OF = {Role.UPLINK: ("uplink_ingress", "node_egress"), Role.POD: ("pod_ingress", "node_egress")}


class Attacher:
    """Keeps hooks as the devices are. Calls block, and run in the devices' network namespace."""

    def __init__(
        self,
        families: Sequence[Programs],
        pins: Pins,
        xdp: XdpMode,
        *,
        tcx: bool | None = None,
        upgrade: Upgrade | None = None,
    ) -> None:
        """`tcx`: None asks the kernel. `families` has IPv4's programs, whose
        XDP program hands on to IPv6's. `upgrade`: from another version, whose programs may be there."""
        self._upgrade = upgrade
        self._xdp = xdp
        self._without_xdp: dict[int, str] = {}
        self._has_vlans = False
        first = next(iter(families[0].fds.values()))
        self.uses_tcx = tcx_is_supported(first) if tcx is None else tcx
        self._tc: list[Attachments] = [
            self._links(pins, programs, TC_HOOKS) if self.uses_tcx else Clsact(programs.layout, programs.fds)
            for programs in families
        ]
        ipv4 = next(programs for programs in families if programs.layout is IPV4)
        self._xdp_links = self._links(pins, ipv4, XDP_HOOKS)

    def _links(self, pins: Pins, programs: Programs, hooks: Sequence[str]) -> Links:
        layout = programs.layout
        predecessor = self._upgrade.links(layout) if self._upgrade else None
        return Links(pins.links(layout), programs.fds, hooks, predecessor=predecessor)

    def apply(self, choice: Choice) -> dict[str, str]:
        """Attach and detach until hooks match the choice; returns interface -> what went wrong there."""
        devices = choice.devices
        self._has_vlans = choice.has_vlans
        places = [
            Place(hook, device.ifindex) for device in devices.values() for hook in _HOOKS_OF[device.role]
        ]
        problems = {}
        for attachments in self._tc:
            for place, error in sync(attachments, places):
                problems[devices[place.target].name] = str(error)
        problems.update(self._apply_xdp(devices))
        return problems

    def xdp_of(self, device: Device) -> str:
        """native, generic or off."""
        hook = self._xdp_hook(device)
        return hook.removeprefix("xdp_") if hook else "off"

    def _apply_xdp(self, devices: Mapping[int, Device]) -> dict[str, str]:
        self._without_xdp = {ifindex: why for ifindex, why in self._without_xdp.items() if ifindex in devices}
        places = {}
        for device in devices.values():
            hook = self._xdp_hook(device)
            if hook:
                places[Place(hook, device.ifindex)] = device
        problems = {}
        for place, error in sync(self._xdp_links, places):
            device = places[place]
            if error.errno in (errno.EBUSY, errno.EEXIST):  # in this mode, in the other one
                why = (
                    f"{device.name} already carries someone else's XDP program: take it off "
                    f"(ip link set dev {device.name} xdp off), or use --xdp off"
                )
            else:
                why = str(error)
            if self._xdp is XdpMode.AUTO:
                self._without_xdp[device.ifindex] = why
                log.info("no XDP on %s, TC carries everything: %s", device.name, why)
            else:
                problems[device.name] = why
        return problems

    def _xdp_hook(self, device: Device) -> str:
        hook = xdp_hook(self._xdp, device, has_vlans=self._has_vlans)
        is_left_out = self._xdp is XdpMode.AUTO and device.ifindex in self._without_xdp
        return "" if is_left_out else hook


def xdp_hook(mode: XdpMode, device: Device, *, has_vlans: bool) -> str:
    """Which one a device's XDP program belongs to; empty: it gets none."""
    if device.role is not Role.UPLINK or mode is XdpMode.OFF:
        return ""
    if mode is XdpMode.AUTO:
        # On a veth, native XDP forces the peer's segmentation off: bulk TCP falls to a tenth. Tags that the
        # hardware took off are unknown to XDP, and what it redirects to a VLAN device is lost.
        return "" if device.kind == "veth" or has_vlans else "xdp_native"
    return f"xdp_{mode.value}"
