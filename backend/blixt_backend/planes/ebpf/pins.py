"""Where pinned maps and links live: a folder of a BPF file system, one for each layout version and family.

    <root>/v<LAYOUT_VERSION>/hash_seed
    ... in it: ipv4/maps/services ...    ipv4/links/uplink_ingress-2 ...

Pins keep maps, and the programs behind links, alive when their process is gone.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import logging
import os
import re
import secrets
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from blixt_backend.planes.base import PlaneError
from blixt_backend.planes.ebpf.layout import LAYOUT_VERSION, Layout
from blixt_backend.planes.ebpf.libbpf import BpfError, obj_pin
from blixt_backend.planes.ebpf.links import unpin
from blixt_backend.planes.ebpf.maps import ARRAY, BpfMap, create_map

log = logging.getLogger(__name__)

_USUAL_MOUNT = Path("/sys/fs/bpf")
_VERSION = re.compile(r"v\d+")
#: A folder that marks a BPF file system as mounted by us.
_OWN_MOUNT = "mounted_by_blixt"
_MNT_DETACH = 2  # the lock's descriptor is still open in it


class Pins:
    """The paths under one root."""

    def __init__(self, root: Path, version: int = LAYOUT_VERSION) -> None:
        self.root = root.absolute()
        self.version = self.root / f"v{version}"

    def others(self) -> list[Pins]:
        """Those of other versions that are there, the newest first."""
        found = self.root.iterdir() if self.root.is_dir() else ()
        versions = [folder for folder in found if _VERSION.fullmatch(folder.name) and folder != self.version]
        numbers = sorted((int(folder.name[1:]) for folder in versions), reverse=True)
        return [Pins(self.root, number) for number in numbers]

    def maps(self, layout: Layout) -> Path:
        return self.version / layout.name / "maps"

    def links(self, layout: Layout) -> Path:
        return self.version / layout.name / "links"

    @property
    def seed(self) -> Path:
        return self.version / "hash_seed"

    def prepare(self, layouts: tuple[Layout, ...]) -> None:
        """Mount a BPF file system if the root isn't in one, and make the folders. Raises PlaneError."""
        ensure_bpffs(self.root)
        for layout in layouts:
            for folder in (self.maps(layout), self.links(layout)):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def lock(self) -> int:
        """Hold the root for this process until the descriptor is closed. Raises PlaneError."""
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise PlaneError(
                f"another blixt-backend uses {self.root}: stop it first, or give this one its own --pin-root"
            ) from None
        return fd

    def hash_seed(self) -> int:
        """The seed that chooses endpoints: random, and the same for all processes until cleanup."""
        try:
            pinned = BpfMap.open(self.seed)
        except BpfError as error:
            if error.errno != errno.ENOENT:
                raise
            pinned = BpfMap(create_map(ARRAY, "hash_seed", 4, 8, 1))
            pinned.update(bytes(4), secrets.token_bytes(8))
            obj_pin(pinned.fd, self.seed)
        with pinned:
            return int.from_bytes(pinned.lookup(bytes(4)) or b"", sys.byteorder)

    def remove(self) -> list[str]:
        """Take away every pin of this version, links first; returns what was removed, by its path."""
        pins = [Path(folder, name) for folder, _, names in os.walk(self.version) for name in names]
        for pin in sorted(pins, key=lambda path: path.parent.name != "links"):
            if pin.parent.name == "links":
                unpin(pin)
            else:
                pin.unlink()
        for folder, _, _ in os.walk(self.version, topdown=False):
            Path(folder).rmdir()
        return [str(pin.relative_to(self.root)) for pin in pins]

    def remove_all(self) -> list[str]:
        """Take away every pin of every layout version, links first; returns what was removed.

        Nothing else in the root is touched; a BPF file system that `prepare` mounted there is unmounted.
        """
        if not self.root.is_dir():
            return []
        removed = [pin for version in (self, *self.others()) for pin in version.remove()]
        if (self.root / _OWN_MOUNT).is_dir():
            (self.root / _OWN_MOUNT).rmdir()
            _unmount(self.root)
        with suppress(OSError):  # not empty, or someone's mount
            self.root.rmdir()
        return removed


def ensure_bpffs(root: Path) -> None:
    """Make sure that `root` is, or can be made, a folder in a BPF file system. Raises PlaneError."""
    try:
        if filesystem_of(root) != "bpf":
            mount_point = _USUAL_MOUNT if root.is_relative_to(_USUAL_MOUNT) else root
            mount_point.mkdir(parents=True, exist_ok=True)
            _mount_bpffs(mount_point)
            _warn_of_private_mounts(mount_point)
            if mount_point == root:
                (root / _OWN_MOUNT).mkdir(mode=0o700)
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise PlaneError(
            f"no BPF file system for --pin-root {root}, and none can be mounted ({error.strerror}): "
            "run as root, or `mount -t bpf bpf /sys/fs/bpf` beforehand"
        ) from error


class Mount(NamedTuple):
    """Where a file system is mounted, and its type."""

    point: Path
    kind: str


def mounts() -> list[Mount]:
    """All of this process's, in the order of mounting (proc(5), mountinfo)."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, tail = line.partition(" - ")
        point = Path(fields.split(" ")[4].encode().decode("unicode_escape"))
        found.append(Mount(point, tail.split(" ")[0]))
    return found


def filesystem_of(path: Path) -> str:
    """The type of the file system that holds `path`, whether or not it is there yet."""
    best, kind = -1, ""
    for mount in mounts():
        # A later mount covers an earlier one.
        if path.is_relative_to(mount.point) and len(mount.point.parts) >= best:
            best, kind = len(mount.point.parts), mount.kind
    return kind


def _mount_bpffs(point: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"bpf", os.fsencode(point), b"bpf", 0, b"mode=0700") != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    log.info("mounted a BPF file system on %s", point)


def _unmount(point: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(point), _MNT_DETACH) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(point))


def _warn_of_private_mounts(point: Path) -> None:
    try:
        private = Path("/proc/self/ns/mnt").readlink() != Path("/proc/1/ns/mnt").readlink()
    except OSError:
        return
    if private:
        log.warning(
            "the BPF file system on %s is in this process's own mount namespace: what is pinned goes when "
            "that does. Mount it outside, and share it, for traffic to go on without this process",
            point,
        )
