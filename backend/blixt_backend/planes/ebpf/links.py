"""Programs on devices and cgroups, as pinned links: traffic goes on without a process,
and a program is swapped atomically.

A link's pin is called `<hook>-<target>`: the device's ifindex, or the cgroup's id. A device that goes
leaves a link to nothing behind (target 0), which is removed at the next look. All calls must run in the
network namespace of the devices.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import socket
import struct
from collections.abc import Iterable, Mapping
from ctypes import byref, c_size_t, c_uint32
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from blixt_backend.planes.ebpf.libbpf import (
    BpfError,
    checked,
    library,
    obj_get,
    obj_pin,
    object_info,
    program_id,
)

log = logging.getLogger(__name__)

_NO_SUCH_DEVICE = 0x7FFFFFFF
_LINK_TYPE_CGROUP = 3


@dataclass(frozen=True, slots=True)
class Hook:
    """A place on a device or cgroup: the program, bpf_attach_type, and the flags of the link's creation."""

    name: str
    program: str
    attach_type: int
    flags: int = 0


HOOKS = {
    hook.name: hook
    for hook in (
        Hook("uplink_ingress", "uplink_ingress", 46),  # BPF_TCX_INGRESS
        Hook("pod_ingress", "pod_ingress", 46),
        Hook("node_egress", "node_egress", 47),  # BPF_TCX_EGRESS
        Hook("xdp_native", "uplink_xdp", 37, 1 << 2),  # BPF_XDP, XDP_FLAGS_DRV_MODE
        Hook("xdp_generic", "uplink_xdp", 37, 1 << 1),  # XDP_FLAGS_SKB_MODE
        Hook("connect4", "socket_connect", 10),  # BPF_CGROUP_INET4_CONNECT, and so on
        Hook("connect6", "socket_connect", 11),
        Hook("connect6_mapped", "mapped_connect", 11),
        Hook("sendmsg4", "socket_sendmsg", 14),
        Hook("sendmsg6", "socket_sendmsg", 15),
        Hook("recvmsg4", "socket_recvmsg", 19),
        Hook("recvmsg6", "socket_recvmsg", 20),
        Hook("recvmsg6_mapped", "mapped_recvmsg", 20),
        Hook("getpeername4", "socket_getpeername", 29),
        Hook("getpeername6", "socket_getpeername", 30),
        Hook("getpeername6_mapped", "mapped_getpeername", 30),
    )
}


TC_HOOKS = ("uplink_ingress", "pod_ingress", "node_egress")
XDP_HOOKS = ("xdp_native", "xdp_generic")


class Place(NamedTuple):
    """A hook of a device, by its ifindex, or of a cgroup, by its id."""

    hook: str
    target: int


class Attachments(Protocol):
    """Programs of one family on hooks. Methods raise BpfError."""

    def attached(self) -> set[Place]: ...

    def ensure(self, place: Place) -> None:
        """Have the current program there, in one step if another one is."""

    def remove(self, place: Place) -> None:
        """No error if nothing is there."""


class _CreateOptions(ctypes.Structure):
    """struct bpf_link_create_opts up to flags."""

    _fields_ = (("sz", c_size_t), ("flags", c_uint32), ("_", c_uint32))


_BPF_F_BEFORE = 1 << 3


class LinkInfo(NamedTuple):
    """struct bpf_link_info: ids of link and program, the device's ifindex or the cgroup's id.

    A target of 0: it is gone.
    """

    id: int
    program: int
    target: int


def link_info(fd: int) -> LinkInfo:
    kind, number, program, ifindex, upper = struct.unpack_from("III4xII", object_info(fd, 64))
    return LinkInfo(number, program, ifindex | upper << 32 if kind == _LINK_TYPE_CGROUP else ifindex)


class Links:
    """Pinned links of one family's programs, on the named hooks only."""

    def __init__(
        self,
        folder: Path,
        programs: Mapping[str, int],
        hooks: Iterable[str],
        cgroup: int | None = None,
        predecessor: Path | None = None,
    ) -> None:
        """`cgroup`: a descriptor of the one that all places are in; None: they are on devices.
        `predecessor`: where another version's links are pinned: on TC, ours go before them; XDP takes one
        program only, so theirs become ours.
        """
        self._folder = folder
        self._predecessor = predecessor
        self._cgroup = cgroup
        self._hooks = frozenset(hooks)
        self._programs = programs
        self._ids = {name: program_id(fd) for name, fd in programs.items()}

    def attached(self) -> set[Place]:
        return {place for place in pinned_places(self._folder) if place.hook in self._hooks}

    def ensure(self, place: Place) -> None:
        pin, hook = self._pin(place), HOOKS[place.hook]
        theirs = self._predecessor / pin.name if self._predecessor else None
        if theirs and theirs.exists() and place.hook in XDP_HOOKS:
            _move(theirs, pin)
        if pin.exists() and self._taken_over(pin, hook):
            return
        fd = self._create(place, hook, first=bool(theirs and theirs.exists()))
        try:
            obj_pin(fd, pin)
        finally:
            os.close(fd)

    def _create(self, place: Place, hook: Hook, *, first: bool) -> int:
        """A new link's descriptor. On TC, `first` puts it before all others: libbpf 1.1 can't name one."""
        flags = hook.flags | (_BPF_F_BEFORE if first and place.hook in TC_HOOKS else 0)
        options = _CreateOptions(sz=ctypes.sizeof(_CreateOptions), flags=flags)
        target, kind = (place.target, "interface") if self._cgroup is None else (self._cgroup, "cgroup")
        made = library().bpf_link_create(
            self._programs[hook.program], target, hook.attach_type, byref(options)
        )
        return checked(made, f"attaching {hook.name} to {kind} {place.target}")

    def remove(self, place: Place) -> None:
        unpin(self._pin(place))

    def _pin(self, place: Place) -> Path:
        return self._folder / f"{place.hook}-{place.target}"

    def _taken_over(self, pin: Path, hook: Hook) -> bool:
        """Whether the pinned link now runs our program; a link to what is gone is unpinned."""
        fd = obj_get(pin)
        try:
            info = link_info(fd)
            if info.target:
                if info.program != self._ids[hook.program]:
                    result = library().bpf_link_update(fd, self._programs[hook.program], None)
                    if result != -errno.ENOLINK:  # it went just now
                        checked(result, f"swapping the program of {pin.name}")
                        return True
                else:
                    return True
        finally:
            os.close(fd)
        pin.unlink(missing_ok=True)
        return False


def unpin(pin: Path) -> None:
    """Take a link off its device, now, and its pin away; no error if there is none.

    Without the detaching it would go a little later, and another XDP program could not come yet.
    """
    try:
        fd = obj_get(pin)
    except BpfError as error:
        if error.errno == errno.ENOENT:
            return
        raise
    try:
        result = library().bpf_link_detach(fd)
        if result not in (-errno.ENOLINK, -errno.EOPNOTSUPP):
            checked(result, f"detaching {pin.name}")
    finally:
        os.close(fd)
    pin.unlink(missing_ok=True)


def _move(pin: Path, to: Path) -> None:
    """A link's pin to another folder. The old one goes first: whoever took one of two away would take the
    link off."""
    fd = obj_get(pin)
    try:
        pin.unlink()
        obj_pin(fd, to)
    finally:
        os.close(fd)


def pinned_places(folder: Path) -> list[Place]:
    """What the pins in a folder say, in order."""
    names = [pin.name.rpartition("-") for pin in folder.iterdir()] if folder.is_dir() else []
    return sorted(Place(hook, int(target)) for hook, _, target in names)


def tcx_is_supported(program: int) -> bool:
    """Whether this kernel has tcx links (6.6): with them, a device that
    can't exist is ENODEV, else EINVAL."""
    result = library().bpf_link_create(program, _NO_SUCH_DEVICE, HOOKS["node_egress"].attach_type, None)
    return bool(result == -errno.ENODEV)


def _exists(ifindex: int) -> bool:
    try:
        socket.if_indextoname(ifindex)
    except OSError:
        return False
    return True


def sync(attachments: Attachments, wanted: Iterable[Place]) -> list[tuple[Place, BpfError]]:
    """Attach what is wanted, detach what isn't; returns what couldn't be attached, and why."""
    places = set(wanted)
    failures = []
    # The other mode's XDP has to go before this one's can come; everything else comes first.
    for place in attachments.attached() - places:
        attachments.remove(place)
    for place in sorted(places):
        try:
            attachments.ensure(place)
        except BpfError as error:
            if not _exists(place.target):  # TC says ENODEV then, XDP EINVAL
                log.info("interface %d went before %s could be attached", place.target, place.hook)
            else:
                failures.append((place, error))
    return failures
